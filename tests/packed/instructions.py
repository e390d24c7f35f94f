"""Every instruction set of this processor, forced in turn."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

import pytest

from bcdzoo.packed import native

each_instruction_set = pytest.mark.parametrize("instructions", native.instruction_sets() or ["none"])


@contextmanager
def forced(instructions: str) -> Iterator[None]:
    """Within it the kernels use these instructions."""
    with patch.dict(os.environ, {native.VARIABLE: instructions}):
        assert native.chosen() == instructions
        yield
