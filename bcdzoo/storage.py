"""What the cache and the unfinished runs take on the disk, and which of it nobody needs."""

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from bcdzoo.errors import BcdzooError
from bcdzoo.files import cache_dir, results_dir
from bcdzoo.seal import read_json

_HALF = re.compile(r".+\.(part|part\.json|copy|drive.*)")  # what an interrupted fetch leaves
_OURS = ".bcdzoo-"


@dataclass(frozen=True)
class Stored:
    """Something on the disk.

    Attributes:
        kind: "checkpoint", "prepared images", "unfinished run" or "leftover".
        name: What it is of.
        paths: Its files, or its folder.
        size: Bytes.
        written: When the newest of it was written, seconds since 1970.
        needless: Why it can go, in words; empty where something may want it.
        lock: A file that whoever is at it holds; None where nobody can be.
    """

    kind: str
    name: str
    paths: tuple[Path, ...]
    size: int
    written: float
    needless: str = ""
    lock: Path | None = None

    @property
    def day(self) -> str:
        """When it was written, as a date."""
        return datetime.fromtimestamp(min(max(self.written, 0), 2**37), UTC).date().isoformat()


def stored() -> list[Stored]:
    """Everything, the largest first."""
    found = [*_checkpoints(), *_prepared(), *_unfinished()]
    return sorted(found, key=lambda each: (-each.size, each.name))


def remove(each: Stored) -> bool:
    """Delete something, unless another process is at it; whether it is gone.

    Raises:
        BcdzooError: It cannot be deleted.
    """
    from filelock import FileLock, Timeout

    try:
        if each.lock is None:
            _delete(each)
        else:
            with FileLock(each.lock, timeout=0):
                _delete(each)
    except Timeout:
        return False
    except OSError as error:
        raise BcdzooError(f"cannot delete {error.filename}: {error.strerror}") from None
    return True


def _delete(each: Stored) -> None:
    for path in each.paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _checkpoints() -> Iterator[Stored]:
    for folder in _folders(cache_dir() / "checkpoints", 2):
        name = f"{folder.parent.name}/{folder.name}"
        files = [path for path in folder.iterdir() if path.is_file() or path.is_symlink()]
        half = [path for path in files if _is_half(path.name)]
        whole = tuple(path for path in files if path not in half)
        if whole:
            yield _entry("checkpoint", name, whole)
        if half:
            lock = cache_dir() / "locks" / f"{folder.parent.name}%2F{folder.name}.lock"
            lock = lock if lock.parent.is_dir() else folder / ".lock"
            yield _entry("leftover", name, tuple(half), "interrupted fetch, which would go on", lock)


def _is_half(name: str) -> bool:
    return bool(_HALF.fullmatch(name)) or (name.startswith(".") and _OURS in name)


def _prepared() -> Iterator[Stored]:
    root = cache_dir() / "prepared"
    for folder in _folders(root, 1):
        if folder.name.startswith("."):
            name = folder.name[1:].rpartition(".")[0]
            yield _entry("leftover", name, (folder,), "of a killed `bcdzoo prepare`", root / f"{name}.lock")
        else:
            yield _entry("prepared images", folder.name, (folder,), _outdated(folder), root / f"{folder.name}.lock")


def _outdated(folder: Path) -> str:
    try:
        facts, _ = read_json(folder / "facts.json")
    except (BcdzooError, OSError):
        return "damaged"
    from bcdzoo.data.cache import library_versions

    return "" if facts.get("versions") == library_versions() else "of other versions of Pillow or torchvision"


def _unfinished() -> Iterator[Stored]:
    for folder in _folders(results_dir() / "unfinished", 1):
        yield _entry("unfinished run", folder.name, (folder,))


def _folders(root: Path, depth: int) -> Iterator[Path]:
    """The folders so far below one; links are not followed."""
    if not root.is_dir():
        return
    for path in sorted(root.iterdir()):
        if path.is_dir() and not path.is_symlink():
            if depth == 1:
                yield path
            else:
                yield from _folders(path, depth - 1)


def _entry(kind: str, name: str, paths: tuple[Path, ...], needless: str = "", lock: Path | None = None) -> Stored:
    facts = [found for path in paths for found in _facts(path)]
    size = sum(found.st_size for found in facts)
    return Stored(kind, name, paths, size, max((found.st_mtime for found in facts), default=0.0), needless, lock)


def _facts(path: Path) -> Iterator[os.stat_result]:
    """Of a file, or of every file below a folder; what goes meanwhile is left out."""
    try:
        if path.is_dir() and not path.is_symlink():
            for below in path.iterdir():
                yield from _facts(below)
        else:
            yield path.lstat()
    except FileNotFoundError:
        return
