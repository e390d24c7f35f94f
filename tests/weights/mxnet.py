"""MXNet's parameter files, written; and BMXNet's way to pack the bits of a layer."""

import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
CODES = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4, "int8": 5, "int64": 6}
DENSE, SIZED, OLDEST = "dense", "sized", "oldest"


def array(values: Array, form: str = DENSE, code: int | None = None) -> bytes:
    """One array in one of MXNet's three forms."""
    shape = values.shape
    if form == DENSE:
        start = struct.pack(f"<IiI{len(shape)}q", 0xF993FAC9, 0, len(shape), *shape)
    elif form == SIZED:
        start = struct.pack(f"<II{len(shape)}q", 0xF993FAC8, len(shape), *shape)
    else:
        start = struct.pack(f"<I{len(shape)}I", len(shape), *shape)
    code = CODES[values.dtype.name] if code is None else code
    return start + struct.pack("<iii", 1, 0, code) + values.astype(values.dtype.newbyteorder("<")).tobytes()


def names(named: Any) -> bytes:
    encoded = [name if isinstance(name, bytes) else name.encode() for name in named]
    return struct.pack("<Q", len(encoded)) + b"".join(struct.pack("<Q", len(name)) + name for name in encoded)


def file(arrays: Mapping[str, bytes | Array]) -> bytes:
    """A whole file of arrays, or of what stands for one."""
    written = [content if isinstance(content, bytes) else array(content) for content in arrays.values()]
    return struct.pack("<QQQ", 0x112, 0, len(written)) + b"".join(written) + names(arrays)


def words(signs: Array, linear: bool = False) -> Array:
    """The words of a layer's ±1 weights, (out, in, kernel, kernel), as MXNet takes them for float64."""
    outputs = len(signs)
    bits = (signs > 0).reshape(outputs, -1) if linear else (signs > 0).reshape(1, -1)
    packed = np.zeros((len(bits), bits.shape[1] // 64), np.uint64)
    for place in range(64):
        packed |= bits[:, place::64].astype(np.uint64) << np.uint64(place)
    return (packed.T if linear else packed).reshape(-1).view(np.float64)
