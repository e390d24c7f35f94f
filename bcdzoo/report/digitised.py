"""The numbers of the poster's figures, read off its picture. No torch."""

import functools
import tomllib
from importlib.resources import files
from typing import Any


@functools.cache
def digitised() -> dict[str, Any]:
    """The content of digitised.toml: ``tradeoff`` and ``binarization_error``."""
    text = (files("bcdzoo") / "report" / "digitised.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
