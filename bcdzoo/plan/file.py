r"""The file of a plan, ``net.bcz``: its layout byte by byte, its writer and its reader.

Numbers are little-endian; u32 and u64 are unsigned, f64 is a float of 64 bits. A *text* is a u32, its length in bytes,
at most 65,536, and UTF-8 without a zero byte. A *list* is a u32, its length, and its items. A *table* is a list whose
items begin with their name, a text; no two names are equal, and they ascend: shorter ones first, those of equal length
by their bytes. Nothing lies between one thing and the next, so that a plan has exactly one file.

======  ========  ====================================================================================================
byte    type      header
======  ========  ====================================================================================================
0       8 bytes   ``89 42 43 5a 0d 0a 1a 0a``
8       u32       version of this layout, 1
12      u32       0
16      u64       size of the file, at most 2^30
24      u64       where the constants begin: the first multiple of 64 at or behind the end of the description
32      32 bytes  SHA-256 of all bytes from 64 on
======  ========  ====================================================================================================

From byte 64 on lies the description::

    u32 u32 u32     channels, height and width of an image
    text            name of the network
    text            preprocessing of the images, every value of it (``Preprocess.spec``); empty if unknown
    table           provenance: name, text
    list            class names, a text each: one a logit, or none
    list            operations, 1 to 65,536, in sequence:
        text            kind, a key of bcdzoo.plan.operations.KINDS
        text            name: the layer that it comes from
        table           inputs: role, u32 number of a value; 0 are the images, i what operation i - 1 gives
        table           fields: name, u32 tag, and by the tag
                          1  u32, a whole number
                          2  list of u32, at most 8
                          3  f64
                          4  text, a word
                          5  list of text, at most 8
        table           constants: name, and
                            u32     1 for float32, 2 for uint64
                            list    sizes of 1 to 4 dimensions, a u32 each, at most 2^24; the last one is contiguous
                            u64     where it lies, counted from where the constants begin

Then zero bytes up to where the constants begin, and the constants: in the sequence of the description, without
overlap, each at the first multiple of 64 that is free, zero bytes between them. The file ends with the last one.

The reader allocates a file's size, and Python's objects for the description: :data:`MEMORY_FACTOR` times its size at
most. A file selects operations and their sizes, nothing else; no name in it is ever imported, opened or run.
"""

import hashlib
import math
import os
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bcdzoo.errors import BcdzooError
from bcdzoo.files import atomic_write, open_regular
from bcdzoo.plan.bounds import check_bounds
from bcdzoo.plan.operations import LARGEST_SIZE, Array, Number, Operation, PlanError, require
from bcdzoo.plan.plan import MOST_OPERATIONS, Plan
from bcdzoo.seal import DamagedError
from bcdzoo.text import as_utf8, printable

VERSION = 1
LARGEST_FILE = 1 << 30
MEMORY_FACTOR = 32
"""Largest ratio of the memory that reading takes to the size of the file, beyond 1 MiB."""

_MAGIC = b"\x89BCZ\r\n\x1a\n"
_HEADER = struct.Struct("<8sIIQQ32s")
_U32, _U64, _F64 = struct.Struct("<I"), struct.Struct("<Q"), struct.Struct("<d")
_ALIGNMENT = 64
_LONGEST_TEXT = 1 << 16
_MOST_ITEMS = 8  # of a tuple in a field
_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("<f4"), 2: np.dtype("<u8")}

T = TypeVar("T")


def write_plan(path: Path, plan: Plan) -> None:
    """Write a plan to a file, atomically; the same plan gives the same bytes.

    Raises:
        BcdzooError: The plan is wrong or too large, so that it could not be read again.
        OSError: The folder cannot be made or written to.
    """
    try:
        check_bounds(plan)
        content = encode(plan)
        decode(np.frombuffer(content, np.uint8))
    except PlanError as error:
        raise BcdzooError(f"cannot write {path}: {printable(error, 500)}") from None
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


def read_plan(path: Path, check_hash: bool = True) -> Plan:
    """Read a plan and check all of it.

    Args:
        path: File that :func:`write_plan` wrote.
        check_hash: Whether to compare the content with its hash.

    Returns:
        The plan; its constants cannot be written to and share one buffer, each at a multiple of 64 bytes.

    Raises:
        DamagedError: The content does not match its hash or its size.
        BcdzooError: There is no such file, it cannot be read, or it is no plan.
    """
    try:
        return decode(_content_of(path), check_hash)
    except FileNotFoundError:
        raise BcdzooError(f"no file {path}") from None
    except OSError as error:
        raise BcdzooError(f"cannot read {path}: {error.strerror}") from None
    except DamagedError as error:
        raise DamagedError(f"{path} is damaged: {error}; make it again with `bcdzoo export`") from None
    except PlanError as error:
        what = f"{path} cannot be used as a plan: {printable(error, 500)}"
        raise BcdzooError(f"{what}; make it again with `bcdzoo export`") from None


