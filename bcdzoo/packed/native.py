"""Availability of the kernels, and their instruction sets."""

import importlib
import os
from functools import cache
from types import ModuleType

from bcdzoo.errors import BcdzooError
from bcdzoo.text import say

VARIABLE = "BCDZOO_KERNELS"
"""Environment variable that chooses the instruction set (one of :func:`instruction_sets`), or ``none``."""


@cache
def kernels() -> ModuleType | None:
    """Return the compiled module; None, after one notice on stderr, if the package was built without a C++ compiler."""
    if (reason := missing()) is None:
        from bcdzoo.packed import _engine

        return _engine
    if os.environ.get(VARIABLE) != "none":
        say(
            f"the 1-bit kernels are missing ({reason}); packed networks run in plain torch. Install a C++ compiler "
            "and then bcdzoo again"
        )
    return None


def missing() -> str | None:
    """Return why there are no kernels; None if there are."""
    if os.environ.get(VARIABLE) == "none":
        return f"{VARIABLE} is none"
    try:
        importlib.import_module("bcdzoo.packed._engine")
    except ImportError as error:
        return str(error)
    return None


def instruction_sets() -> list[str]:
    """Return the instruction sets of this processor and build, the fastest first; empty without kernels."""
    module = kernels()
    return [] if module is None else list(module.instruction_sets())


def chosen() -> str:
    """The instruction set in use.

    Raises:
        BcdzooError: The environment variable names one that is not available.
    """
    known = instruction_sets()
    wanted = os.environ.get(VARIABLE, known[0] if known else "none")
    if wanted not in (*known, "none"):
        raise BcdzooError(f"{VARIABLE}={wanted}: this processor has {', '.join(known)}")
    return wanted
