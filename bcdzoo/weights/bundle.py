"""Checkpoints of several small files, as one: a folder, or an archive of it (tar, gzipped or not, or zip)."""

import gzip
import hashlib
import io
import itertools
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path

from bcdzoo.errors import BcdzooError
from bcdzoo.files import open_regular, sha256_of
from bcdzoo.text import printable

LARGEST = 64 << 20
"""Bytes of all files together, archive and all."""
MOST_FILES = 5_000
_LONGEST_HEADER = 1024
_GZIP, _ZIP = b"\x1f\x8b", b"PK"


def is_archive(path: Path, head: bytes) -> bool:
    """Whether a file is a tar archive, gzipped or not; ``head`` is its beginning."""
    if head.startswith(_GZIP):
        with open_regular(path) as file:
            try:
                head = gzip.GzipFile(fileobj=file).read(512)
            except (OSError, EOFError, zlib.error):
                return False
    else:
        with open_regular(path) as file:
            head = file.read(512)
    return head[257:262] == b"ustar"


def names_in_zip(path: Path, head: bytes) -> list[str]:
    """The names in a zip archive; none in any other file, nor in a damaged one."""
    if not head.startswith(_ZIP):
        return []
    try:
        with open_regular(path) as file:
            return zipfile.ZipFile(file).namelist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return []


def read_files(path: Path) -> dict[str, bytes]:
    """The files in a folder or an archive, by their paths in it, sorted.

    Raises:
        BcdzooError: It is damaged or too large, or holds a link or a name that leads out of it.
    """
    files = _of_folder(path) if path.is_dir() else _of_archive(path)
    for name in files:
        if name.startswith("/") or ".." in name.split("/"):
            raise BcdzooError(f"{path}: the name {printable(name, 100)} leads out of the archive")
    return dict(sorted(files.items()))


def _of_folder(folder: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    left = LARGEST
    for where, folders, names in os.walk(folder, onerror=_refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            file = Path(where, name)
            if name.startswith("."):
                continue
            if len(files) >= MOST_FILES or not stat.S_ISREG(file.lstat().st_mode):
                reason = (
                    f"more than {MOST_FILES} files"
                    if len(files) >= MOST_FILES
                    else f"{printable(name, 100)} is a link, or not a regular file"
                )
                raise BcdzooError(f"{folder} is no checkpoint: {reason}")
            with open_regular(file) as content:
                files[file.relative_to(folder).as_posix()] = read = content.read(left + 1)
            left -= len(read)
            if left < 0:
                raise BcdzooError(f"{folder} is no checkpoint of small files: it has more than {LARGEST >> 20} MiB")
    return files


def _refuse(error: OSError) -> None:
    raise BcdzooError(f"cannot read {error.filename}: {error.strerror}")


def _of_archive(path: Path) -> dict[str, bytes]:
    too_large = BcdzooError(f"{path} is no archive of small files: unpacked it has more than {LARGEST >> 20} MiB")
    try:
        with open_regular(path) as file:
            if file.peek(2).startswith(_ZIP):
                return _of_zip(zipfile.ZipFile(file), path, too_large)
            plain = gzip.GzipFile(fileobj=file) if file.peek(2).startswith(_GZIP) else file
            content = plain.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise too_large
        return _of_tar(content, path)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile) as error:
        raise BcdzooError(f"{path} is a damaged archive ({printable(error, 200)}); fetch it again") from None
    except (ValueError, RuntimeError, NotImplementedError, OverflowError) as error:  # encrypted, another compression
        raise BcdzooError(f"{path} cannot be read ({printable(error, 200)}): unpack it first") from None


class _Member(tarfile.TarInfo):
    """A member without long extended headers, for which Python's reader takes the square of their length."""

    def _proc_pax(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.size > _LONGEST_HEADER:
            raise tarfile.ReadError(f"an extended header of {self.size} bytes")
        member: tarfile.TarInfo = super()._proc_pax(archive)  # type: ignore[misc]
        return member


def _of_tar(content: bytes, path: Path) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:", tarinfo=_Member) as archive:
        for number in itertools.count():
            if (member := archive.next()) is None:
                break
            if number > 2 * MOST_FILES:
                raise BcdzooError(f"{path} is no checkpoint: more than {MOST_FILES} files and folders")
            if member.isdir():
                continue
            if not member.isreg() or member.issparse():
                raise BcdzooError(f"{path}: {printable(member.name, 100)} is a link, or not a regular file")
            read = archive.extractfile(member)
            assert read is not None
            _add(files, member.name, read.read(), path)
        if content[archive.offset : archive.offset + tarfile.BLOCKSIZE] != bytes(tarfile.BLOCKSIZE):
            raise tarfile.ReadError("it is cut off")
    return files


def _of_zip(archive: zipfile.ZipFile, path: Path, too_large: BcdzooError) -> dict[str, bytes]:
    entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if sum(entry.file_size for entry in entries) > LARGEST:
        raise too_large
    files: dict[str, bytes] = {}
    for entry in entries:
        with archive.open(entry) as content:
            read = content.read(entry.file_size + 1)
        if len(read) != entry.file_size:
            raise zipfile.BadZipFile("a size that lies")
        _add(files, entry.filename, read, path)
    return files


def _add(files: dict[str, bytes], name: str, content: bytes, path: Path) -> None:
    name = name.removeprefix("./")
    if len(files) >= MOST_FILES or name in files:
        reason = f"{printable(name, 100)} is in it twice" if name in files else f"more than {MOST_FILES} files"
        raise BcdzooError(f"{path} is no checkpoint: {reason}")
    files[name] = content


def write_files(files: Mapping[str, bytes], out: Path) -> None:
    """Write files as one tar archive, always the same for the same names and contents."""
    out.write_bytes(_tar(files))


def sha256_of_weights(path: Path) -> str:
    """Hash of a file; of a folder, that of the archive that :func:`write_files` makes of it.

    Raises:
        BcdzooError: It is neither, or the folder holds more than a checkpoint.
    """
    return hashlib.sha256(_tar(read_files(path))).hexdigest() if path.is_dir() else sha256_of(path)


def _tar(files: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()
