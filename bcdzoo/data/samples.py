"""What every layout speaks in: an image that has not been read yet, and how it is named."""

import os
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import NamedTuple, Protocol

from bcdzoo.data.classes import official_number

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's


class Reader(Protocol):
    """Gives the bytes of one image; cheap to pickle, for workers get the readers of all images."""

    @property
    def path(self) -> str:
        """The file that holds the image."""

    def __call__(self) -> bytes:
        """Read them."""


class FileRange(NamedTuple):
    """Reads a range of a file: a member of an archive, or all of a file."""

    path: str
    offset: int
    size: int

    def __call__(self) -> bytes:
        """Read it.

        Raises:
            OSError: The file is gone, or shorter than it was.
        """
        file = os.open(self.path, os.O_RDONLY)
        try:
            content = os.pread(file, self.size, self.offset)
        finally:
            os.close(file)
        if len(content) < self.size:
            raise OSError(f"{self.path} has become shorter since it was listed")
        return content


class Sample(NamedTuple):
    """One image that has not been read yet.

    Attributes:
        id: Its name in the dataset; an official name (``ILSVRC2012_val_…``) is the id in every layout.
        label: Class index.
        size: Bytes of the encoded image.
        read: Gives these bytes.
    """

    id: str
    label: int
    size: int
    read: Reader


class Listing(NamedTuple):
    """What a layout finds.

    Attributes:
        samples: In any order.
        labels_from: Where the labels come from, in words.
        class_names: Name of each class index, as far as the data says so; else empty.
    """

    samples: list[Sample]
    labels_from: str
    class_names: tuple[str, ...] = ()


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image, and not hidden."""
    return name.lower().endswith(IMAGE_EXTENSIONS) and not name.startswith(".")


def image_id(path: str) -> str:
    """The id of an image at a path in its dataset.

    An official name in whatever folder and with whatever ending (``ILSVRC2012_val_00000001_n01751748.png``, as the
    Hugging Face hub writes it) gives the official name, so that layouts that rename the files give the same ids.
    """
    number = official_number(path)
    return path if number is None else f"ILSVRC2012_val_{number:08d}.JPEG"


def relative(path: str) -> str:
    """A member's path in an archive without ``./``, ``//`` or a leading ``/``; it is a name and never a place."""
    return PurePosixPath(path.lstrip("/")).as_posix()


def choose_split(splits: Iterable[str]) -> str | None:
    """The split to evaluate on: ``validation``, else ``test``, else ``train``; None if it is none of these."""
    splits = set(splits)
    return next((split for split in ("validation", "val", "valid", "test", "train") if split in splits), None)


def some(names: Iterable[str]) -> str:
    """The first three names in order, and how many more there are."""
    names = sorted(names)
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest
