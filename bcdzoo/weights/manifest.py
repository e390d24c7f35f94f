"""The manifest: every known checkpoint, from ``weights.toml`` and the user's files, validated when read."""

import os
import re
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from bcdzoo.data.preprocess import PRESETS
from bcdzoo.errors import BcdzooError
from bcdzoo.text import near_ones, printable
from bcdzoo.toml import read_toml
from bcdzoo.weights.keys import FORMATS

SHIPPED = Path(__file__).parent.parent / "weights.toml"

_LONGEST = 4000  # characters of a value

# source -> required keys
SOURCES = {
    "package": ("filename",),
    "hf": ("hf_repo", "filename"),
    "url": ("url", "filename"),
    "gdrive": ("gdrive_id",),
    "gdrive-folder": ("gdrive_id",),
    "onedrive": ("url",),
    "files": ("url", "filename", "files"),
    "manual": (),
}
_MOST_FILES, _LONGEST_NAME = 5_000, 90  # a tar archive's names

_HEX_DIGITS = {"sha256": (64, 64), "sha256_prefix": (8, 64), "sha1": (40, 40), "sha384": (96, 96)}
_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    "size": (int, "a number of bytes"),
    "top1": ((int, float), "a number"),
    "top5": ((int, float), "a number"),
    "build": (dict, "a table"),
    "files": (dict, "a table"),
    "default": (bool, "true or false"),
}


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights, or several small ones; the keys of ``weights.toml`` are described at the top of that file."""

    model: str
    tag: str
    source: str
    format: str
    preprocess: str
    url: str = ""
    hf_repo: str = ""
    hf_revision: str = "main"
    gdrive_id: str = ""
    filename: str = ""
    member: str = ""
    size: int | None = None
    sha256: str = ""
    sha256_prefix: str = ""
    sha1: str = ""
    sha384: str = ""
    files: dict[str, str] = field(default_factory=dict, hash=False)
    build: dict[str, Any] = field(default_factory=dict, hash=False)
    top1: float | None = None
    top5: float | None = None
    top_source: str = ""
    license: str = ""
    evidence: str = ""
    note: str = ""

    @property
    def name(self) -> str:
        """Model and tag, for messages."""
        return f"{self.model}/{self.tag}"

    @property
    def convertible(self) -> bool:
        """Whether it can be converted to this zoo's safetensors; others are only fetched."""
        return bool(FORMATS[self.format].layouts)

    @property
    def hashes(self) -> dict[str, str]:
        """The published hashes, by their keys."""
        return {key: value for key in _HEX_DIGITS if (value := getattr(self, key))}


@dataclass(frozen=True)
class Missing:
    """A network without a public checkpoint: how that is known, and what to do instead."""

    model: str
    evidence: str
    advice: str


@dataclass(frozen=True)
class Manifest:
    """Every known checkpoint, a network's default before its others, and the networks known to have none."""

    checkpoints: tuple[Checkpoint, ...]
    missing: tuple[Missing, ...]

    def of(self, model: str) -> list[Checkpoint]:
        """The checkpoints of a network, its default first."""
        return [checkpoint for checkpoint in self.checkpoints if checkpoint.model == model]

    def find(self, model: str, tag: str | None = None) -> Checkpoint:
        """Find a checkpoint of a network.

        Args:
            model: Name of the network.
            tag: Tag of the checkpoint; None for the network's default.

        Raises:
            BcdzooError: There is none; the message lists what there is, or what to do instead.
        """
        known = self.of(model)
        for checkpoint in known:
            if tag in (None, checkpoint.tag):
                return checkpoint
        if known:
            tags = ", ".join(checkpoint.tag for checkpoint in known)
            raise BcdzooError(f"{model} has no checkpoint tagged {tag!r}; it has {tags}")
        for missing in self.missing:
            if missing.model == model:
                raise BcdzooError(f"{model} has no public checkpoint: {missing.advice}")
        names = [checkpoint.model for checkpoint in self.checkpoints] + [missing.model for missing in self.missing]
        near = near_ones(model, names)
        advice = "pass --weights FILE, or describe one in a file for --manifest"
        hint = f"did you mean {' or '.join(near)}?" if near else advice
        raise BcdzooError(f"no checkpoint of {_named(model)} is known; {hint}")


def load_manifest(extra: Path | None = None) -> Manifest:
    """Read the shipped manifest, then the file named by ``BCDZOO_MANIFEST``, then ``extra``.

    An entry replaces an earlier file's entry of the same model and tag, else it is added; with
    ``default = true`` it becomes its model's default.

    Raises:
        BcdzooError: A file cannot be read or an entry is wrong; the message names the file, the entry and the key.
    """
    paths = [SHIPPED]
    if named := os.environ.get("BCDZOO_MANIFEST"):
        paths.append(Path(named).expanduser())
    if extra is not None:
        paths.append(extra)

    defaults: dict[tuple[str, str], Checkpoint] = {}  # the first is the oldest
    others: dict[tuple[str, str], Checkpoint] = {}
    missing: dict[str, Missing] = {}
    for path in paths:
        document = _parse(path)
        for checkpoint, default in _checkpoints(path, document.get("checkpoint", [])):
            key = (checkpoint.model, checkpoint.tag)
            if default:
                others.pop(key, None)
                defaults.pop(key, None)
                defaults[key] = checkpoint
            elif key in defaults:
                defaults[key] = checkpoint
            else:
                others[key] = checkpoint
        for entry in _missing(path, document.get("missing", [])):
            missing[entry.model] = entry
    checkpoints = (*reversed(defaults.values()), *others.values())
    models = {checkpoint.model for checkpoint in checkpoints}
    return Manifest(checkpoints, tuple(entry for entry in missing.values() if entry.model not in models))


