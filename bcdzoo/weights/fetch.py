"""Fetch checkpoints into the cache: once, completely, and checked before they get their final name."""

import errno
import hashlib
import lzma
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import MISSING, asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

from bcdzoo.errors import BcdzooError
from bcdzoo.files import cache_dir, own_place, remove_leftovers, sha256_of
from bcdzoo.seal import DamagedError, read_json, write_json
from bcdzoo.text import masked, printable, say
from bcdzoo.weights.bundle import read_files
from bcdzoo.weights.limits import UNPACKED
from bcdzoo.weights.manifest import Checkpoint
from bcdzoo.weights.sources import by_browser, leftovers, obtain, origin, place, quoted


@dataclass(frozen=True)
class Record:
    """Facts about a cached file, stored beside it as ``<file>.json``.

    Attributes:
        sha256: Hash of the whole file.
        size: Size in bytes.
        origin: Link in the manifest, without passwords and tokens.
        obtained: Actual source: the origin, a mirror, or a file given with ``--from``; also without secrets.
        fetched: Time of the fetch, UTC in ISO 8601.
        trust: "published" if a published hash was checked; "first fetch" if there is none, so that sha256 is checked.
        published: Size and hashes that it was checked against.
        path: Path of the file if it is in the hub's own cache instead of beside the record.
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
    """Bring a checkpoint into the cache unless it is there, and check it; a damaged file is fetched again.

    A file gets its final name only after its size and hashes are checked. Without a published hash the first fetch is
    recorded and every later one must be the same. If two processes want the same file, it is downloaded once.

    Args:
        checkpoint: Entry of the manifest.
        from_file: File that was already downloaded; it is checked and copied.

    Returns:
        The original file, as its authors published it.

    Raises:
        BcdzooError: It cannot be obtained, or is not what it should be.
    """
    damage = ""
    try:
        if from_file is None and (path := _intact(checkpoint)):
            _tidy(checkpoint)
            return path
        with _lock(checkpoint):
            if from_file is None:
                # Another process may have fetched it meanwhile, or the manifest may have new hashes.
                found, damage = _checked_again(checkpoint)
                if found:
                    return found
            path, obtained = obtain(checkpoint, _final(checkpoint), from_file)
            try:
                record = _check(checkpoint, path, obtained)
            except BcdzooError:
                _discard(path)
                raise
            if damage:
                say(f"{damage}; fetched again")
            return _keep(checkpoint, path, record)
    except BcdzooError as error:
        if not damage:
            raise
        raise BcdzooError(f"{damage}; {error}") from error
    except OSError as error:
        what = f"{checkpoint.name}: {error.strerror or error}: {error.filename or folder(checkpoint)}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            what += "; free some space or set BCDZOO_HOME to another disk and run again; what has arrived is kept"
        raise BcdzooError(what) from error


def cached(checkpoint: Checkpoint) -> Path | None:
    """Return the original file if it is cached and was checked as the manifest requires; fast, nothing is hashed."""
    try:
        record = read_record(checkpoint)
    except BcdzooError:  # it will be fetched again
        return None
    return _fitting(checkpoint, record) if record else None


def verify(checkpoint: Checkpoint) -> Literal["ok", "differs", "missing"]:
    """Hash a cached file again and compare it with its record and with the manifest."""
    try:
        record = read_record(checkpoint)
        if record is None or not (path := _location(checkpoint, record)).is_file():
            return "missing"
        found = _check(checkpoint, path, str(path))
    except BcdzooError:
        return "differs"
    return "ok" if found.sha256 == record.sha256 else "differs"


def read_record(checkpoint: Checkpoint) -> Record | None:
    """Read the record of a fetched checkpoint; None if it was never fetched.

    Raises:
        BcdzooError: The record is damaged.
    """
    found = _read(checkpoint)
    return found[0] if found else None


def folder(checkpoint: Checkpoint) -> Path:
    """The checkpoint's folder in the cache."""
    return _final(checkpoint).parent


def converted_path(checkpoint: Checkpoint) -> Path:
    """Path of a checkpoint's converted file."""
    return folder(checkpoint) / "bcdzoo.safetensors"


def _final(checkpoint: Checkpoint) -> Path:
    return cache_dir() / "checkpoints" / place(checkpoint)


