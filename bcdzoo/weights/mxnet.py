"""MXNet's parameter files (``.params``, lists of NDArrays), read without MXNet.

Little endian: uint64 0x112, uint64 reserved, uint64 number of arrays; then the arrays, the uint64 number of names, and
the names, each a uint64 length and bytes. An array is uint32 0xF993FAC9, int32 0 (it is dense) and uint32 dimensions,
or uint32 0xF993FAC8 and uint32 dimensions, each with int64 lengths, or the oldest form, uint32 dimensions with uint32
lengths; then int32 device, int32 its number, int32 type, and the data (src/ndarray/ndarray.cc of MXNet).
"""

import struct
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from bcdzoo.errors import BcdzooError
from bcdzoo.files import open_regular
from bcdzoo.text import printable

MAGIC = struct.pack("<Q", 0x112)
_DENSE, _SIZED = 0xF993FAC9, 0xF993FAC8
_TYPES = ("<f4", "<f8", "<f2", "u1", "<i4", "i1", "<i8")
_WORDS = 1
"""The type of BMXNet's packed words, which MXNet calls float64: as integers their bits stay what they are."""
_MOST_ARRAYS, _MOST_DIMENSIONS, _LONGEST_NAME = 20_000, 8, 500


def load_params(path: Path) -> dict[str, Tensor]:
    """The arrays of a file by name (``arg:`` and ``aux:`` and the parameter's); packed words as int64.

    Raises:
        BcdzooError: It is damaged, or its arrays are sparse or of an unknown type.
    """
    with open_regular(path) as file:
        try:
            return _Reader(file, path.stat().st_size).arrays()
        except (struct.error, UnicodeError, ValueError) as error:
            reason = printable(error, 200)
            raise BcdzooError(f"{path} is a damaged MXNet parameter file ({reason}); fetch it again") from None


class _Reader:
    """Reads from a file of a known size, and no more than there is."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.left = file, size

    def arrays(self) -> dict[str, Tensor]:
        """All that is in the file."""
        self.values("QQ")
        tensors = [self.array() for _ in range(self.number("Q", _MOST_ARRAYS, "arrays"))]
        names = [
            self.take(self.number("Q", _LONGEST_NAME, "characters of a name")).decode()
            for _ in range(self.number("Q", _MOST_ARRAYS, "names"))
        ]
        if len(names) != len(tensors) or len(set(names)) != len(names):
            raise ValueError(f"{len(tensors)} arrays have {len(set(names))} names")
        if self.left:
            raise ValueError(f"{self.left} bytes are left over")
        return dict(zip(names, tensors, strict=True))

    def array(self) -> Tensor:
        """One array."""
        magic = self.number("I")
        if magic == _DENSE:
            if self.number("i"):
                raise ValueError("an array is sparse")
            shape = self.shape(self.number("I", _MOST_DIMENSIONS, "dimensions"), "q")
        elif magic == _SIZED:
            shape = self.shape(self.number("I", _MOST_DIMENSIONS, "dimensions"), "q")
        elif magic <= _MOST_DIMENSIONS:
            shape = self.shape(magic, "I")
        else:
            raise ValueError(f"an array begins with {magic:#x}")
        *_, code = self.values("iii")
        if not 0 <= code < len(_TYPES):
            raise ValueError(f"an array is of type {code}")
        dtype = np.dtype("<i8" if code == _WORDS else _TYPES[code])
        numbers = np.frombuffer(self.take(dtype.itemsize * int(np.prod(shape, dtype=object))), dtype)
        return torch.from_numpy(numbers.reshape(shape).copy())

    def shape(self, dimensions: int, kind: str) -> tuple[int, ...]:
        """Lengths, none of them below 0."""
        shape = self.values(kind * dimensions)
        if any(length < 0 for length in shape):
            raise ValueError(f"an array has the shape {shape}")
        return shape

    def number(self, kind: str, most: int | None = None, what: str = "") -> int:
        """One integer, at most ``most``."""
        (number,) = self.values(kind)
        if most is not None and not 0 <= number <= most:
            raise ValueError(f"{number} {what}")
        return int(number)

    def values(self, kinds: str) -> tuple[Any, ...]:
        """Some integers."""
        return struct.unpack(f"<{kinds}", self.take(struct.calcsize(f"<{kinds}")))

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if size > self.left:
            raise ValueError("it ends too soon")
        self.left -= size
        content = self.file.read(size)
        if len(content) != size:
            raise ValueError("it ends too soon")
        return content
