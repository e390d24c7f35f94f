"""The zoo's counted operations and parameters, kept as data so that nothing need be built to show them."""

import functools
import json
from importlib.resources import files
from typing import Any

COUNTS = files("bcdzoo") / "report" / "counts.json"


@functools.cache
def counts() -> dict[str, Any]:
    """Network -> ``params``, and under each convention's name ``bops``, ``flops`` and ``ops``, all raw integers.

    Made by scripts/make_counts.py.
    """
    content: dict[str, Any] = json.loads(COUNTS.read_text(encoding="utf-8"))
    return content