def _record_path(checkpoint: Checkpoint) -> Path:
    final = _final(checkpoint)
    return final.with_name(final.name + ".json")


def _read(checkpoint: Checkpoint) -> tuple[Record, bool] | None:
    """Read the record, and whether its seal was checked; older versions wrote none."""
    path = _record_path(checkpoint)
    try:
        values, checked = read_json(path)
    except FileNotFoundError:
        return None
    kinds: dict[str, type] = {"size": int, "published": dict}
    needed = {field.name for field in fields(Record) if field.default is MISSING}
    known = {field.name for field in fields(Record)}
    if not needed <= values.keys() <= known or not all(
        isinstance(value, kinds.get(key, str)) for key, value in values.items()
    ):
        raise DamagedError(f"{path} is damaged: it is not the record of a fetched file")
    return Record(**values), checked


def _write(checkpoint: Checkpoint, record: Record) -> None:
    path = _record_path(checkpoint)
    own_place(path)
    write_json(path, asdict(record))


def _is_of(record: Record, checkpoint: Checkpoint) -> bool:
    """Whether a record's file came from the manifest's link; tokens in the link may differ."""
    return masked(record.origin) == masked(origin(checkpoint))


def _location(checkpoint: Checkpoint, record: Record) -> Path:
    return Path(record.path) if record.path and checkpoint.source == "hf" else _final(checkpoint)


def _fitting(checkpoint: Checkpoint, record: Record) -> Path | None:
    """Return the recorded file if it exists and was checked as the manifest requires."""
    if not _is_of(record, checkpoint) or record.published != _published(checkpoint):
        return None
    path = _location(checkpoint, record)
    return path if path.is_file() and path.stat().st_size == record.size else None


def _intact(checkpoint: Checkpoint) -> Path | None:
    """Return the recorded file if it exists and has the recorded hash."""
    try:
        found = _read(checkpoint)
    except BcdzooError:
        return None
    path = _fitting(checkpoint, found[0]) if found else None
    if not found or path is None or sha256_of(path) != found[0].sha256:
        return None
    record, checked = found
    if not checked:
        say(f"{_record_path(checkpoint)} is unchecked: an older version wrote it, without a hash of its content")
        with suppress(OSError):  # the cache may be read-only
            masked_too = replace(record, origin=masked(record.origin), obtained=masked(record.obtained))
            _write(checkpoint, masked_too)
    return path


def _tidy(checkpoint: Checkpoint) -> None:
    """Remove what a killed fetch of an existing file left behind, unless another process is fetching it."""
    remove_leftovers(folder(checkpoint))
    if not leftovers(_final(checkpoint)):
        return
    from filelock import Timeout

    with suppress(OSError, Timeout), _lock(checkpoint, wait=False):
        for file in leftovers(_final(checkpoint)):
            file.unlink()


@contextmanager
def _lock(checkpoint: Checkpoint, wait: bool = True) -> Iterator[None]:
    from filelock import FileLock, Timeout

    locks = cache_dir() / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    folder(checkpoint).mkdir(parents=True, exist_ok=True)
    path = locks / f"{quoted(checkpoint.name)}.lock"
    own_place(path)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        if not wait:
            raise
        say(f"{checkpoint.name}: another process is fetching it, waiting")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _published(checkpoint: Checkpoint) -> dict[str, Any]:
    files = {"files": checkpoint.files} if checkpoint.files else {}
    return {"size": checkpoint.size, "member": checkpoint.member, **files, **checkpoint.hashes}


def _check(checkpoint: Checkpoint, path: Path, obtained: str) -> Record:
    """Return the record of a file, or raise an error if it is not the checkpoint."""
    what = f"{checkpoint.name}: the file from {masked(obtained)}"
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
                raise BcdzooError(f"{what} is not the published one: {key} should be {expected} but is {got}")

    if checkpoint.files:
        found = {name: hashlib.sha256(content).hexdigest() for name, content in read_files(path).items()}
        if wrong := [name for name, _ in sorted(found.items() ^ checkpoint.files.items())]:
            raise BcdzooError(f"{what} does not hold the published files: {printable(wrong[0], 100)} differs")
    sha256 = sha256_of(path)
    held = _held(checkpoint)
    is_published = bool(checkpoint.hashes or checkpoint.files)
    if not is_published and held and held.sha256 != sha256:
        raise BcdzooError(
            f"{what} is not the one first fetched {held.fetched[:10]}: sha256 was {held.sha256} but is {sha256}; "
            f"if the new one is right, delete {_record_path(checkpoint)} and fetch again"
        )
    return Record(
        sha256=sha256,
        size=size,
        origin=masked(origin(checkpoint)),
        obtained=masked(obtained),
        fetched=datetime.now(UTC).isoformat(timespec="seconds"),
        trust="published" if is_published else "first fetch",
        published=_published(checkpoint),
    )


