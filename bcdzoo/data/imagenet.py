"""Images with labels, in any layout of ImageNet's validation set.

A layout is one function that lists :class:`~bcdzoo.data.samples.Sample`; the rest (decoding, preprocessing,
order, fingerprint) is the same for all.
"""

import hashlib
import os
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from bcdzoo.data.classes import official_number, validation_labels
from bcdzoo.data.decode import decode, naming, require_decoder, rgb
from bcdzoo.data.hub import PREFIX
from bcdzoo.data.labels import BACKGROUND, FROM_GROUND_TRUTH, FROM_NUMBERS, FROM_WNIDS, LabelError
from bcdzoo.data.layouts import LAYOUTS, TABLES, detect
from bcdzoo.data.names import ARCHIVES_SKIPPED, IMAGE_EXTENSIONS, several_splits, shown, some, split_in
from bcdzoo.data.preprocess import DECODERS, PRESETS, Preprocess
from bcdzoo.data.samples import Listing, Sample
from bcdzoo.errors import BcdzooError

__all__ = ["ImageSet", "Sample", "decode", "open_dataset"]

DEMO = Path(__file__).parent / "demo"
"""2,000 test images of Fashion-MNIST, MIT licence."""


@dataclass(frozen=True)
class ImageSet(Dataset[tuple[Tensor, int, str]]):
    """Images in order of their ids, each as (float32 of shape (3, H, W), class index, id).

    Attributes:
        samples: Images, sorted by id.
        name: ``imagenet`` if the labels are wnids or those of the shipped ground truth, ``imagenet-v2`` for images
            with other names in folders 0 to 999, else the path's name.
        layout: Name in :data:`bcdzoo.data.layouts.LAYOUTS`.
        labels_from: Description of where the labels come from.
        preprocess: Preprocessing of each decoded image.
        class_names: Name of each class index, if the data states them; else empty.
        notes: Notes on what was skipped or chosen.
        label_offset: Offset that the user asked to add to the labels; None if unspecified.
        decoder: What decodes them, one of :data:`bcdzoo.data.preprocess.DECODERS`.

    Raises:
        BcdzooError: There is no such decoder.
    """

    samples: list[Sample]
    name: str
    layout: str
    labels_from: str
    preprocess: Preprocess = PRESETS["imagenet"]
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    label_offset: int | None = None
    decoder: str = DECODERS[0]

    def __post_init__(self) -> None:
        require_decoder(self.decoder)

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int, str]:
        sample = self.samples[index]
        return self.preprocess(self.rgb(index)), sample.label, sample.id

    def image(self, index: int) -> Image.Image:
        """Read and decode one image.

        Raises:
            BcdzooError: It cannot be read.
        """
        return Image.fromarray(self.rgb(index))

    def rgb(self, index: int) -> npt.NDArray[np.uint8]:
        """Likewise, as an array of shape (H, W, 3)."""
        with self.named(index):
            return rgb(self.samples[index].read(), self.decoder)

    def named(self, index: int) -> AbstractContextManager[None]:
        """Turn any error inside into one that names the image."""
        return naming(self.samples[index].id)

    @property
    def classes(self) -> int:
        """Number of classes that are present."""
        return len({sample.label for sample in self.samples})

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all ids, labels and file sizes: cheap, and the same in every layout."""
        lines = (f"{sample.id}\0{sample.label}\0{sample.size}\n" for sample in self.samples)
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def open_dataset(
    path: str | os.PathLike[str],
    classes: int = 1000,
    layout: str | None = None,
    label_offset: int | None = None,
    columns: tuple[str, str] | None = None,
    decoder: str = DECODERS[0],
) -> ImageSet:
    """List the images of a dataset; none is decoded yet.

    Args:
        path: Folder, archive, file or name in one of :data:`bcdzoo.data.layouts.LAYOUTS`; see
            docs/evaluating.md. ``demo`` is the images in this package, unless there is such a file.
        classes: Number of outputs of the network; 1000 means ImageNet's classes.
        layout: Name of the layout; detected if omitted.
        label_offset: Offset added to every label: -1 if labels start at 1, 1 for a network whose output 0 is a
            background class. If omitted, labels that look shifted are refused.
        columns: Names of a table's columns of images and labels.
        decoder: What decodes the images, one of :data:`bcdzoo.data.preprocess.DECODERS`.

    Raises:
        BcdzooError: No such path, no images, another layout, damaged data, or an unknown label.
    """
    require_decoder(decoder)
    path = meant_by(path)
    if layout is not None and layout not in LAYOUTS:
        raise BcdzooError(f"no layout named {layout!r}: use one of {', '.join(LAYOUTS)}")
    try:
        layout = layout or detect(path)
        if columns and layout not in TABLES:
            raise BcdzooError(
                f"{path} has no columns: it is read as {layout}, and only {', '.join(TABLES)} have columns"
            )
        listing: Listing = LAYOUTS[layout](path, classes - (label_offset or 0), *([columns] if columns else []))
    except OSError as error:
        raise BcdzooError(f"cannot read {shown(error.filename or path)}: {error.strerror or error}") from error
    except LabelError as error:
        raise BcdzooError(
            f"{error}; {BACKGROUND}" if classes == 1001 and label_offset is None else str(error)
        ) from error
    if not listing.samples:
        looked = f"looked for files ending in {' '.join(IMAGE_EXTENSIONS)}"
        archives = tuple(note for note in listing.notes if ARCHIVES_SKIPPED in note)
        raise BcdzooError(f"no images in {path}: {'; '.join(archives or (*listing.notes, looked))}")
    samples = sorted(listing.samples, key=lambda sample: sample.id)
    for first, second in pairwise(samples):
        if first.id == second.id:
            places = " and ".join(map(shown, sorted({first.read.path, second.read.path})))
            raise BcdzooError(f"{path}: {shown(first.id)} occurs twice (in {places}); remove one")
    notes = listing.notes
    if splits := _splits([sample.id for sample in samples]):
        what = f"images of several splits, as their names say ({some(splits)})"
        if layout != "csv":
            raise BcdzooError(f"{path} has {what}: use those of one of them")
        notes += (f"the file lists {what}",)  # probably on purpose
    name, labels_from, class_names = _name(path, samples, listing.labels_from), listing.labels_from, listing.class_names
    if label_offset:
        class_names = (("",) * label_offset + class_names)[max(-label_offset, 0) :] if class_names else ()
        samples = [sample._replace(label=sample.label + label_offset) for sample in samples]
        labels_from += f", {label_offset:+d}"
        if lost := next((sample for sample in samples if sample.label < 0), None):
            before = lost.label - label_offset
            what = f"{path}: {shown(lost.id)} has label {before}, and --label-offset {label_offset} makes it negative"
            raise BcdzooError(what)
    return ImageSet(
        samples,
        name,
        layout,
        labels_from,
        class_names=class_names,
        notes=notes,
        label_offset=label_offset,
        decoder=decoder,
    )


def meant_by(path: str | os.PathLike[str]) -> Path:
    """Resolve a dataset's path: ``demo`` is in this package, unless there is such a file."""
    return DEMO if str(path) == DEMO.name and not Path(path).exists() else Path(path)


