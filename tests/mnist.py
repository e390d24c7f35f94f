"""MNIST's test images where they are at hand, as bytes or as a data set of the first of them."""

import gzip
import struct
from pathlib import Path

import numpy as np
import numpy.typing as npt


def pixels(real_data: Path, n: int) -> npt.NDArray[np.uint8]:
    """The first n images, (n, 28, 28)."""
    with gzip.open(real_data / "mnist" / "t10k-images-idx3-ubyte.gz") as file:
        file.seek(16)
        return np.frombuffer(file.read(n * 28 * 28), np.uint8).reshape(n, 28, 28)


def beginning(real_data: Path, n: int, folder: Path) -> Path:
    """A data set of the first n images."""
    with gzip.open(real_data / "mnist" / "t10k-labels-idx1-ubyte.gz") as file:
        labels = file.read()[8 : 8 + n]
    folder.mkdir()
    header = struct.pack(">IIII", 0x803, n, 28, 28)
    (folder / "t10k-images-idx3-ubyte").write_bytes(header + pixels(real_data, n).tobytes())
    (folder / "t10k-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, n) + labels)
    return folder
