"""Where files live, and how they are written: whole or not at all."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs


def cache_dir() -> Path:
    """Folder of what can be fetched again: ``BCDZOO_HOME``, else the user's cache folder."""
    return Path(os.environ.get("BCDZOO_HOME") or platformdirs.user_cache_dir("bcdzoo"))


def results_dir() -> Path:
    """Folder of what cannot be fetched again: ``BCDZOO_HOME``/results, else in the user's data folder."""
    home = os.environ.get("BCDZOO_HOME")
    return Path(home or platformdirs.user_data_dir("bcdzoo")) / "results"


def sha256_of(path: Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Give a temporary path beside ``path``; on success flush it to disk and rename it, on failure remove it.

    Args:
        path: The final name; its folder is created. An existing file is replaced.

    Yields:
        A path in the same folder, to be written in the ``with`` block.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp's 0600 would hide a shared cache from its other users
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