def _splits(ids: list[str]) -> list[str]:
    """Return the images' splits if there are several: by folders at one depth, or by every image's own name."""
    depths: list[set[str]] = []
    for image in ids:
        # An official image's id has no folders, but it belongs to the validation set.
        folders = ["val"] if official_number(image) else image.split("/")[:-1]
        depths += [set() for _ in folders[len(depths) :]]
        for names, folder in zip(depths, folders, strict=False):
            names.add(folder)
    files: set[str] = set()
    for image in ids:
        split = split_in(image.rpartition("/")[2])
        if split is None:
            files.clear()
            break
        files.add(split)
    return next(filter(None, map(several_splits, (*depths, files))), [])


def _name(path: Path, samples: list[Sample], labels_from: str) -> str:
    numbers = [official_number(sample.id) for sample in samples]
    truth = validation_labels().tolist()
    if labels_from in (FROM_WNIDS, FROM_GROUND_TRUTH) or all(
        number is not None and truth[number - 1] == sample.label
        for number, sample in zip(numbers, samples, strict=True)
    ):
        return "imagenet"
    if labels_from == FROM_NUMBERS and not any(numbers) and {sample.label for sample in samples} == set(range(1000)):
        return "imagenet-v2"
    return str(path) if str(path).startswith(PREFIX) else path.resolve().stem
