"""A hash inside stored files, so that damage is noticed when they are read again.

Sealed data is plain: tables, lists, text, numbers and bytes. Its digest does not depend on the file
format, so that one rule serves JSON, safetensors, Parquet and torch's own files; each stores the digest in its
metadata under :data:`SEAL`, and it covers everything else there.
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bcdzoo.errors import BcdzooError
from bcdzoo.files import atomic_write, open_regular

SEAL = "seal"
_LARGEST = 64 << 20


class DamagedError(BcdzooError):
    """Stored data is damaged."""


def digest(content: Any) -> str:
    """Hex SHA-256 of plain data.

    Args:
        content: None, bool, int, float, str, anything with a buffer of bytes, and lists, tuples and tables of these;
            lists and tuples are equivalent, and the order of a table's keys does not matter.

    Raises:
        TypeError: It contains anything else.
    """
    found = hashlib.sha256()
    _feed(found, content)
    return found.hexdigest()


def _feed(found: Any, content: Any) -> None:
    if isinstance(content, Mapping):
        found.update(b"{%d:" % len(content))
        for key in sorted(content, key=lambda key: (type(key).__name__, str(key))):
            _feed(found, key)
            _feed(found, content[key])
    elif isinstance(content, list | tuple):
        found.update(b"[%d:" % len(content))
        for item in content:
            _feed(found, item)
    elif content is None or isinstance(content, bool):
        found.update(repr(content).encode())
    elif isinstance(content, int):
        found.update(b"i%d;" % content)
    elif isinstance(content, float):
        found.update(b"f" + struct.pack("<d", content))
    elif isinstance(content, str):
        text = content.encode("utf-8", "surrogatepass")
        found.update(b"s%d:" % len(text) + text)
    else:
        view = memoryview(content).cast("B")
        found.update(b"b%d:" % len(view))
        found.update(view)


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table as stored in JSON, with its seal."""
    plain: dict[str, Any] = json.loads(json.dumps(record))
    return plain | {SEAL: digest(plain)}


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a table as JSON with its seal, atomically.

    Raises:
        OSError: The folder cannot be made or written to.
    """
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(sealed(record), indent=1) + "\n", encoding="utf-8")


def read_json(path: Path) -> tuple[dict[str, Any], bool]:
    """Read a table that :func:`write_json` wrote, and whether its seal was checked; older versions wrote none.

    Raises:
        DamagedError: It is damaged, or not a JSON table.
        BcdzooError: It is not a regular file.
        OSError: It cannot be read.
    """
    with open_regular(path) as file:
        content = file.read(_LARGEST + 1)
    try:
        if len(content) > _LARGEST:
            raise ValueError("too long for a JSON file of bcdzoo")
        record = json.loads(content)
        if not isinstance(record, dict):
            raise ValueError(f"a {type(record).__name__} instead of a table")
        seal = record.pop(SEAL, None)
        if seal not in (None, digest(record)):
            raise ValueError("its content does not match its hash")
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, nested too deep
        raise DamagedError(f"{path} is damaged: {error}") from None
    return record, seal is not None
