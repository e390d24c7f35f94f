"""Versions of the installed software, found without importing torch."""

import importlib.metadata
import platform

from bcdzoo.errors import BcdzooError
from bcdzoo.packed import native


def package_version() -> str:
    """Return this package's version."""
    return installed("bcdzoo") or "checkout"  # run from a checkout that is not installed


def installed(package: str) -> str | None:
    """Return the version of an installed package, or None."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def kernels() -> str:
    """Describe the instruction sets that the 1-bit kernels use and could use, or why there is none."""
    if reason := native.missing():
        return f"none ({reason})"
    try:
        return f"{native.chosen()} (of {', '.join(native.instruction_sets())})"
    except BcdzooError as error:
        return f"none ({error})"


def summary() -> str:
    """Describe this package, torch, the kernels and Python, a line each."""
    lines = {
        "bcdzoo": package_version(),
        "torch": installed("torch") or "not installed",
        "kernels": kernels(),
        "Python": platform.python_version(),
    }
    return "\n".join(f"{name} {version}" for name, version in lines.items())