def _content_of(path: Path) -> Array:
    """A file's content, in memory at a multiple of 64; a file whose header is wrong is not read any further."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        _constants_begin(file.read(_HEADER.size), size)
        file.seek(0)
        room = np.empty(size + _ALIGNMENT, np.uint8)
        start = -room.ctypes.data % _ALIGNMENT
        content: Array = room[start : start + size]
        if file.readinto(content.data) != size:
            raise DamagedError("it was changed while it was being read")
    content.flags.writeable = False
    return content


def _constants_begin(header: bytes, size: int) -> int:
    """Check a header against the size of its file, and return where the constants begin."""
    require(len(header) == _HEADER.size and header.startswith(_MAGIC), "it is not a plan file")
    _, version, zero, stated, begin, _ = _HEADER.unpack(header)
    require(version == VERSION, f"its format is version {version}, and this bcdzoo reads version {VERSION}")
    if stated != size:
        raise DamagedError(f"it has {size} of {stated} bytes")
    require(size <= LARGEST_FILE, f"it is larger than {LARGEST_FILE} bytes")
    require(zero == 0 and begin % _ALIGNMENT == 0 and _HEADER.size < begin <= size, "its header is wrong")
    return int(begin)


def decode(content: Array, check_hash: bool = True) -> Plan:
    """Return the plan in the content of a file.

    Args:
        content: Bytes, as uint8; the plan's constants are views of it.
        check_hash: Whether to compare the content with its hash.

    Raises:
        DamagedError: The content does not match its hash or its size.
        PlanError: It is no plan, or one that asks for too much.
    """
    header = content[: _HEADER.size].tobytes()
    begin = _constants_begin(header, len(content))
    if check_hash and hashlib.sha256(content[_HEADER.size :].data).digest() != header[-32:]:
        raise DamagedError("its content does not match its hash")
    plan = _Reader(content, begin).plan()
    shapes = check_bounds(plan)
    require(len(plan.class_names) in (0, shapes[-1][0]), "there is not one class name for each logit")
    return plan


class _Reader:
    """Reads one thing after the other, each checked before it is used."""

    def __init__(self, content: Array, begin: int) -> None:
        self._description = content[:begin].tobytes()
        self._at, self._end = _HEADER.size, begin
        self._constants = content[begin:].data
        self._used = 0

    def plan(self) -> Plan:
        image = (self._u32(), self._u32(), self._u32())
        model, preprocess = self._text(), self._text()
        provenance = self._table(self._text)
        class_names = self._list(self._text)
        operations = self._list(self._operation, MOST_OPERATIONS)
        padding = self._take(-self._at % _ALIGNMENT)
        if self._at < self._end or any(padding):
            raise self._error("the description does not end where the constants begin")
        if self._used < len(self._constants):
            raise self._error("the file does not end with its last constant")
        return Plan(image, operations, model, preprocess, class_names, provenance)

    def _operation(self) -> Operation:
        kind, name = self._text(), self._text()
        inputs = self._table(self._u32)
        return Operation(kind, inputs, self._table(self._field), self._table(self._constant), name)

    def _field(self) -> Number:
        tag = self._u32()
        if tag == 1:
            return self._u32()
        if tag == 2:
            return self._numbers(_MOST_ITEMS)
        if tag == 3:
            return float(_F64.unpack(self._take(8))[0])
        if tag == 4:
            return self._text()
        if tag == 5:
            return self._list(self._text, _MOST_ITEMS)
        raise self._error(f"there is no type {tag} of fields")

    def _constant(self) -> Array:
        tag, shape, start = self._u32(), self._numbers(4), _U64.unpack(self._take(8))[0]
        if tag not in _DTYPES:
            raise self._error(f"there is no type {tag} of constants")
        if not all(1 <= size <= LARGEST_SIZE for size in shape):
            raise self._error("a constant is empty or too large")
        gap, end = -self._used % _ALIGNMENT, start + math.prod(shape) * _DTYPES[tag].itemsize
        if start != self._used + gap or self._constants[self._used : start] != bytes(gap):
            raise self._error("a constant is not where the one before it ends")
        if end > len(self._constants):
            raise self._error("a constant ends behind the file")
        self._used = end
        return np.ndarray(shape, _DTYPES[tag], self._constants, start)

    def _table(self, value: Callable[[], T]) -> dict[str, T]:
        entries: dict[str, T] = {}
        before = (-1, "")
        for _ in range(self._length()):
            name = self._text()
            if before >= (before := _order(name)):
                raise self._error("names do not ascend")
            entries[name] = value()
        return entries

    def _list(self, item: Callable[[], T], most: int = LARGEST_FILE) -> tuple[T, ...]:
        return tuple([item() for _ in range(self._length(most))])

    def _length(self, most: int = LARGEST_FILE) -> int:
        length = self._u32()
        if length > most:
            raise self._error(f"there are {length} items, and at most {most} are allowed")
        if 4 * length > self._end - self._at:  # no item is smaller
            raise self._error("a list ends behind the description")
        return length

    def _text(self) -> str:
        length = self._u32()
        if length > _LONGEST_TEXT:
            raise self._error(f"a text has {length} bytes, and at most {_LONGEST_TEXT} are allowed")
        encoded = self._take(length)
        try:
            text = encoded.decode()
        except UnicodeDecodeError:
            raise self._error("a text is not UTF-8") from None
        if "\0" in text:
            raise self._error("a text has a zero byte")
        return text

    def _u32(self) -> int:
        start, self._at = self._at, self._at + 4
        if self._at > self._end:
            raise self._error("the description ends too early")
        number: int = _U32.unpack_from(self._description, start)[0]
        return number

    def _numbers(self, most: int) -> tuple[int, ...]:
        length = self._length(most)
        return struct.unpack(f"<{length}I", self._take(4 * length))

    def _take(self, size: int) -> bytes:
        start, self._at = self._at, self._at + size
        if self._at > self._end:
            raise self._error("the description ends too early")
        return self._description[start : self._at]

    def _error(self, what: str) -> PlanError:
        return PlanError(f"{what} (before byte {self._at})")


def encode(plan: Plan) -> bytes:
    """Return the content of a plan's file, without checking the plan."""
    constants = bytearray()

    def constant(array: Array) -> bytes:
        tag = 2 if array.dtype.kind == "u" else 1
        constants.extend(bytes(-len(constants) % _ALIGNMENT))
        start = len(constants)
        constants.extend(array.astype(_DTYPES[tag], order="C").tobytes())
        return _u32(tag) + _list(map(_u32, array.shape)) + _U64.pack(start)

    def operation(one: Operation) -> bytes:
        tables = _table(one.inputs, _u32) + _table(one.fields, _field) + _table(one.constants, constant)
        return _text(one.kind) + _text(one.name) + tables

    description = b"".join(map(_u32, plan.input_shape)) + _text(plan.model) + _text(plan.preprocess)
    description += _table({as_utf8(key): value for key, value in plan.provenance.items()}, _text)
    description += _list(map(_text, plan.class_names))
    description += _list(map(operation, plan.operations))
    content = description + bytes(-len(description) % _ALIGNMENT)
    begin = _HEADER.size + len(content)
    content += constants
    size = _HEADER.size + len(content)
    return _HEADER.pack(_MAGIC, VERSION, 0, size, begin, hashlib.sha256(content).digest()) + content


def _field(value: Number) -> bytes:
    if isinstance(value, int):
        return _u32(1) + _u32(value)
    if isinstance(value, float):
        return _u32(3) + _F64.pack(value)
    if isinstance(value, str):
        return _u32(4) + _text(value)
    if value and isinstance(value[0], str):
        return _u32(5) + _list(map(_text, value))
    return _u32(2) + _list(map(_u32, value))  # type: ignore[arg-type]


def _table(entries: Mapping[str, T], item: Callable[[T], bytes]) -> bytes:
    return _list(_text(name) + item(entries[name]) for name in sorted(entries, key=_order))


def _list(items: Any) -> bytes:
    parts = list(items)
    return _u32(len(parts)) + b"".join(parts)


def _text(text: str) -> bytes:
    encoded = as_utf8(text).encode()
    return _u32(len(encoded)) + encoded


def _u32(number: int) -> bytes:
    return _U32.pack(number)


def _order(name: str) -> tuple[int, str]:
    """Where a name stands in a table; x2 comes before x10."""
    return len(name.encode()), name
