"""Fetching a checkpoint of several files, one after the other, into one archive."""

import hashlib
import io
import tarfile
from pathlib import Path
from urllib.parse import quote

import requests
from tqdm import tqdm

from bcdzoo.errors import BcdzooError
from bcdzoo.files import own_place
from bcdzoo.text import masked, printable
from bcdzoo.weights.bundle import LARGEST, read_files, write_files
from bcdzoo.weights.download import discard, download
from bcdzoo.weights.manifest import Checkpoint


def collect(checkpoint: Checkpoint, part: Path) -> None:
    """Download the files of a checkpoint, each checked, going on from what an interrupted call left in ``part``.

    Args:
        checkpoint: An entry of the manifest with ``files``.
        part: The archive; what has arrived is in it at any moment.

    Raises:
        BcdzooError: A file cannot be had or is not what it should be.
        OSError: The archive cannot be written.
    """
    files = {name: content for name, content in _arrived(part).items() if _is_right(checkpoint, name, content)}
    one = part.with_name(part.name + ".one")
    own_place(part)
    _write(files, part)
    with (
        part.open("r+b") as file,
        tarfile.open(fileobj=file, mode="a", format=tarfile.USTAR_FORMAT) as archive,
        requests.Session() as session,
    ):
        # disable=None: only when stderr is a terminal
        for name in tqdm(sorted(checkpoint.files), unit=" files", desc=checkpoint.filename, disable=None):
            if name in files:
                continue
            url = checkpoint.url + quote(name)
            download(url, one, checked=True, most=LARGEST, session=session)
            if one.stat().st_size > LARGEST:
                raise BcdzooError(f"{checkpoint.name}: {masked(url)} has more than {LARGEST >> 20} MiB")
            content = one.read_bytes()
            discard(one)
            if not _is_right(checkpoint, name, content):
                raise BcdzooError(f"{checkpoint.name}: {masked(url)} is not the published file: its sha256 differs")
            files[name] = content
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
            file.flush()
    _write(files, part)


def _write(files: dict[str, bytes], part: Path) -> None:
    """Replace the archive as a whole, so that a kill loses nothing of what has arrived."""
    new = part.with_name(part.name + ".new")
    own_place(new)
    write_files(files, new)
    new.replace(part)


def take(checkpoint: Checkpoint, given: Path, copy: Path) -> None:
    """Pack the files of a checkpoint that somebody has, in a folder or an archive and perhaps below a folder in it.

    Raises:
        BcdzooError: They are not all there.
        OSError: The archive cannot be written.
    """
    there = read_files(given)
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in there.items()}
    first = min(checkpoint.files)
    for name in there:
        prefix = name.removesuffix(first)
        if name.endswith(first) and all(hashes.get(prefix + n) == sha256 for n, sha256 in checkpoint.files.items()):
            return write_files({name: there[prefix + name] for name in checkpoint.files}, copy)
    wrong = [name for name, sha256 in checkpoint.files.items() if sha256 not in hashes.values()]
    some = ", ".join(printable(name, 60) for name in wrong[:3]) or "all of them together"
    raise BcdzooError(f"{checkpoint.name}: {given} does not hold the published files: {some}")


def _is_right(checkpoint: Checkpoint, name: str, content: bytes) -> bool:
    return hashlib.sha256(content).hexdigest() == checkpoint.files.get(name)


def _arrived(part: Path) -> dict[str, bytes]:
    """The whole files in an archive that was perhaps cut off."""
    files: dict[str, bytes] = {}
    if not part.is_file() or part.is_symlink() or part.stat().st_size > 2 * LARGEST:
        return files
    try:
        with tarfile.open(fileobj=io.BytesIO(part.read_bytes()), mode="r:") as archive:
            for member in archive:
                if member.isreg() and (content := archive.extractfile(member)):
                    files[member.name] = content.read()
    except (tarfile.TarError, ValueError, OverflowError, EOFError):  # what came before is whole, and is checked
        pass
    return files