def _parse(path: Path) -> dict[str, Any]:
    document = read_toml(path, "manifest")
    if unknown := document.keys() - {"checkpoint", "missing"}:
        raise BcdzooError(
            f"{path}: unknown key {_named(min(unknown))}; a manifest has [[checkpoint]] and [[missing]] entries"
        )
    for key, entries in document.items():
        if not (isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries)):
            raise BcdzooError(f"{path}: write entries as [[{key}]]")
    return document


def _checkpoints(path: Path, entries: list[dict[str, Any]]) -> Iterator[tuple[Checkpoint, bool]]:
    seen = set()
    for number, entry in enumerate(entries, 1):
        where = f"{path}: checkpoint {number} ({_named(entry.get('model'))}, {_named(entry.get('tag'))})"
        _check_keys(where, entry, Checkpoint, "default")
        values = dict(entry)
        default = values.pop("default", False)
        for key in _HEX_DIGITS.keys() & values.keys():
            values[key] = values[key].lower()
        checkpoint = Checkpoint(**values)
        if problem := _problem(checkpoint):
            raise BcdzooError(f"{where}: {problem}")
        if (checkpoint.model, checkpoint.tag) in seen:
            raise BcdzooError(f"{where}: tag: a second entry of the same model and tag")
        seen.add((checkpoint.model, checkpoint.tag))
        yield checkpoint, default


def _named(value: Any) -> str:
    return printable(repr(value), 100)


def _missing(path: Path, entries: list[dict[str, Any]]) -> Iterator[Missing]:
    for number, entry in enumerate(entries, 1):
        _check_keys(f"{path}: missing {number} ({_named(entry.get('model'))})", entry, Missing)
        yield Missing(**entry)


def _check_keys(where: str, entry: dict[str, Any], kind: type[Checkpoint | Missing], *more: str) -> None:
    known = {item.name for item in fields(kind)} | set(more)
    required = [item.name for item in fields(kind) if item.default is MISSING and item.default_factory is MISSING]
    if unknown := entry.keys() - known:
        near = near_ones(min(unknown), known)
        hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise BcdzooError(f"{where}: unknown key {_named(min(unknown))}{hint}")
    for key in required:
        if not entry.get(key):
            raise BcdzooError(f"{where}: {key}: missing")
    for key, value in entry.items():
        wanted, name = _KINDS.get(key, (str, "a string"))
        if not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            raise BcdzooError(f"{where}: {key}: must be {name}")
        if isinstance(value, str) and len(value) > _LONGEST:
            raise BcdzooError(f"{where}: {key}: must have at most {_LONGEST:,} characters")
        if isinstance(value, str) and not value.isprintable():
            raise BcdzooError(f"{where}: {key}: must be one line of printable characters")


def _problem(checkpoint: Checkpoint) -> str | None:
    if checkpoint.source not in SOURCES:
        return f"source: {_named(checkpoint.source)} is none of {', '.join(SOURCES)}"
    for key in SOURCES[checkpoint.source]:
        if not getattr(checkpoint, key):
            return f"{key}: missing, source {checkpoint.source!r} needs it"
    if checkpoint.format not in FORMATS:
        return f"format: {_named(checkpoint.format)} is none of {', '.join(sorted(FORMATS))}"
    if checkpoint.preprocess not in PRESETS and "=" not in checkpoint.preprocess:
        what = f"neither a preset ({', '.join(sorted(PRESETS))}) nor a spec with ="
        return f"preprocess: {_named(checkpoint.preprocess)} is {what}"
    for key, (fewest, most) in _HEX_DIGITS.items():
        if (value := getattr(checkpoint, key)) and not re.fullmatch(f"[0-9a-f]{{{fewest},{most}}}", value):
            return f"{key}: must be {fewest if fewest == most else f'{fewest} to {most}'} hexadecimal digits"
    for key in ("top1", "top5"):
        if (value := getattr(checkpoint, key)) is not None and not 0 <= value <= 100:
            return f"{key}: must be a percentage from 0 to 100"
    if checkpoint.size is not None and checkpoint.size <= 0:
        return "size: must be positive"
    for key in ("filename", "member"):
        if (value := getattr(checkpoint, key)) and not _is_plain_relative(value):
            return f"{key}: must be a relative path with / and without .."
    if checkpoint.url and not _is_url(checkpoint.url):
        return "url: must begin with http:// or https:// and name a host"
    if checkpoint.files and checkpoint.source != "files":
        return f"files: source {checkpoint.source!r} has one file"
    if checkpoint.source == "files" and not checkpoint.url.endswith("/"):
        return "url: of several files it is their folder, and ends with /"
    if len(checkpoint.files) > _MOST_FILES:
        return f"files: {len(checkpoint.files)} are more than {_MOST_FILES}"
    for name, sha256 in checkpoint.files.items():
        if not name.isprintable() or len(name) > _LONGEST_NAME or not _is_plain_relative(name):
            return f"files: {_named(name)} must be a relative path with / and without .., of {_LONGEST_NAME} characters"
        if not isinstance(sha256, str) or not re.fullmatch("[0-9a-f]{64}", sha256):
            return f"files: {_named(name)} must have its sha256 in 64 hexadecimal digits"
    for key, value in checkpoint.build.items():
        if not isinstance(value, str | int | float | bool):
            return f"build: {_named(key)} must be a number, a string, or true or false"
    if not re.fullmatch(r"[\w-]*", checkpoint.gdrive_id, re.ASCII):
        return "gdrive_id: must be the id only, not a link"
    return None


def _is_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 0) >= 0
    except ValueError:  # half an IPv6 address, a port that is not a number
        return False


def _is_plain_relative(name: str) -> bool:
    path = PurePosixPath(name)
    return "\\" not in name and not path.is_absolute() and ".." not in path.parts and str(path) == name
