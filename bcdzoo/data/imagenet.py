"""Images with labels, from every layout that ImageNet's validation set is kept in.

A layout is one function that lists :class:`~bcdzoo.data.samples.Sample`; everything behind it (decoding, preprocessing,
order, fingerprint) is the same for all.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from bcdzoo.data.classes import official_number, validation_labels
from bcdzoo.data.decode import decode
from bcdzoo.data.hub import PREFIX
from bcdzoo.data.labels import BACKGROUND, FROM_GROUND_TRUTH, FROM_NUMBERS, FROM_WNIDS, LabelError
from bcdzoo.data.layouts import LAYOUTS, TABLES, detect
from bcdzoo.data.names import IMAGE_EXTENSIONS, shown
from bcdzoo.data.preprocess import PRESETS, Preprocess
from bcdzoo.data.samples import Listing, Sample
from bcdzoo.errors import BcdzooError
from bcdzoo.text import printable

__all__ = ["ImageSet", "Sample", "decode", "open_dataset"]

DEMO = Path(__file__).parent / "demo"
"""2,000 test images of Fashion-MNIST, MIT licence."""


@dataclass(frozen=True)
class ImageSet(Dataset[tuple[Tensor, int, str]]):
    """Images in order of their ids, each as (float32 of shape (3, H, W), class index, id).

    Attributes:
        samples: What there is, sorted by id.
        name: ``imagenet`` when the labels are wnids or those of the shipped ground truth, ``imagenet-v2`` for images
            of other names in folders 0 to 999, else the path's name.
        layout: One of :data:`bcdzoo.data.layouts.LAYOUTS`.
        labels_from: Where the labels come from, in words.
        preprocess: Applied to each decoded image.
        class_names: Name of each class index, as far as the data says so; else empty.
        notes: What was passed over or chosen, in words.
        label_offset: What was added to the data's labels because somebody said so; None if nobody did.
    """

    samples: list[Sample]
    name: str
    layout: str
    labels_from: str
    preprocess: Preprocess = PRESETS["imagenet"]
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    label_offset: int | None = None

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int, str]:
        sample = self.samples[index]
        return self.preprocess(self.image(index)), sample.label, sample.id

    def image(self, index: int) -> Image.Image:
        """Read and decode one image.

        Raises:
            BcdzooError: It cannot be read.
        """
        with self.named(index):
            return decode(self.samples[index].read())

    @contextmanager
    def named(self, index: int) -> Iterator[None]:
        """Whatever goes wrong inside is the fault of one image.

        Raises:
            BcdzooError: It went wrong.
        """
        try:
            yield
        except Exception as error:  # on a broken file Pillow's decoders raise what they like: OSError, SyntaxError, …
            reason = "not an image" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
            raise BcdzooError(
                f"cannot read image {shown(self.samples[index].id)}: {printable(reason or type(error).__name__, 300)}; "
                "replace it, or leave such files out with --skip-bad"
            ) from error

    @property
    def classes(self) -> int:
        """Number of classes that are present."""
        return len({sample.label for sample in self.samples})

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all ids, labels and file sizes: cheap, and equal for the same images in another layout."""
        lines = (f"{sample.id}\0{sample.label}\0{sample.size}\n" for sample in self.samples)
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def open_dataset(
    path: str | os.PathLike[str],
    classes: int = 1000,
    layout: str | None = None,
    label_offset: int | None = None,
    columns: tuple[str, str] | None = None,
) -> ImageSet:
    """List the images of a dataset; none is decoded yet.

    Args:
        path: A folder, an archive, a file or a name in one of :data:`bcdzoo.data.layouts.LAYOUTS`; see
            docs/evaluating.md. ``demo`` for the images in this package, where there is no such file.
        classes: Outputs of the network: 1000 means ImageNet's classes.
        layout: Its name; by default it is detected.
        label_offset: Added to every label of the data: -1 where they begin with 1, 1 for a network whose output 0 is a
            background class. None where nobody says so: labels that look shifted are then refused.
        columns: Names of a table's columns of images and of labels.

    Raises:
        BcdzooError: Nothing there, no images, another layout, damaged data, or a label that is not known.
    """
    path = DEMO if str(path) == DEMO.name and not Path(path).exists() else Path(path)
    if layout is not None and layout not in LAYOUTS:
        raise BcdzooError(f"no layout named {layout!r}: use one of {', '.join(LAYOUTS)}")
    try:
        layout = layout or detect(path)
        if columns and layout not in TABLES:
            raise BcdzooError(f"{path} has no columns: it is read as {layout}, and only {', '.join(TABLES)} have some")
        listing: Listing = LAYOUTS[layout](path, classes - (label_offset or 0), *([columns] if columns else []))
    except OSError as error:
        raise BcdzooError(f"cannot read {shown(error.filename or path)}: {error.strerror or error}") from error
    except LabelError as error:
        raise BcdzooError(
            f"{error}; {BACKGROUND}" if classes == 1001 and label_offset is None else str(error)
        ) from error
    if not listing.samples:
        looked = f"looked for files ending in {' '.join(IMAGE_EXTENSIONS)}"
        raise BcdzooError(f"no images in {path}: {'; '.join((*listing.notes, looked))}")
    samples = sorted(listing.samples, key=lambda sample: sample.id)
    for first, second in pairwise(samples):
        if first.id == second.id:
            places = " and ".join(map(shown, sorted({first.read.path, second.read.path})))
            raise BcdzooError(f"{path}: {shown(first.id)} is there twice (in {places}); remove one")
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
        samples, name, layout, labels_from, class_names=class_names, notes=listing.notes, label_offset=label_offset
    )


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
