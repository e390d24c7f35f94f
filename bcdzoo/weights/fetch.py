"""Checkpoints into the cache: once, whole, and checked before they get their final name."""

import errno
import hashlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

from bcdzoo.errors import BcdzooError
from bcdzoo.files import atomic_write, cache_dir, sha256_of
from bcdzoo.text import say
from bcdzoo.weights.manifest import Checkpoint
from bcdzoo.weights.sources import by_browser, leftovers, obtain, origin, place, quoted


@dataclass(frozen=True)
class Record:
    """What is known of a cached file, kept as ``<file>.json`` beside it.

    Attributes:
        sha256: Of the whole file.
        size: In bytes.
        origin: The link the manifest gives.
        obtained: Where it really came from: the origin, a mirror, or a file given with ``--from``.
        fetched: When, UTC in ISO 8601.
        trust: "published" if a published hash was checked; "first fetch" if there is none: the file is held to sha256.
        published: What it was checked against.
        path: The file, where it is not beside the record but in the hub's own cache.
    """

    sha256: str
    size: int
    origin: str
    obtained: str
    fetched: str
    trust: Literal["published", "first fetch"]
    published: dict[str, Any]
    path: str = ""


def fetch(checkpoint: Checkpoint, *, from_file: Path | None = None) -> Path:
    """Bring a checkpoint into the cache, unless it is there, and check it.

    A file gets its final name only after its size and hashes were checked. Without a published hash the first fetch is
    recorded and every later one must be the same. Two processes that want the same file download it once.

    Args:
        checkpoint: An entry of the manifest.
        from_file: A file somebody has downloaded already; it is checked and copied.

    Returns:
        The original file, as its authors published it.

    Raises:
        BcdzooError: It cannot be had, or is not what it should be.
    """
    try:
        if from_file is None and (path := cached(checkpoint)):
            return path
        with _lock(checkpoint):
            # Another process may have fetched it meanwhile, or the manifest may have learnt new hashes of it.
            if from_file is None and (path := cached(checkpoint) or _checked_again(checkpoint)):
                return path
            path, obtained = obtain(checkpoint, _final(checkpoint), from_file)
            try:
                record = _check(checkpoint, path, obtained)
            except BcdzooError:
                _discard(path)
                raise
            return _keep(checkpoint, path, record)
    except OSError as error:
        what = f"{checkpoint.name}: {error.strerror or error}: {error.filename or folder(checkpoint)}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            what += "; free some room or set BCDZOO_HOME elsewhere and run again: what has arrived is kept"
        raise BcdzooError(what) from error


def cached(checkpoint: Checkpoint) -> Path | None:
    """The original file if it is in the cache and was checked as the manifest asks; fast, nothing is hashed."""
    record = read_record(checkpoint)
    if record is None or record.origin != origin(checkpoint) or record.published != _published(checkpoint):
        return None
    path = _location(checkpoint, record)
    return path if path.is_file() and path.stat().st_size == record.size else None


def verify(checkpoint: Checkpoint) -> Literal["ok", "differs", "missing"]:
    """Hash a cached file again and compare it with its record and with the manifest."""
    record = read_record(checkpoint)
    if record is None or not (path := _location(checkpoint, record)).is_file():
        return "missing"
    try:
        found = _check(checkpoint, path, str(path))
    except BcdzooError:
        return "differs"
    return "ok" if found.sha256 == record.sha256 else "differs"


def read_record(checkpoint: Checkpoint) -> Record | None:
    """What was recorded when the checkpoint was fetched; ``None`` if it never was.

    Raises:
        BcdzooError: The record is damaged.
    """
    path = _record_path(checkpoint)
    try:
        return Record(**json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError):
        raise BcdzooError(f"{path} is damaged: delete it and fetch {checkpoint.model} again") from None


def folder(checkpoint: Checkpoint) -> Path:
    """The checkpoint's own folder in the cache, whatever characters its names have."""
    return _final(checkpoint).parent


def _final(checkpoint: Checkpoint) -> Path:
    return cache_dir() / "checkpoints" / place(checkpoint)


def _record_path(checkpoint: Checkpoint) -> Path:
    final = _final(checkpoint)
    return final.with_name(final.name + ".json")


def _location(checkpoint: Checkpoint, record: Record) -> Path:
    return Path(record.path) if record.path else _final(checkpoint)


