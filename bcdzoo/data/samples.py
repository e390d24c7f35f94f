"""The common result of all layouts: images that have not been read yet."""

import os
from typing import NamedTuple, Protocol

from bcdzoo.files import regular_handle

_LARGEST = 1 << 29  # bytes of an encoded image; more than the largest accepted image takes uncompressed


class Reader(Protocol):
    """Reader of the bytes of one image; cheap to pickle, because workers get the readers of all images."""

    @property
    def path(self) -> str:
        """The file that holds the image."""

    def __call__(self) -> bytes:
        """Read the image's bytes."""


class FileRange(NamedTuple):
    """Reader of a range of a file: a member of an archive, or a whole file."""

    path: str
    offset: int
    size: int

    def __call__(self) -> bytes:
        """Read the range.

        Raises:
            BcdzooError: The file is no longer a regular file.
            OSError: It is gone, shorter than it was, or too large for an image.
        """
        if self.size > _LARGEST:
            raise OSError(f"{self.size / 1e9:.1f} GB are too much for one image")
        file = regular_handle(self.path)
        try:
            if os.fstat(file).st_size < self.offset + self.size:
                raise OSError(f"{self.path} has become shorter since it was listed")
            content = os.pread(file, self.size, self.offset)
        finally:
            os.close(file)
        if len(content) < self.size:
            raise OSError(f"{self.path} has become shorter since it was listed")
        return content


class Sample(NamedTuple):
    """One image that has not been read yet.

    Attributes:
        id: Name in the dataset; an official name (``ILSVRC2012_val_…``) is the id in every layout.
        label: Class index.
        size: Size of the encoded image in bytes.
        read: Reader of these bytes.
    """

    id: str
    label: int
    size: int
    read: Reader


class Listing(NamedTuple):
    """The images that a layout finds.

    Attributes:
        samples: Images in any order.
        labels_from: Description of where the labels come from.
        class_names: Name of each class index, if the data states them; else empty.
        notes: Notes on what was skipped or chosen.
    """

    samples: list[Sample]
    labels_from: str
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
