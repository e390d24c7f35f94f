"""Read untrusted TOML files, with limits on size and depth that bound time and memory."""

import tomllib
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from bcdzoo.errors import BcdzooError
from bcdzoo.files import open_regular
from bcdzoo.text import printable

_LARGEST = 1 << 18  # bytes
_DOTS = 200  # per line, because reading a dotted key takes quadratic time
_DIGITS = 10  # of a number behind the point, at most


def read_toml(path: Path, what: str, parse_float: Callable[[str], Any] = float) -> dict[str, Any]:
    """Read the table in a file.

    Args:
        path: The file.
        what: What it should be, for messages: "manifest".
        parse_float: Makes a number with a point or exponent of its text; a ValueError says that it cannot.

    Raises:
        BcdzooError: It cannot be read, is no TOML, or is larger or deeper than any such file needs to be.
    """
    try:
        with open_regular(path) as file:
            content = file.read(_LARGEST + 1)
        if len(content) > _LARGEST:
            raise BcdzooError(f"{path} is not a {what}: it has more than {_LARGEST:,} bytes")
        text = content.decode("utf-8")
        if max(line.count(".") for line in text.split("\n")) > _DOTS:
            raise BcdzooError(f"{path} is not a {what}: a line has more than {_DOTS} dots")
        return tomllib.loads(text, parse_float=parse_float)
    except OSError as error:
        raise BcdzooError(f"cannot read the {what} {path}: {error.strerror}") from None
    except RecursionError:
        raise BcdzooError(f"{path} is not a {what}: it is nested too deep") from None
    except ValueError as error:  # not TOML, or not UTF-8
        raise BcdzooError(f"{path} is not a {what}: {printable(error, 300)}") from None


def decimal(text: str) -> Decimal:
    """A number with the digits that are printed, for :func:`read_toml`.

    Raises:
        ValueError: It is too large to be held.
    """
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ValueError(f"{printable(text, 60)} is no number that can be held") from None


def is_number(value: object, most: int) -> bool:
    """Whether a value is a number from 0 to ``most`` with a sensible number of digits."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        return False
    number = Decimal(str(value)) if isinstance(value, float) else Decimal(value)
    return number.is_finite() and 0 <= number <= most and abs(int(number.as_tuple().exponent)) <= _DIGITS
