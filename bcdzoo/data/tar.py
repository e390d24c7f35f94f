"""Layout ``tar``: an archive of images that is read where it lies; nothing is unpacked, no member's path is used."""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bcdzoo.data.classes import wnids
from bcdzoo.data.folders import File, by_class_folder, by_official_name
from bcdzoo.data.labels import as_number
from bcdzoo.data.samples import FileRange, Listing, is_image, relative
from bcdzoo.errors import BcdzooError

_COMPRESSED = {b"\x1f\x8b": "gunzip", b"BZh": "bunzip2", b"\xfd7zXZ\0": "unxz", b"\x28\xb5\x2f\xfd": "unzstd"}


class Member(NamedTuple):
    """A file or a folder in an archive.

    Attributes:
        name: Its path there, without ``./`` or a leading ``/``.
        read: Gives its bytes; None for a folder.
    """

    name: str
    read: FileRange | None


def members(path: Path) -> Iterator[Member]:
    """The files and folders in an archive, in its order.

    Raises:
        BcdzooError: It is compressed, cut off, or no tar archive; or a member is a link or sparse.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(6)
        for magic, program in _COMPRESSED.items():
            if start.startswith(magic):
                raise BcdzooError(f"{path} is compressed, and images cannot be read at random: `{program}` it first")
        file.seek(0)
        last = "its start"
        try:
            with tarfile.open(fileobj=file, mode="r:") as archive:
                while member := archive.next():
                    archive.members.clear()  # type: ignore[attr-defined]  # tarfile would keep them all in memory
                    last = member.name
                    if member.isdir():
                        yield Member(relative(member.name), None)
                    elif member.islnk() or member.issym() or member.issparse():
                        raise BcdzooError(
                            f"{path}: {member.name} is a link or a sparse file; pack the files themselves "
                            "(tar --dereference --hard-dereference)"
                        )
                    elif member.isreg():
                        yield Member(relative(member.name), FileRange(str(path), member.offset_data, member.size))
                # At a damaged header, or a file that ends early, tarfile just stops: only zeros mark the end.
                file.seek(archive.offset)
                if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                    raise tarfile.ReadError("no end mark")
        except (tarfile.TarError, ValueError, OverflowError) as error:
            if last == "its start":
                raise BcdzooError(f"{path} is not a tar archive: {error}") from error
            raise BcdzooError(f"{path} is cut off or damaged after {last}: {error}; fetch it anew") from error


def tar_archive(path: Path, classes: int) -> Listing:
    """List an archive of class folders or of officially named validation images, as the folder would be.

    Raises:
        BcdzooError: It cannot be read in place, or is not understood as a folder.
        OSError: It cannot be read.
    """
    images, folders = [], []
    for member in members(path):
        if member.read is None:
            folders.append(member.name)
        elif is_image(member.name.rpartition("/")[2]):
            images.append(File(member.name, member.read))
    root = _root([image.name for image in images])
    files = [File(image.name.removeprefix(root), image.read) for image in images if image.name.startswith(root)]
    inside = [name.removeprefix(root) + "/" for name in folders if name.startswith(root)]
    tops = {name.partition("/")[0] for name in (*inside, *(file.name for file in files)) if "/" in name}
    visible = sorted(top for top in tops if not top.startswith("."))
    if visible:
        return by_class_folder(str(path), files, visible, classes)
    return by_official_name(str(path), files, classes)


def _root(names: list[str]) -> str:
    """The folder of the classes or the images: ``val/`` if there is one, else below what all have in common."""
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
