"""Images with labels, from every layout that ImageNet's validation set is kept in.

A layout is one function that lists :class:`~bcdzoo.data.samples.Sample`; everything behind it (decoding, preprocessing,
order, fingerprint) is the same for all.
"""

import hashlib
import os
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from bcdzoo.data.classes import official_number, validation_labels
from bcdzoo.data.hub import PREFIX
from bcdzoo.data.labels import FROM_GROUND_TRUTH, FROM_NUMBERS, FROM_WNIDS
from bcdzoo.data.layouts import LAYOUTS, detect
from bcdzoo.data.preprocess import PRESETS, Preprocess
from bcdzoo.data.samples import IMAGE_EXTENSIONS, Sample
from bcdzoo.errors import BcdzooError

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
    """

    samples: list[Sample]
    name: str
    layout: str
    labels_from: str
    preprocess: Preprocess = PRESETS["imagenet"]
    class_names: tuple[str, ...] = ()

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
        sample = self.samples[index]
        try:
            return decode(sample.read())
        except Exception as error:  # on a broken file Pillow's decoders raise what they like: OSError, SyntaxError, …
            reason = "not an image" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
            raise BcdzooError(
                f"cannot read image {sample.id}: {reason}; replace it, or leave such files out with --skip-bad"
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


def open_dataset(path: str | os.PathLike[str], classes: int = 1000, layout: str | None = None) -> ImageSet:
    """List the images of a dataset; none is decoded yet.

    Args:
        path: A folder, an archive, a file or a name in one of :data:`bcdzoo.data.layouts.LAYOUTS`; see
            docs/evaluating.md. ``demo`` for the images in this package, where there is no such file.
        classes: Outputs of the network: 1000 means ImageNet's classes.
        layout: Its name; by default it is detected.

    Raises:
        BcdzooError: Nothing there, no images, another layout, damaged data, or a label that is not known.
    """
    path = DEMO if str(path) == DEMO.name and not Path(path).exists() else Path(path)
    if layout is not None and layout not in LAYOUTS:
        raise BcdzooError(f"no layout named {layout!r}: use one of {', '.join(LAYOUTS)}")
    try:
        layout = layout or detect(path)
        samples, labels_from, class_names = LAYOUTS[layout](path, classes)
    except OSError as error:
        raise BcdzooError(f"cannot read {error.filename or path}: {error.strerror or error}") from error
    if not samples:
        raise BcdzooError(f"no images in {path}: looked for files ending in {' '.join(IMAGE_EXTENSIONS)}")
    samples.sort(key=lambda sample: sample.id)
    for first, second in pairwise(samples):
        if first.id == second.id:
            places = " and ".join(sorted({first.read.path, second.read.path}))
            raise BcdzooError(f"{path}: {first.id} is there twice (in {places}); remove one")
    return ImageSet(samples, _name(path, samples, labels_from), layout, labels_from, class_names=class_names)


def decode(encoded: bytes) -> Image.Image:
    """Decode an image as torchvision's default loader does: to RGB, alpha dropped, EXIF rotation not applied.

    One thing differs: of 16-bit grey the high byte is taken, as Pillow itself does for 16-bit colour; its own
    conversion would clip everything above 255 to white.

    Raises:
        Exception: Whatever Pillow raises on a file that is broken or truncated, or is no image.
    """
    with Image.open(BytesIO(encoded)) as image:
        if image.mode in ("I", "F"):
            raise ValueError("32-bit grey has no defined white; convert it to 8 or 16 bits")
        if image.mode.startswith("I;16"):
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
        return image.convert("RGB")


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
