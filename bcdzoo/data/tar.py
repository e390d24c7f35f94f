"""Layout ``tar``: an archive of images, read in place; nothing is unpacked, no member's path is used.

Archives of one class each, ``n01440764.tar`` in a folder or in an archive (as ImageNet's training set is distributed),
are read as class folders.
"""

import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from bcdzoo.data.classes import wnids
from bcdzoo.data.folders import File, by_class_folder, by_official_name, validation_root
from bcdzoo.data.labels import as_number
from bcdzoo.data.names import SkippedFiles, is_image, is_litter, relative, shown, some
from bcdzoo.data.samples import FileRange, Listing
from bcdzoo.errors import BcdzooError
from bcdzoo.files import open_regular

_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ\0": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}
_LONGEST_HEADER = 1 << 16  # bytes of a member's extended header: a long name, attributes
_SPECIAL = {
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
}
_WNID_TAR = re.compile(r"(?:.*/)?(n\d{8})\.tar", re.ASCII)


class Member(NamedTuple):
    """A file or a folder in an archive.

    Attributes:
        name: Path in the archive, without ``./`` or a leading ``/``.
        read: Reader of its bytes; None for a folder.
    """

    name: str
    read: FileRange | None


class _Bounded(tarfile.TarInfo):
    """A member whose size is checked before tarfile reads or seeks that far."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.size < 0 or (self.type in _SPECIAL and self.size > _LONGEST_HEADER):
            raise tarfile.ReadError(f"a header of {self.size} bytes")
        return super()._proc_member(archive)  # type: ignore[misc]


def members(path: Path, inner: File | None = None) -> Iterator[Member]:
    """Yield the files and folders in an archive, in order.

    Args:
        path: File to read.
        inner: Archive inside the file to read instead; None for the file itself.

    Raises:
        BcdzooError: It is compressed, truncated, or not a tar archive; or a member is a link or sparse.
        OSError: It cannot be read.
    """
    what = f"{path}: {shown(inner.name)}" if inner else str(path)
    with open_regular(path) as file:
        begin, size = (inner.read.offset, inner.read.size) if inner else (0, os.fstat(file.fileno()).st_size)
        end = begin + size
        file.seek(begin)
        start = file.read(6)
        for magic, program in _COMPRESSED.items():
            if start.startswith(magic):
                raise BcdzooError(f"{what} is compressed, so images cannot be read in place: `{program}` it first")
        file.seek(begin)
        last = "its start"
        try:
            with tarfile.open(fileobj=file, mode="r:", tarinfo=_Bounded) as archive:
                before = -1
                while member := archive.next():
                    archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep them all in memory
                    if member.offset <= before or member.offset_data + member.size > end:
                        raise tarfile.ReadError("a member beyond the end")
                    last, before = member.name, member.offset
                    if member.isdir():
                        yield Member(relative(member.name), None)
                    elif member.islnk() or member.issym() or member.issparse():
                        raise BcdzooError(
                            f"{what}: {shown(member.name)} is a link or a sparse file; pack the files themselves "
                            "(tar --dereference --hard-dereference)"
                        )
                    elif member.isreg():
                        yield Member(relative(member.name), FileRange(str(path), member.offset_data, member.size))
                # tarfile just stops at a damaged header or a truncated file; only zeros mark the end.
                file.seek(archive.offset)
                if archive.offset + tarfile.BLOCKSIZE > end or file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise tarfile.ReadError("no end mark")
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            if last == "its start":
                raise BcdzooError(f"{what} is not a tar archive: {error}") from error
            raise BcdzooError(f"{what} is cut off or damaged after {shown(last)}: {error}; fetch it again") from error


def tar_archive(path: Path, classes: int) -> Listing:
    """List an archive of class folders or of officially named validation images, like the folder.

    Args:
        path: Archive, or a folder of archives of one class each.
        classes: Number of outputs of the network.

    Raises:
        BcdzooError: It cannot be read in place, or has a different structure.
        OSError: It cannot be read.
    """
    images: list[File] = []
    archives: list[File] = []
    folders: list[str] = []
    skipped = SkippedFiles()
    for member in _class_archives(validation_root(path, skipped)) if path.is_dir() else members(path):
        if member.name == "." or is_litter(member.name):
            continue
        if member.read is None:
            folders.append(member.name)
        elif is_image(member.name):
            images.append(File(member.name, member.read))
        elif member.name.lower().endswith(".tar"):
            archives.append(File(member.name, member.read))
        else:
            skipped.other(member.name)
    if images:
        for archive in archives:
            skipped.other(archive.name)
    elif archives:
        images = list(_unpacked(path, archives, skipped))
    root = _root([image.name for image in images])
    for image in images:
        if not image.name.startswith(root):
            skipped.add(f"images skipped that are not in {root}", image.name)
    files = [File(image.name.removeprefix(root), image.read) for image in images if image.name.startswith(root)]
    inside = [name.removeprefix(root) + "/" for name in folders if name.startswith(root)]
    tops = sorted({name.partition("/")[0] for name in (*inside, *(file.name for file in files)) if "/" in name})
    if tops:
        return by_class_folder(str(path), files, tops, classes, skipped)
    return by_official_name(str(path), files, classes, skipped)


def class_archives(folder: Path) -> list[Path]:
    """List the archives in a folder if all are named after a wnid, like ``n01440764.tar``; else none."""
    archives = [path for path in sorted(folder.glob("*.tar")) if not is_litter(path.name)]
    return archives if all(_WNID_TAR.fullmatch(path.name) for path in archives) else []


def _class_archives(folder: Path) -> Iterator[Member]:
    archives = class_archives(folder)
    if not archives:
        raise BcdzooError(
            f"{folder} is not an archive, and has none that are named after their class, like n01440764.tar"
        )
    for path in archives:
        yield Member(path.name, FileRange(str(path), 0, path.stat().st_size))


def _unpacked(path: Path, archives: list[File], skipped: SkippedFiles) -> Iterator[File]:
    """Yield the images in archives of one class each, as if each were a folder."""
    others = [archive.name for archive in archives if not _WNID_TAR.fullmatch(archive.name)]
    if others:
        raise BcdzooError(
            f"{path} holds archives ({some(others)}), but only those of one class each, named like n01440764.tar, "
            "are read in place: unpack it and use one of them, or a folder of class folders"
        )
    for archive in archives:
        for member in members(Path(archive.read.path), archive):
            name = f"{archive.name[:-4]}/{member.name}"
            if member.read is None or is_litter(member.name):
                continue
            if is_image(member.name):
                yield File(name, member.read)
            else:
                skipped.other(name)


def _root(names: list[str]) -> str:
    """Return the folder of the classes or images: ``val/`` if there is one, else the common prefix of all."""
    root = ""
    while names:
        if any(name.startswith("val/") for name in names):
            return f"{root}val/"
        top = names[0].partition("/")[0]
        if not all(name.startswith(f"{top}/") for name in names) or top in wnids() or as_number(top) is not None:
            break
        root += f"{top}/"
        names = [name.removeprefix(f"{top}/") for name in names]
    return root
