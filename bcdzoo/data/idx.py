"""Layout ``idx``: the four files of MNIST and its successors (Fashion-MNIST, KMNIST, EMNIST …).

A file is a big-endian header (two zero bytes, the type 8 for bytes, the number of dimensions, then each dimension in
four bytes) and the data; http://yann.lecun.com/exdb/mnist. It may be compressed with gzip.
"""

import gzip
import math
import zlib
from io import BufferedReader
from pathlib import Path
from typing import NamedTuple

from bcdzoo.data.samples import Listing, Sample
from bcdzoo.errors import BcdzooError
from bcdzoo.files import open_regular

TRAIN, TEST = "train", "t10k"

_MOST_IMAGES = 1 << 20
_LARGEST = 640 << 20  # bytes; all are held in memory, and EMNIST's largest file has 522 MiB


class IdxImage(NamedTuple):
    """Reader of an image in an idx file, as a PGM file.

    Attributes:
        path: Path of the idx file.
        header: Header of the PGM file.
        pixels: Grey levels, row by row.
    """

    path: str
    header: bytes
    pixels: bytes

    def __call__(self) -> bytes:
        """Return the PGM file."""
        return self.header + self.pixels


def has_idx(folder: Path, split: str) -> bool:
    """Whether a folder holds the images of a split, ``train`` or ``t10k``."""
    return _find(folder, f"{split}-images-idx3-ubyte") is not None


def idx_files(path: Path, classes: int) -> Listing:
    """List the test images of a folder with ``t10k-images-idx3-ubyte(.gz)`` and ``t10k-labels-idx1-ubyte(.gz)``."""
    return read_split(path, TEST)


def read_split(folder: Path, split: str) -> Listing:
    """List the images of one split; an id is the split and the index in its file.

    Args:
        folder: Folder of the files.
        split: Name of the split, ``train`` or ``t10k``.

    Raises:
        BcdzooError: A file is missing, or is not what its name says.
        OSError: A file cannot be read.
    """
    path, shape, pixels = _read(folder, f"{split}-images-idx3-ubyte", 3)
    labels_path, (labels_count,), labels = _read(folder, f"{split}-labels-idx1-ubyte", 1)
    count, rows, columns = shape
    if labels_count != count:
        raise BcdzooError(f"{path} has {count} images, but {labels_path} {labels_count} labels")
    if count and not rows * columns:
        raise BcdzooError(f"{path} has images of {columns}×{rows} pixels")
    header, size = b"P5 %d %d 255\n" % (columns, rows), rows * columns
    samples = []
    for index, label in enumerate(labels):
        image = IdxImage(str(path), header, pixels[index * size : (index + 1) * size])
        samples.append(Sample(f"{split}/{index:05d}", label, len(header) + size, image))
    return Listing(samples, "the idx file")


def _find(folder: Path, name: str) -> Path | None:
    candidates = (folder / name, folder / f"{name}.gz")
    return next((path for path in candidates if path.is_file()), None)


def _read(folder: Path, name: str, dimensions: int) -> tuple[Path, list[int], bytes]:
    path = _find(folder, name)
    if path is None:
        raise BcdzooError(f"{folder} has neither {name} nor {name}.gz")
    with open_regular(path) as stored:
        file: gzip.GzipFile | BufferedReader = gzip.GzipFile(fileobj=stored) if path.suffix == ".gz" else stored
        try:
            header = file.read(4 + 4 * dimensions)
            shape = [int.from_bytes(header[at : at + 4]) for at in range(4, len(header), 4)]
            size = math.prod(shape)
            if header[:4] != bytes([0, 0, 8, dimensions]) or len(shape) != dimensions:
                raise BcdzooError(
                    f"{path} is not an idx file of bytes with {dimensions} dimensions, or it is cut short"
                )
            if shape[0] > _MOST_IMAGES or size > _LARGEST:
                raise BcdzooError(
                    f"{path} says it has {'×'.join(map(str, shape))} bytes; at most {_MOST_IMAGES} images with a total "
                    f"of {_LARGEST >> 20} MiB are read"
                )
            content = file.read(size + 1)  # one more than there should be
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BcdzooError(f"{path} is damaged: {error}") from error
    if len(content) != size:
        raise BcdzooError(f"{path} is not an idx file of bytes with {dimensions} dimensions, or it is cut short")
    return path, shape, content
