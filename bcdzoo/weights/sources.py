"""Sources of checkpoints: a local file, a mirror, the hub, any URL, OneDrive, Google Drive."""

import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from bcdzoo.errors import BcdzooError
from bcdzoo.files import open_regular, own_place
from bcdzoo.text import masked, printable
from bcdzoo.weights.limits import LARGEST
from bcdzoo.weights.manifest import Checkpoint

SHIPPED = Path(__file__).parent / "shipped"
"""Checkpoints in this package."""

_CHECKPOINT_SUFFIXES = (".pth", ".pth.tar", ".pt", ".tar")


def obtain(checkpoint: Checkpoint, final: Path, from_file: Path | None) -> tuple[Path, str]:
    """Obtain a file that should be the checkpoint; nothing is checked yet.

    Args:
        checkpoint: Entry of the manifest.
        final: Final name of the file; what arrives is collected beside it, resuming what a killed run left there.
        from_file: File to copy instead of downloading.

    Returns:
        The file (beside ``final``, or in the hub's own cache), and where it came from.

    Raises:
        BcdzooError: It cannot be obtained.
        OSError: It cannot be written.
    """
    if from_file is not None:
        return (_pack if checkpoint.files else _copy)(checkpoint, from_file, final), str(from_file)
    if checkpoint.source == "package":
        return _copy(checkpoint, SHIPPED / checkpoint.filename, final), f"this package's own {checkpoint.filename}"
    if found := _from_mirror(checkpoint, final):
        return found
    if (forbidden := offline()) and checkpoint.source != "hf":
        raise BcdzooError(f"{checkpoint.name} is not in the cache and {forbidden} is set; unset it, or use --from FILE")
    link = origin(checkpoint)
    match checkpoint.source:
        case "hf":
            return _from_hub(checkpoint, forbidden), link
        case "url":
            return _from_url(checkpoint, link, final), link
        case "files":
            return _from_folder(checkpoint, final), link
        case "onedrive":
            return _from_url(checkpoint, direct(checkpoint), final), link
        case "gdrive":
            return _from_drive(checkpoint, checkpoint.gdrive_id, final), link
        case "gdrive-folder":
            return _from_drive(checkpoint, _file_in_drive_folder(checkpoint, final), final), link
    raise BcdzooError(f"{checkpoint.name} can only be fetched by hand; {by_browser(checkpoint)}")


def origin(checkpoint: Checkpoint) -> str:
    """The link to a checkpoint that a browser can open; "" for a manual one without a page."""
    match checkpoint.source:
        case "hf":
            return f"https://huggingface.co/{checkpoint.hf_repo}/resolve/{checkpoint.hf_revision}/{checkpoint.filename}"
        case "gdrive":
            return f"https://drive.google.com/file/d/{checkpoint.gdrive_id}/view"
        case "gdrive-folder":
            return f"https://drive.google.com/drive/folders/{checkpoint.gdrive_id}"
    return checkpoint.url


def direct(checkpoint: Checkpoint) -> str:
    """The link that a program requests, which may differ from a browser's."""
    link = origin(checkpoint)
    return _with_query(link, download="1") if checkpoint.source == "onedrive" else link


def by_browser(checkpoint: Checkpoint) -> str:
    """Instructions for a download that only works in a browser."""
    where = f" from {masked(origin(checkpoint))}" if origin(checkpoint) else ""
    command = f"bcdzoo fetch {checkpoint.model} --tag {checkpoint.tag} --from FILE"
    return f"download it with a browser{where} and run `{command}`"


def place(checkpoint: Checkpoint) -> str:
    """Relative path of a checkpoint in the cache's ``checkpoints`` folder, and in a mirror."""
    filename = checkpoint.filename or f"{checkpoint.tag}.bin"  # the content decides how it is read, not the suffix
    return "/".join(map(quoted, (checkpoint.model, checkpoint.tag, filename)))


def quoted(name: str) -> str:
    """Turn any string into a file name, without separators and leading dot."""
    name = quote(name, safe=" +=,@")
    return "%2E" + name[1:] if name.startswith(".") else name


def offline() -> str | None:
    """The environment variable that forbids network access, if one is set."""
    for variable in ("BCDZOO_OFFLINE", "HF_HUB_OFFLINE"):
        if os.environ.get(variable, "").lower() in ("1", "true", "yes", "on"):
            return variable
    return None


def mirror() -> Path | str | None:
    """Return what ``BCDZOO_MIRROR`` names: a folder, or a base URL without a trailing slash.

    Raises:
        BcdzooError: It names neither.
    """
    named = os.environ.get("BCDZOO_MIRROR")
    if not named:
        return None
    if named.startswith(("http://", "https://")):
        return named.rstrip("/")
    folder = Path(named).expanduser()
    if not folder.is_dir():
        raise BcdzooError(
            f"BCDZOO_MIRROR is {masked(named)}, which is neither a folder nor begins with http:// or https://"
        )
    return folder


