"""Decoded images for several networks at once; each image is read and decoded once."""

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
"""Indices of the readable images; for each geometry their pixels, (n, 3, H, W); and (index, reason) of those
that could not be read."""


class Pixels(Dataset[tuple[int, list[Tensor] | str]]):
    """Images by index, as pixels in each geometry, or the reason why an image cannot be read.

    The reason is returned, because an exception would end a worker process.

    Args:
        images: Set of images.
        geometries: Geometries of the networks' preprocessing.
        prepared: Pixels that ``bcdzoo prepare`` has written, by geometry.
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
            image = self.images.rgb(index)
            with self.images.named(index):
                return index, [geometry.pixels(image) for geometry in self.geometries]
        except BcdzooError as error:
            return index, str(error)


def loader(pixels: Pixels, batches: Sequence[Sequence[int]], workers: int, pin_memory: bool = False) -> Iterator[Batch]:
    """Read batches of images in the given order, in worker processes if there are any.

    Args:
        pixels: Images to read.
        batches: Indices of each batch.
        workers: Number of processes; 0 reads in this one.
        pin_memory: Whether to pin memory, for asynchronous copies to a GPU.
    """
    return started(
        DataLoader(
            pixels,
            batch_sampler=map(list, batches),
            num_workers=workers,
            collate_fn=_collate,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # keeps the caller's random state
            worker_init_fn=interruptible,
        )
    )


def _collate(items: list[tuple[int, list[Tensor] | str]]) -> Batch:
    good = [(index, crops) for index, crops in items if not isinstance(crops, str)]
    bad = [(index, reason) for index, reason in items if isinstance(reason, str)]
    stacked = [torch.stack(crops) for crops in zip(*(crops for _, crops in good), strict=True)]
    return [index for index, _ in good], stacked, bad
