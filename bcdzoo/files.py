"""Locations of files, and safe reading and atomic writing of them."""

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path

import platformdirs

from bcdzoo.errors import BcdzooError


def cache_dir() -> Path:
    """Folder for what can be fetched again: ``BCDZOO_HOME``, else the user's cache folder."""
    return Path(os.environ.get("BCDZOO_HOME") or platformdirs.user_cache_dir("bcdzoo"))


def results_dir() -> Path:
    """Folder for results: ``BCDZOO_HOME``/results, else in the user's data folder."""
    home = os.environ.get("BCDZOO_HOME")
    return Path(home or platformdirs.user_data_dir("bcdzoo")) / "results"


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes.

    Raises:
        BcdzooError: It is not a regular file.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file for reading; anything else is refused, because a pipe may block and a device may never end.

    Raises:
        BcdzooError: It is a folder, a named pipe, a socket or a device.
        OSError: It does not exist or cannot be opened.
    """
    return os.fdopen(regular_handle(path), "rb")


def regular_handle(path: str | Path) -> int:
    """Like :func:`open_regular`, but returns a file descriptor, which the caller closes."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # for pipes without a writer
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket cannot be opened at all
            raise _not_regular(path, Path(path).stat().st_mode) from None
        raise
    mode = os.fstat(handle).st_mode
    if not stat.S_ISREG(mode):
        os.close(handle)
        raise _not_regular(path, mode)
    return handle


def _not_regular(path: str | Path, mode: int) -> BcdzooError:
    return BcdzooError(f"{path} is {kind_of(mode)}, not a regular file")


def require_regular(path: Path) -> None:
    """Check that a path is a readable regular file, before passing it to a library.

    Raises:
        BcdzooError: It does not exist, is not a regular file, or cannot be opened.
    """
    try:
        open_regular(path).close()
    except FileNotFoundError:
        raise BcdzooError(f"no file {path}") from None
    except OSError as error:
        raise BcdzooError(f"cannot read {path}: {error.strerror}") from None


def own_place(path: Path) -> None:
    """Remove anything but a plain file of ours from a path that will be written: a link, a pipe, a device.

    The target of a link is not touched, nor is the other name of a hard link.

    Raises:
        OSError: It cannot be removed; it is a folder.
    """
    with suppress(FileNotFoundError):
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            path.unlink()


def kind_of(mode: int) -> str:
    """Describe what is not a regular file by its ``st_mode``."""
    kinds = {
        stat.S_IFDIR: "a folder",
        stat.S_IFIFO: "a named pipe",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a device",
        stat.S_IFBLK: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "something else")


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield a temporary path whose content replaces ``path`` on success; on failure nothing changes.

    A regular file, or the target of a link, is replaced by a flush to disk and a rename. For a pipe or
    device the finished content is written directly. Leftovers of killed processes in the folder are removed.

    Args:
        path: Final name; its folder is created. An existing file is replaced.

    Yields:
        The path to write in the ``with`` block.

    Raises:
        OSError: The folder cannot be made or written to; ``path`` is a folder.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not path.is_file():  # before links are resolved: a shell's pipe has no other name
        with tempfile.TemporaryDirectory(prefix="bcdzoo-") as elsewhere:
            temporary = Path(elsewhere, "content")
            temporary.touch()
            yield temporary
            with temporary.open("rb") as content, path.open("wb", buffering=0) as target:
                shutil.copyfileobj(content, target)
        return
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path.parent)
    handle, name = tempfile.mkstemp(
        prefix=f".{os.fsencode(path.name)[:100].decode(errors='ignore')}{_OURS}", suffix=".tmp", dir=path.parent
    )
    temporary = Path(name)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(handle, fcntl.LOCK_EX)  # so that no other process removes it as a leftover
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(_mode_of(path))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


@contextmanager
def only_process(folder: Path, doing: str) -> Iterator[None]:
    """Lock a folder against other processes that do the same; leftovers of killed ones are removed.

    Args:
        folder: Folder to lock, created if missing; it gets a file ``lock``, which stays.
        doing: Activity for the message "another process is …".

    Raises:
        BcdzooError: Another process has locked it.
        OSError: The folder cannot be made or written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    _held.add(handle)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BcdzooError(f"another process is {doing} ({folder}): wait for it or stop it") from None
        except OSError:  # a file system without locks
            pass
        remove_leftovers(folder)
        yield
    finally:
        _held.discard(handle)
        os.close(handle)


def _mode_of(path: Path) -> int:
    """Return the mode of an existing file, or that of a new file, which mkstemp would restrict to the owner."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except FileNotFoundError:
        umask = os.umask(0)
        os.umask(umask)
        return 0o666 & ~umask


_held: set[int] = set()


def _close_locks() -> None:
    # Otherwise a worker that outlives its killed parent would keep the lock.
    while _held:
        os.close(_held.pop())


os.register_at_fork(after_in_child=_close_locks)

_OURS = ".bcdzoo-"


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed processes in a folder, but none that is being written."""
    for leftover in folder.glob(f".*{_OURS}*.tmp"):
        if leftover.is_symlink():
            continue
        # errors: gone meanwhile, not ours, a pipe, or still being written
        with suppress(OSError, BcdzooError), open_regular(leftover) as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink()