def places_in_mirror(checkpoint: Checkpoint) -> list[str]:
    """Relative paths at which a mirror may have a checkpoint."""
    places = [place(checkpoint)]
    if checkpoint.filename and (checkpoint.hashes or checkpoint.files):  # a bare name is ambiguous without a hash
        places.append(checkpoint.filename.rpartition("/")[2])
    return places


def leftovers(final: Path) -> list[Path]:
    """Files that unfinished fetches left beside ``final``."""
    prefixes = tuple(final.name + suffix for suffix in (".part", ".copy", ".drive"))
    return [path for path in final.parent.iterdir() if path.name.startswith(prefixes)]


def _beside(final: Path, suffix: str) -> Path:
    return final.with_name(final.name + suffix)


def _copy(checkpoint: Checkpoint, file: Path, final: Path) -> Path:
    copy = _beside(final, ".copy")
    with open_regular(file) as source:
        size = os.fstat(source.fileno()).st_size
        if checkpoint.size not in (None, size):
            raise BcdzooError(f"{checkpoint.name}: {file} has {size:,} bytes instead of {checkpoint.size:,}")
        if (free := shutil.disk_usage(final.parent).free) < size:
            raise BcdzooError(f"{file} has {size:,} bytes, too many for {final.parent}, where {free:,} are free")
        copy.unlink(missing_ok=True)  # also if it is a link
        with copy.open("xb") as target:
            while size and (piece := source.read(min(size, 1 << 20))):  # no more, even if the file grows
                target.write(piece)
                size -= len(piece)
    return copy


def _from_mirror(checkpoint: Checkpoint, final: Path) -> tuple[Path, str] | None:
    given = mirror()
    if given is None:
        return None
    if isinstance(given, str):
        return None if offline() else _from_mirror_url(checkpoint, given, final)
    for relative in places_in_mirror(checkpoint):
        if (given / relative).exists():
            return _copy(checkpoint, given / relative, final), str(given / relative)
    return None


def _from_mirror_url(checkpoint: Checkpoint, base: str, final: Path) -> tuple[Path, str] | None:
    from bcdzoo.weights.download import RefusedError, download

    for relative in places_in_mirror(checkpoint):
        url, part = f"{base}/{quote(relative)}", _beside(final, ".part")
        try:
            download(url, part, checked=bool(checkpoint.hashes or checkpoint.files), size=checkpoint.size)
        except RefusedError:
            continue
        return part, url
    return None


def _from_url(checkpoint: Checkpoint, url: str, final: Path) -> Path:
    from bcdzoo.weights.download import RefusedError, download

    part = _beside(final, ".part")
    try:
        download(url, part, checked=bool(checkpoint.hashes), size=checkpoint.size)
    except RefusedError as error:
        raise BcdzooError(f"{checkpoint.name}: {error}; {by_browser(checkpoint)}") from error
    return part


def _from_folder(checkpoint: Checkpoint, final: Path) -> Path:
    from bcdzoo.weights.collect import collect
    from bcdzoo.weights.download import RefusedError

    part = _beside(final, ".part")
    try:
        collect(checkpoint, part)
    except RefusedError as error:
        raise BcdzooError(f"{checkpoint.name}: {error}; {by_browser(checkpoint)}") from error
    return part


def _pack(checkpoint: Checkpoint, given: Path, final: Path) -> Path:
    from bcdzoo.weights.collect import take

    copy = _beside(final, ".copy")
    copy.unlink(missing_ok=True)  # also if it is somebody's link
    take(checkpoint, given, copy)
    return copy


def _with_query(url: str, **values: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(query=urlencode([*parse_qsl(parts.query), *values.items()])))


def _no_more_than(checkpoint: Checkpoint) -> Callable[[int], None]:
    return no_more_than(checkpoint.size or LARGEST, checkpoint.name, f"; {by_browser(checkpoint)}")


def no_more_than(most: int, name: str, advice: str = "") -> Callable[[int], None]:
    """Return a progress callback that stops a client library when too many bytes have arrived."""

    def check(size: int) -> None:
        if size > most:
            raise BcdzooError(f"{name}: more than {most:,} bytes arrive{advice}")

    return check


def _from_hub(checkpoint: Checkpoint, forbidden: str | None) -> Path:
    try:
        return from_hub(
            checkpoint.hf_repo, checkpoint.filename, checkpoint.hf_revision, forbidden, _no_more_than(checkpoint)
        )
    except HubError as error:
        where = masked(origin(checkpoint))
        raise BcdzooError(f"{checkpoint.name}: {error}, or use --from FILE ({where})") from error


class HubError(BcdzooError):
    """The hub does not have a file, or cannot be reached."""