@contextmanager
def _lock(checkpoint: Checkpoint) -> Iterator[None]:
    from filelock import FileLock, Timeout

    locks = cache_dir() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    folder(checkpoint).mkdir(parents=True, exist_ok=True)
    lock = FileLock(locks / f"{quoted(checkpoint.name)}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"{checkpoint.name}: another process is fetching it, waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _published(checkpoint: Checkpoint) -> dict[str, Any]:
    return {"size": checkpoint.size, "member": checkpoint.member, **checkpoint.hashes}


def _check(checkpoint: Checkpoint, path: Path, obtained: str) -> Record:
    """The record of a file; an error if it is not the checkpoint."""
    what = f"{checkpoint.name}: the file from {obtained}"
    size = path.stat().st_size
    if _is_html(path):
        raise BcdzooError(f"{what} is a web page (a login, a quota, an error); {by_browser(checkpoint)}")
    if checkpoint.size not in (None, size):
        raise BcdzooError(f"{what} has {size:,} bytes instead of {checkpoint.size:,}")
    with _content(checkpoint, path, what) as stream:
        for key, expected in checkpoint.hashes.items():
            stream.seek(0)
            got = hashlib.file_digest(stream, key.removesuffix("_prefix")).hexdigest()  # type: ignore[arg-type]
            if not got.startswith(expected):
                raise BcdzooError(f"{what} is not the published one: {key} should be {expected} and is {got}")

    sha256 = sha256_of(path)
    held = read_record(checkpoint)
    if not checkpoint.hashes and held and held.origin == origin(checkpoint) and held.sha256 != sha256:
        raise BcdzooError(
            f"{what} is not the one first fetched {held.fetched[:10]}: sha256 was {held.sha256} and is {sha256}; "
            f"if the new one is right, delete {_record_path(checkpoint)} and fetch again"
        )
    return Record(
        sha256=sha256,
        size=size,
        origin=origin(checkpoint),
        obtained=obtained,
        fetched=datetime.now(UTC).isoformat(timespec="seconds"),
        trust="published" if checkpoint.hashes else "first fetch",
        published=_published(checkpoint),
    )


def _is_html(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(512)
    return start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith((b"<!doctype html", b"<html"))


@contextmanager
def _content(checkpoint: Checkpoint, path: Path, what: str) -> Iterator[IO[bytes]]:
    """The bytes that the published hashes are of: the file's, or its member's, read by that exact name."""
    if not checkpoint.member:
        with path.open("rb") as file:
            yield file
        return
    try:
        with zipfile.ZipFile(path) as archive, archive.open(checkpoint.member) as file:
            yield file
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise BcdzooError(f"{what} is not a usable .zip: {error}") from error
    except KeyError:
        raise BcdzooError(f"{what} is a .zip without {checkpoint.member}") from None


def _checked_again(checkpoint: Checkpoint) -> Path | None:
    """The cached file, if only what it must be checked against has changed since it was fetched."""
    record = read_record(checkpoint)
    path = _location(checkpoint, record) if record else _final(checkpoint)
    known = checkpoint.hashes or (record and record.origin == origin(checkpoint))
    if not (known and path.is_file()):
        return None
    try:
        return _keep(checkpoint, path, _check(checkpoint, path, record.obtained if record else str(path)))
    except BcdzooError as error:
        say(f"{error}; fetching it anew")
        if path.parent != folder(checkpoint):
            _discard(path)  # or the hub would hand it out again
        return None


def _keep(checkpoint: Checkpoint, path: Path, record: Record) -> Path:
    """Give a checked file its final name and write its record; a kill at any moment leaves nothing wrong."""
    final = _final(checkpoint)
    if path.parent != final.parent:  # it stays in the hub's own cache
        final, record = path, replace(record, path=str(path))
    if record.trust == "first fetch" and read_record(checkpoint) is None:
        say(f"{checkpoint.name}: no hash is published; from now on its sha256 must be {record.sha256}")
    if path != final:
        with path.open("rb") as file:
            os.fsync(file.fileno())
        final.unlink(missing_ok=True)  # a record must never stand beside another file than the one it describes
    with atomic_write(_record_path(checkpoint)) as temporary:
        temporary.write_text(json.dumps(asdict(record), indent=2) + "\n")
    if path != final:
        path.replace(final)
    for file_left in leftovers(_final(checkpoint)):
        file_left.unlink(missing_ok=True)
    return final


def _discard(path: Path) -> None:
    """Remove a file that is not the right one, so that it is never taken for the start of the right one."""
    blob = path.resolve()
    if path.is_symlink() and blob.name == sha256_of(blob):
        return  # undamaged, as the hub has it: other programs may use it
    blob.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
