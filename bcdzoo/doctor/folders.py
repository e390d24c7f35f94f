"""The user's settings, and the folders that bcdzoo writes to."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bcdzoo.doctor.finding import Finding
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.store import read_store
from bcdzoo.files import cache_dir, results_dir
from bcdzoo.weights.fetch import cached, read_record
from bcdzoo.weights.manifest import Manifest

_LITTLE = 2e9  # bytes; a large network's file, and the same converted, are some hundreds of MB
_SETTINGS = ("BCDZOO_", "HF_", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def settings() -> Iterator[Finding]:
    """Yield the environment variables that affect bcdzoo; passwords and tokens are masked."""
    for name, value in sorted(os.environ.items()):
        if name.upper().startswith(_SETTINGS):
            yield Finding("ok", "setting", f"{name}={'…' if 'TOKEN' in name.upper() else value}")


def folders(manifest: Manifest) -> Iterator[Finding]:
    """The cache and the results store.

    Args:
        manifest: Manifest whose checkpoints may be cached.
    """
    yield _folder("cache", cache_dir(), "set BCDZOO_HOME to a folder of yours")
    yield from _checkpoints(manifest)
    yield _folder("results", results_dir(), "set BCDZOO_HOME to a folder of yours, or evaluate with --no-store")
    yield from _runs()


def _folder(subject: str, folder: Path, advice: str) -> Finding:
    try:
        place = next(place for place in (folder, *folder.parents) if place.exists())
        with tempfile.TemporaryFile(dir=place) as file:  # the folder itself is only created when needed
            file.write(b"bcdzoo")
        free = shutil.disk_usage(place).free
    except OSError as error:
        return Finding("problem", subject, f"cannot write to {folder}: {error.strerror}", advice)
    text = f"{folder} is writable, {free / 1e9:.1f} GB free"
    return Finding("ok", subject, text) if free > _LITTLE else Finding("note", subject, text, f"free some, or {advice}")


def _checkpoints(manifest: Manifest) -> Iterator[Finding]:
    sizes = []
    for checkpoint in manifest.checkpoints:
        try:
            read_record(checkpoint)
            if path := cached(checkpoint):
                sizes.append(path.stat().st_size)
        except (BcdzooError, OSError) as error:
            yield Finding("note", "checkpoints", str(error), f"bcdzoo fetch {checkpoint.model} --tag {checkpoint.tag}")
    text = f"{len(sizes)} of {len(manifest.checkpoints)} cached, {sum(sizes) / 1e6:.1f} MB"
    yield Finding("ok", "checkpoints", text)


def _runs() -> Iterator[Finding]:
    results, damaged = read_store()
    unfinished = len(list(results_dir().glob("unfinished/*/run.json")))
    text = f"{len(results)} in the results store" + (f", {unfinished} unfinished" if unfinished else "")
    yield Finding("ok", "runs", text)
    for path, reason in damaged.items():
        yield Finding("note", "runs", f"{path} is left out: {reason}", "delete it and evaluate again")
