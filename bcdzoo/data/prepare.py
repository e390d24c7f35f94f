"""``bcdzoo prepare``: decode all images of a set once and write them for :mod:`bcdzoo.data.cache`."""

import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock
from tqdm import tqdm

from bcdzoo.data.cache import (
    Prepared,
    change_times,
    encoded,
    find_prepared,
    library_versions,
    pixel_dtype,
    pixel_shape,
    prepared_folder,
)
from bcdzoo.data.imagenet import ImageSet
from bcdzoo.data.pixels import Pixels, loader
from bcdzoo.data.preprocess import Geometry
from bcdzoo.errors import BcdzooError
from bcdzoo.files import sha256_of
from bcdzoo.seal import write_json

_BATCH = 32


def prepare(images: ImageSet, geometry: Geometry, workers: int, progress: bool = False) -> Prepared:
    """Decode, resize and crop all images, unless that was done before.

    Args:
        images: Set of images.
        geometry: Geometry of the networks' preprocessing.
        workers: Number of processes that decode.
        progress: Whether to show a progress bar on stderr.

    Raises:
        BcdzooError: There is too little space on the disk, or what was prepared is damaged.
    """
    folder = prepared_folder(images, geometry)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if known := find_prepared(images, geometry):
            return known
        for leftover in folder.parent.glob(f".{folder.name}.*"):
            shutil.rmtree(leftover)  # left by a killed process, because we hold the lock
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _write(temporary, images, geometry, workers, progress)
            if folder.is_dir():
                shutil.rmtree(folder)  # from other versions
            temporary.replace(folder)
        except OSError as error:
            raise BcdzooError(f"cannot write the prepared images to {folder.parent}: {error.strerror}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return Prepared(folder, len(images), geometry)


def _write(folder: Path, images: ImageSet, geometry: Geometry, workers: int, progress: bool) -> None:
    dtype, shape = pixel_dtype(geometry), pixel_shape(geometry)
    needed = len(images) * int(np.prod(shape)) * dtype.itemsize
    if (free := shutil.disk_usage(folder).free) < needed:
        raise BcdzooError(
            f"{needed / 1e9:.1f} GB are needed in {folder.parent}, but {free / 1e9:.1f} GB are free: make room, or set "
            "BCDZOO_HOME to a folder on another disk"
        )
    unreadable: dict[int, str] = {}
    changed = change_times(images)  # before reading, so that later changes are noticed
    checksums = np.zeros((len(images), 2), np.uint32)
    with (folder / "pixels").open("wb") as file:
        for index, pixels, source in _decoded(images, geometry, workers, progress):
            if isinstance(pixels, str):
                unreadable[index] = pixels
                pixels = np.zeros(shape, dtype)
            file.write(pixels.data)
            checksums[index] = zlib.crc32(pixels.data), source
        _to_disk(file)
    for name, array in ("checksums", checksums), ("times", changed):
        with (folder / f"{name}.npy").open("wb") as file:
            np.save(file, array)
            _to_disk(file)
    facts = {"dtype": dtype.name, "shape": shape, "unreadable": unreadable, "versions": library_versions()}
    write_json(
        folder / "facts.json", facts | {name: sha256_of(folder / f"{name}.npy") for name in ("checksums", "times")}
    )


def _decoded(
    images: ImageSet, geometry: Geometry, workers: int, progress: bool
) -> Iterable[tuple[int, npt.NDArray[Any] | str, int]]:
    """Yield index, pixels or the reason why there are none, and the file's checksum, in order of the indices."""
    batches = [range(start, min(start + _BATCH, len(images))) for start in range(0, len(images), _BATCH)]
    with tqdm(total=len(images), unit=" images", disable=not progress) as bar:
        for indices, crops, bad in loader(Pixels(images, [geometry]), batches, workers):
            good = zip(indices, (crop.numpy() for crop in crops[0]) if crops else (), strict=True)
            for index, pixels in sorted([*good, *bad], key=lambda pair: pair[0]):
                yield index, pixels, zlib.crc32(encoded(images, index))
            bar.update(len(indices) + len(bad))


def _to_disk(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())