def _is_html(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(512)
    return start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith((b"<!doctype html", b"<html"))


@contextmanager
def _content(checkpoint: Checkpoint, path: Path, what: str) -> Iterator[IO[bytes]]:
    """Open what the published hashes cover: the file, or its member of exactly that name."""
    if not checkpoint.member:
        with path.open("rb") as file:
            yield file
        return
    try:
        with zipfile.ZipFile(path) as archive:
            member, most = archive.getinfo(checkpoint.member), UNPACKED * path.stat().st_size
            if member.file_size > most:  # at most the stated size is unpacked
                raise BcdzooError(
                    f"{what} holds {member.file_size:,} bytes, over {UNPACKED} times its size: weights do not"
                )
            if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # others do not unpack in pieces
                raise BcdzooError(f"{what} is an unusual .zip: only stored and deflated files are supported")
            with archive.open(checkpoint.member) as file:
                yield file
    except KeyError:
        raise BcdzooError(f"{what} is a .zip without {checkpoint.member}") from None
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno and error.errno != errno.EINVAL:  # seeking where it says
            raise
        raise BcdzooError(f"{what} is not a usable .zip: {printable(error, 200)}") from error
    except (NotImplementedError, RuntimeError, ValueError) as error:  # encrypted, names that are not text
        raise BcdzooError(f"{what} is not a usable .zip: {printable(error, 200)}") from error


def _held(checkpoint: Checkpoint) -> Record | None:
    """Return the record of an earlier fetch from the same link, unless it is damaged."""
    try:
        record = read_record(checkpoint)
    except BcdzooError:
        return None
    return record if record and _is_of(record, checkpoint) else None


def _checked_again(checkpoint: Checkpoint) -> tuple[Path | None, str]:
    """Return the cached file if it is valid after all, or what is wrong with it.

    It is valid if only the manifest's hashes have changed since it was fetched, or only its record is damaged.
    """
    damage, record = "", None
    try:
        record = read_record(checkpoint)
    except BcdzooError as error:
        damage = f"{checkpoint.name}: {error}"
    path = _location(checkpoint, record) if record else _final(checkpoint)
    known = checkpoint.hashes or checkpoint.files or (record and _is_of(record, checkpoint))
    if not (known and path.is_file()):
        return None, damage
    try:
        if record and (found := sha256_of(path)) != record.sha256:
            raise DamagedError(f"{checkpoint.name}: {path} is damaged: its sha256 was {record.sha256} but is {found}")
        kept = _keep(checkpoint, path, _check(checkpoint, path, record.obtained if record else str(path)))
    except BcdzooError as error:
        if path.parent != folder(checkpoint):
            _discard(path)  # or the hub's client would return it again
        return None, str(error)
    if damage:
        say(f"{damage}; written again")
    return kept, ""


def _keep(checkpoint: Checkpoint, path: Path, record: Record) -> Path:
    """Give a checked file its final name and write its record; safe against a kill at any moment."""
    final = _final(checkpoint)
    if path.parent != final.parent:  # it stays in the hub's own cache
        final, record = path, replace(record, path=str(path))
    if record.trust == "first fetch" and _held(checkpoint) is None:
        say(f"{checkpoint.name}: no hash is published; from now on its sha256 must be {record.sha256}")
    if path != final:
        with path.open("rb") as file:
            os.fsync(file.fileno())
        final.unlink(missing_ok=True)  # a record must never be beside a file that it does not describe
    _write(checkpoint, record)
    if path != final:
        path.replace(final)
    for left in leftovers(_final(checkpoint)):
        left.unlink(missing_ok=True)
    return final


def _discard(path: Path) -> None:
    """Remove a wrong file, so that a later download does not resume from it."""
    blob = path.resolve()
    if path.is_symlink() and blob.name == sha256_of(blob):
        return  # identical to the hub's file, which other programs may use
    blob.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