def from_hub(repo: str, filename: str, revision: str, forbidden: str | None, check: Callable[[int], None]) -> Path:
    """Fetch a file into the hub's own cache, unless it is there.

    Args:
        repo: ``OWNER/NAME``.
        filename: File in the repository.
        revision: Commit, branch or tag.
        forbidden: Environment variable that forbids network access, if one is set.
        check: Called with the number of bytes that have come; raises to stop.

    Raises:
        HubError: The hub does not have it, or cannot be reached.
        OSError: It cannot be written.
    """
    from huggingface_hub import errors, hf_hub_download
    from huggingface_hub.utils.tqdm import tqdm

    class Bounded(tqdm):
        """The client's progress bar, which sees every piece."""

        come = 0

        def update(self, n: float | None = 1) -> Any:
            self.come += int(n or 0)
            check(self.come)
            return super().update(n)

    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    if not sys.stderr.isatty():  # its notes on retries are progress messages
        logger.setLevel(logging.ERROR)
    try:
        return Path(
            hf_hub_download(repo, filename, revision=revision, local_files_only=bool(forbidden), tqdm_class=Bounded)
        )
    except errors.GatedRepoError:
        reason = f"{repo} is gated: accept its terms on its page and log in with `hf auth login`"
    except errors.RepositoryNotFoundError:
        reason = f"the hub has no repository {repo}, or it is private: log in with `hf auth login`"
    except errors.RevisionNotFoundError:
        reason = f"{repo} has no revision {revision}"
    except errors.LocalEntryNotFoundError:
        if forbidden:
            reason = f"it is not in the cache and {forbidden} is set; unset it"
        else:
            reason = "the hub cannot be reached, and the file is not in its cache; run again later"
    except errors.EntryNotFoundError:
        reason = f"{repo} has no file {filename} at revision {revision}"
    except BcdzooError:
        raise
    except Exception as error:  # the hub's client does not wrap its HTTP library's errors
        if isinstance(error, OSError) and error.errno:
            raise  # a disk error
        reason = printable(masked(" ".join(f"the hub failed: {error}".split())), 500)
    finally:
        logger.setLevel(level)
    raise HubError(reason)


def _from_drive(checkpoint: Checkpoint, file_id: str, final: Path) -> Path:
    import gdown
    import requests

    check = _no_more_than(checkpoint)
    target = _beside(final, ".drive")  # gdown keeps what has arrived in <target>????????.part
    for place in leftovers(final):
        own_place(place)
    try:
        gdown.download(
            id=file_id,
            output=str(target),
            quiet=not sys.stderr.isatty(),
            resume=True,
            timeout=60,
            retries=4,
            progress=lambda come, _: check(come),
        )
    except (gdown.DownloadError, requests.RequestException, KeyError, BcdzooError) as error:
        too_much = isinstance(error, BcdzooError)
        if too_much or "byte range" in str(error):  # what has arrived cannot be resumed
            for partial in leftovers(final):
                partial.unlink(missing_ok=True)
        if too_much:
            raise
        raise _drive_error(checkpoint, error) from error
    return target


def _file_in_drive_folder(checkpoint: Checkpoint, final: Path) -> str:
    """Find the id of the file named by the manifest, or of the only possible checkpoint."""
    import gdown
    import requests

    try:
        listing = gdown.download_folder(
            id=checkpoint.gdrive_id, output=str(final.parent), skip_download=True, quiet=True, timeout=60
        )
    except (gdown.DownloadError, requests.RequestException, KeyError) as error:
        raise _drive_error(checkpoint, error) from error
    wanted = checkpoint.filename
    ids: dict[str, str] = {file.path: file.id for file in listing if not isinstance(file, str)}
    found = [path for path in ids if (path == wanted if wanted else path.lower().endswith(_CHECKPOINT_SUFFIXES))]
    if len(found) != 1:
        raise BcdzooError(
            f"{checkpoint.name}: cannot tell which file of {origin(checkpoint)} is {wanted or 'the checkpoint'}: "
            f"it has {_some(sorted(ids)) or 'none'}; {by_browser(checkpoint)}"
        )
    return ids[found[0]]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 10:,} more" if len(names) > 10 else ""
    return ", ".join(printable(name, 100) for name in names[:10]) + more


def _drive_error(checkpoint: Checkpoint, error: Exception) -> BcdzooError:
    missing_header = isinstance(error, KeyError)  # gdown indexes into the answer
    reason = f"an answer without {error}" if missing_header else " ".join(str(error).split())
    reason = reason.removeprefix("Failed to retrieve file url: ").partition(" You may still be able to access")[0]
    reason = printable(masked(reason), 500)
    return BcdzooError(f"{checkpoint.name}: Google Drive did not send the file: {reason}; {by_browser(checkpoint)}")
