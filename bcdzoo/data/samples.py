"""What every layout speaks in: an image that has not been read yet."""

import os
from typing import NamedTuple, Protocol

from bcdzoo.files import regular_handle

_LARGEST = 1 << 29  # bytes of an encoded image: more than the largest that is decoded takes uncompressed


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
            BcdzooError: The file is no regular file any more.
            OSError: It is gone, shorter than it was, or too large for an image.
        """
        if self.size > _LARGEST:
            raise OSError(f"{self.size / 1e9:.1f} GB are too many for one image")
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
        notes: What was passed over or chosen, in words.
    """

    samples: list[Sample]
    labels_from: str
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
