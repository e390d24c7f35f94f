"""What this zoo's own files say of themselves: text that anybody may have written, checked when it is read."""

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
    """What a file says.

    Attributes:
        model: A name of the zoo; or, where somebody trained a network of their own, ``package.module:callable``, which
            nothing may import because a file says so.
        build: Arguments that the network was built with: plain values, which the builder has still to accept.
        preprocess: A preset or spec; None where it does not say.
        class_names: In the order of the outputs; None where it does not say.
        license: SPDX; may be empty.
        lineage: How the weights were made; may be empty.
        source: Name of the file that was converted.
        source_sha256: Its hash.
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
    """What a file of this zoo says; None for any other file.

    Raises:
        BcdzooError: The file is damaged or of another version, or says something that makes no sense.
    """
    text = safetensors_metadata(path)
    found = text.get("format", "")
    if found.startswith("bcdzoo packed"):
        raise BcdzooError(f"{path} is a packed file, of bits alone: take the weights that it was exported from")
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
            raise ValueError(f"build: {printable(odd[0], 60)} is no plain value")
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
        raise BcdzooError(f"{path} does not say what it holds: {reason}; convert or train it anew") from None


def check_class_names(names: Sequence[Any]) -> None:
    """Check that names of classes are text.

    Raises:
        BcdzooError: They are not, or there are too many, or they are too long.
    """
    if len(names) > _MOST_CLASSES:
        raise BcdzooError(f"class_names has {len(names)} names, and {_MOST_CLASSES} are many")
    for number, name in enumerate(names, 1):
        if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME:
            raise BcdzooError(f"class_names, line {number}: {printable(name, 60)!r} is no name of a class")


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
    """The network of the zoo that a file says it holds.

    Raises:
        BcdzooError: It does not say so, or what it names is not in the registry, the only place where it is looked up.
    """
    text = safetensors_metadata(path)
    if not text.get("format", "").startswith("bcdzoo packed") and read_metadata(path) is None:
        raise BcdzooError(f"{path} does not say which network it holds: name that, and give the file as --weights")
    model = text.get("model", "")
    if model not in REGISTRY:
        raise BcdzooError(
            f"{path} says that it holds {printable(model, 100)!r}, which is no network of this zoo: name the "
            "network yourself, and give the file as --weights"
        )
    return model


def read_class_names(path: Path) -> list[str]:
    """Names of classes from a text file, a line each.

    Raises:
        BcdzooError: It cannot be read, or a line is empty or too long.
    """
    require_regular(path)
    try:
        names = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise BcdzooError(f"{path} is no text in UTF-8: a class's name on each line is wanted") from None
    try:
        check_class_names(names)
    except BcdzooError as error:
        raise BcdzooError(f"{path}: {error}") from None
    return [name.strip() for name in names]


def remember(model: nn.Module, preprocess: str | None, class_names: tuple[str, ...] | None) -> None:
    """Let a module carry what belongs to its weights: ``preprocess`` and ``class_names``, None where nobody said."""
    carried = parse(preprocess) if preprocess else None
    model.__dict__.update(preprocess=carried, class_names=class_names)


def carried_preprocess(model: nn.Module) -> Preprocess | None:
    """What a module was trained for, if it carries that."""
    found = getattr(unwrapped(model), "preprocess", None)
    return found if isinstance(found, Preprocess) else None
