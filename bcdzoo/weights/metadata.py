"""The metadata of this zoo's own files: untrusted text, validated when read."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from bcdzoo.custom_model import unwrapped
from bcdzoo.data.preprocess import Preprocess, parse
from bcdzoo.errors import BcdzooError
from bcdzoo.files import require_regular
from bcdzoo.registry import REGISTRY
from bcdzoo.text import printable
from bcdzoo.weights.convert import safetensors_metadata

FORMAT = "bcdzoo 1"
"""Marks this zoo's own safetensors files, by the version of their keys."""

_MOST_CLASSES = 1_000_000
_LONGEST_NAME = 1000
_LONGEST_VALUE = 200


@dataclass(frozen=True)
class Metadata:
    """The metadata of a file.

    Attributes:
        model: Name in the zoo; or, for a user's own network, ``package.module:callable``, which is never imported
            because a file says so.
        build: Arguments that the network was built with: plain values, which the builder still checks.
        preprocess: Preset or spec; None if not stated.
        class_names: Names in the order of the outputs; None if not stated.
        license: SPDX identifier; may be empty.
        lineage: How the weights were made; may be empty.
        source: Name of the file that was converted.
        source_sha256: Hash of the file that was converted.
    """

    model: str
    build: dict[str, Any] = field(default_factory=dict)
    preprocess: str | None = None
    class_names: tuple[str, ...] | None = None
    license: str = ""
    lineage: dict[str, Any] = field(default_factory=dict)
    source: str = ""
    source_sha256: str = ""


def read_metadata(path: Path) -> Metadata | None:
    """Read the metadata of a file of this zoo; None for any other file.

    Raises:
        BcdzooError: The file is damaged or of another version, or its metadata is invalid.
    """
    text = safetensors_metadata(path)
    found = text.get("format", "")
    if found.startswith("bcdzoo packed"):
        raise BcdzooError(f"{path} is a packed file, which only has bits: use the weights that it was exported from")
    if found != FORMAT:
        if found.startswith("bcdzoo"):
            raise BcdzooError(f"{path} is of another version ({printable(found, 60)}) than this one reads ({FORMAT})")
        return None
    try:
        if not text.get("model"):
            raise ValueError("model is missing")
        names = _json(text, "class_names", list, "[]")
        check_class_names(names)
        if "build" not in text:
            raise ValueError("build is missing")
        build = _json(text, "build", dict, "{}")
        if odd := [key for key, value in build.items() if not _is_plain(value)]:
            raise ValueError(f"build: {printable(odd[0], 60)} is not a plain value")
        preprocess = text.get("preprocess") or None
        if preprocess is not None:
            parse(preprocess)
        return Metadata(
            text["model"],
            build,
            preprocess,
            tuple(names) or None,
            text.get("license", ""),
            _json(text, "lineage", dict, "{}"),
            text.get("source", ""),
            text.get("source_sha256", ""),
        )
    except (ValueError, BcdzooError) as error:
        reason = printable(error, 200)
        raise BcdzooError(f"{path} does not say what it holds: {reason}; convert or train it again") from None


def check_class_names(names: Sequence[Any]) -> None:
    """Check that class names are text.

    Raises:
        BcdzooError: They are not, or there are too many, or they are too long.
    """
    if len(names) > _MOST_CLASSES:
        raise BcdzooError(f"class_names has {len(names)} names, more than {_MOST_CLASSES}")
    for number, name in enumerate(names, 1):
        if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME:
            raise BcdzooError(f"class_names, line {number}: {printable(name, 60)!r} is not a class name")


def _is_plain(value: Any) -> bool:
    return isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= _LONGEST_VALUE)


def _json(text: dict[str, str], key: str, kind: type, empty: str) -> Any:
    try:
        value = json.loads(text.get(key) or empty)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{key} is not JSON ({printable(error, 100)})") from None
    if not isinstance(value, kind):
        raise ValueError(f"{key} is a {type(value).__name__} and not a {kind.__name__}")
    return value


def model_of(path: Path) -> str:
    """Return the name of the zoo's network that a file states.

    Raises:
        BcdzooError: It states none, or the name is not in the registry, the only place where it is looked up.
    """
    text = safetensors_metadata(path)
    if not text.get("format", "").startswith("bcdzoo packed") and read_metadata(path) is None:
        raise BcdzooError(
            f"{path} does not say which network it holds: name the network, and pass the file as --weights"
        )
    model = text.get("model", "")
    if model not in REGISTRY:
        raise BcdzooError(
            f"{path} says that it holds {printable(model, 100)!r}, which is not a network of this zoo: name the "
            "network yourself, and pass the file as --weights"
        )
    return model


def read_class_names(path: Path) -> list[str]:
    """Read class names from a text file, one per line.

    Raises:
        BcdzooError: It cannot be read, or a line is empty or too long.
    """
    require_regular(path)
    try:
        names = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise BcdzooError(f"{path} is not UTF-8 text: it must have one class name per line") from None
    try:
        check_class_names(names)
    except BcdzooError as error:
        raise BcdzooError(f"{path}: {error}") from None
    return [name.strip() for name in names]


def remember(model: nn.Module, preprocess: str | None, class_names: tuple[str, ...] | None) -> None:
    """Set a module's ``preprocess`` and ``class_names``, which belong to its weights; None if unknown."""
    carried = parse(preprocess) if preprocess else None
    model.__dict__.update(preprocess=carried, class_names=class_names)


def carried_preprocess(model: nn.Module) -> Preprocess | None:
    """The preprocessing that a module carries, if any."""
    found = getattr(unwrapped(model), "preprocess", None)
    return found if isinstance(found, Preprocess) else None
