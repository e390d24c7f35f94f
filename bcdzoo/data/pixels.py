"""Decoded images for several networks at once, each image read and decoded a single time."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from bcdzoo.data.cache import Prepared
from bcdzoo.data.imagenet import ImageSet
from bcdzoo.data.preprocess import Geometry
from bcdzoo.data.workers import interruptible, started
from bcdzoo.errors import BcdzooError

Batch = tuple[list[int], list[Tensor], list[tuple[int, str]]]
"""Indices of the images that could be read; for each geometry their pixels, (n, 3, H, W); and (index, reason) of those
that could not."""


class Pixels(Dataset[tuple[int, list[Tensor] | str]]):
    """The images by index, as the pixels of each geometry, or for one that cannot be read the reason.

    The reason is returned, for an exception would end a worker process.

    Args:
        images: The set.
        geometries: Of the networks' preprocessing.
        prepared: Geometries whose pixels ``bcdzoo prepare`` has written; they are read from there.
    """

    def __init__(
        self, images: ImageSet, geometries: Sequence[Geometry], prepared: Mapping[Geometry, Prepared] | None = None
    ) -> None:
        self.images = images
        self.geometries = geometries
        self.prepared = prepared or {}

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[int, list[Tensor] | str]:
        try:
            if all(geometry in self.prepared for geometry in self.geometries):
                return index, [self.prepared[geometry].pixels(index) for geometry in self.geometries]
            image = self.images.image(index)
            with self.images.named(index):
                return index, [geometry.pixels(image) for geometry in self.geometries]
        except BcdzooError as error:
            return index, str(error)


def loader(pixels: Pixels, batches: Sequence[Sequence[int]], workers: int, pin_memory: bool = False) -> Iterator[Batch]:
    """Read batches of images in the given order, in processes of their own if there are workers.

    Args:
        pixels: What to read.
        batches: Indices of each batch.
        workers: Processes; 0 reads in this one.
        pin_memory: For copies to a GPU that need not be waited for.
    """
    return started(
        DataLoader(
            pixels,
            batch_sampler=map(list, batches),
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # leaves the caller's random numbers alone
            worker_init_fn=interruptible,
        )
    )


def _collate(items: list[tuple[int, list[Tensor] | str]]) -> Batch:
    good = [(index, crops) for index, crops in items if not isinstance(crops, str)]
    bad = [(index, reason) for index, reason in items if isinstance(reason, str)]
    stacked = [torch.stack(crops) for crops in zip(*(crops for _, crops in good), strict=True)]
    return [index for index, _ in good], stacked, bad
