"""``bcdzoo_engine`` without installing it: its module is also bcdzoo's, built from the same source."""

import sys
from pathlib import Path

import pytest

from bcdzoo.packed import native

FOLDER = Path(__file__).parents[1] / "engine" / "python"


def make_importable(patch: pytest.MonkeyPatch) -> None:
    patch.syspath_prepend(str(FOLDER))
    patch.setitem(sys.modules, "bcdzoo_engine._engine", native.kernels())
