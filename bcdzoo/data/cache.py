"""Decoded, resized and cropped images on disk, so that later runs need not decode: what ``bcdzoo prepare`` writes.

A folder per set of images and geometry, below the cache folder: the pixels of all images in one file that is mapped
into memory, a checksum of each image's pixels and of the file it was decoded from, and the images that could not be
read with the reason. Results from it are those from the files, bit for bit.
"""

import os
import shutil
import tempfile
import zlib
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import PIL
import torch
import torchvision
from filelock import FileLock
from torch import Tensor
from tqdm import tqdm

from bcdzoo.data.imagenet import ImageSet
from bcdzoo.data.pixels import Pixels, loader
from bcdzoo.data.preprocess import Geometry
from bcdzoo.errors import BcdzooError
from bcdzoo.files import cache_dir, require_regular, sha256_of
from bcdzoo.seal import read_json, write_json
from bcdzoo.text import say

_SPREAD = 64  # files compared with their checksums before a cache is used, beside all that may have changed
_BATCH = 32


class Prepared:
    """Pixels of one set of images under one geometry.

    Args:
        folder: As :func:`prepare` wrote it.
        images: How many there are.
        geometry: Theirs.

    Raises:
        BcdzooError: The folder is damaged.
    """

    def __init__(self, folder: Path, images: int, geometry: Geometry) -> None:
        self.folder = folder
        self.shape = (images, *_shape(geometry))
        self.dtype = _dtype(geometry)
        checksums = folder / "checksums.npy"
        try:
            for name in ("facts.json", "checksums.npy", "pixels"):
                require_regular(folder / name)
            self.facts, sealed = read_json(folder / "facts.json")
            if sealed and self.facts["checksums"] != sha256_of(checksums):
                raise ValueError("checksums.npy is not what was written")
            # of the pixels and of the file; mapped, because a header may say any size
            self.checksums = np.array(np.load(checksums, mmap_mode="r", allow_pickle=False))
            self.unreadable = {int(index): str(reason) for index, reason in self.facts["unreadable"].items()}
            self.versions = dict(self.facts["versions"])
            self.changed = self._times(images) if "times" in self.facts else None
            size = (folder / "pixels").stat().st_size
        except (OSError, ValueError, KeyError, AttributeError, TypeError, EOFError, BcdzooError) as error:
            raise self._damaged(str(error)) from error
        if self.checksums.shape != (images, 2) or self.checksums.dtype != np.uint32:
            raise self._damaged("its checksums are not of the right size")
        if size != self.dtype.itemsize * int(np.prod(self.shape)):
            raise self._damaged("its pixels are not of the right size")
        if not sealed:
            say(f"{folder} is of an older version: which images were unreadable is unchecked")

    @cached_property
    def _pixels(self) -> npt.NDArray[Any]:
        return np.memmap(self.folder / "pixels", self.dtype, "r", shape=self.shape)

    def pixels(self, index: int) -> Tensor:
        """Pixels of one image, as :meth:`Geometry.pixels` gives them.

        Raises:
            BcdzooError: The image could not be read when the cache was made; or the cache is damaged.
        """
        if index in self.unreadable:
            raise BcdzooError(self.unreadable[index])
        pixels = np.array(self._pixels[index])  # a copy: torch wants writable memory
        if zlib.crc32(pixels.data) != self.checksums[index, 0]:
            raise self._damaged(f"image {index} has another checksum")
        return torch.from_numpy(pixels)

    def check(self, images: ImageSet) -> None:
        """Compare files with those that were prepared: all that were touched since, and some others, spread evenly.

        Raises:
            BcdzooError: A file has changed although its name and size have not.
        """
        spread = np.linspace(0, len(images) - 1, min(_SPREAD, len(images)), dtype=int)
        now = _changed(images)
        touched = np.flatnonzero((self.changed != now) | (now < 0)) if self.changed is not None else range(len(images))
        for index in sorted({*map(int, spread), *map(int, touched)}):
            if zlib.crc32(_encoded(images, index)) != self.checksums[index, 1]:
                raise BcdzooError(
                    f"{images.samples[index].id} has changed since `bcdzoo prepare`: remove {self.folder} and prepare "
                    "again"
                )

    def _times(self, images: int) -> npt.NDArray[np.int64]:
        times = self.folder / "times.npy"
        require_regular(times)
        if self.facts["times"] != sha256_of(times):
            raise ValueError("times.npy is not what was written")
        found = np.array(np.load(times, mmap_mode="r", allow_pickle=False))
        if found.shape != (images,) or found.dtype != np.int64:
            raise ValueError("its times are not of the right size")
        return found

    def _damaged(self, why: str) -> BcdzooError:
        return BcdzooError(f"the prepared images in {self.folder} are damaged ({why}): remove that folder")

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_pixels"}  # workers map it themselves


def prepared_folder(images: ImageSet, geometry: Geometry) -> Path:
    """Where the pixels of a set lie, or would."""
    return cache_dir() / "prepared" / f"{images.name}-{images.fingerprint[:16]}-{geometry}"


def find_prepared(images: ImageSet, geometry: Geometry) -> Prepared | None:
    """What was prepared for these images with these versions of the libraries that decode and resize, if anything.

    Raises:
        BcdzooError: It is damaged, or a file has changed since.
    """
    folder = prepared_folder(images, geometry)
    if not folder.is_dir():
        return None
    found = Prepared(folder, len(images), geometry)
    if found.versions != _versions():
        say(f"{folder} is of other versions ({found.versions}) and is not used")
        return None
    found.check(images)
    return found


def prepare(images: ImageSet, geometry: Geometry, workers: int, progress: bool = False) -> Prepared:
    """Decode, resize and crop all images, unless that has been done.

    Args:
        images: The set.
        geometry: Of the networks' preprocessing.
        workers: Processes that decode.
        progress: Show a bar on stderr.

    Raises:
        BcdzooError: Too little room on the disk, or what lies there is damaged.
    """
    folder = prepared_folder(images, geometry)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if known := find_prepared(images, geometry):
            return known
        for leftover in folder.parent.glob(f".{folder.name}.*"):
            shutil.rmtree(leftover)  # of a process that was killed: the lock is ours
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            _write(temporary, images, geometry, workers, progress)
            if folder.is_dir():
                shutil.rmtree(folder)  # of other versions
            temporary.replace(folder)
        except OSError as error:
            raise BcdzooError(f"cannot write the prepared images to {folder.parent}: {error.strerror}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return Prepared(folder, len(images), geometry)


def _shape(geometry: Geometry) -> tuple[int, int, int]:
    return 3, geometry.crop, geometry.crop


def _dtype(geometry: Geometry) -> np.dtype[Any]:
    return np.dtype(np.uint8 if geometry.whole else np.float32)


def _write(folder: Path, images: ImageSet, geometry: Geometry, workers: int, progress: bool) -> None:
    dtype, shape = _dtype(geometry), _shape(geometry)
    needed = len(images) * int(np.prod(shape)) * dtype.itemsize
    if (free := shutil.disk_usage(folder).free) < needed:
        raise BcdzooError(
            f"{needed / 1e9:.1f} GB are needed in {folder.parent} and {free / 1e9:.1f} GB are free: make room, or set "
            "BCDZOO_HOME to a folder on another disk"
        )
    unreadable: dict[int, str] = {}
    changed = _changed(images)  # before any is read: what changes meanwhile is compared later
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
    facts = {"dtype": dtype.name, "shape": shape, "unreadable": unreadable, "versions": _versions()}
    write_json(
        folder / "facts.json", facts | {name: sha256_of(folder / f"{name}.npy") for name in ("checksums", "times")}
    )


def _decoded(
    images: ImageSet, geometry: Geometry, workers: int, progress: bool
) -> Iterable[tuple[int, npt.NDArray[Any] | str, int]]:
    """Index, pixels or the reason why there are none, and the checksum of the file; in order of the indices."""
    batches = [range(start, min(start + _BATCH, len(images))) for start in range(0, len(images), _BATCH)]
    with tqdm(total=len(images), unit=" images", disable=not progress) as bar:
        for indices, crops, bad in loader(Pixels(images, [geometry]), batches, workers):
            good = zip(indices, (crop.numpy() for crop in crops[0]) if crops else (), strict=True)
            for index, pixels in sorted([*good, *bad], key=lambda pair: pair[0]):
                yield index, pixels, zlib.crc32(_encoded(images, index))
            bar.update(len(indices) + len(bad))


def _changed(images: ImageSet) -> npt.NDArray[np.int64]:
    """When the file of each image last changed in any way, in ns; unlike the time of writing nobody can set it."""
    paths = [sample.read.path for sample in images.samples]
    times = {path: _changed_at(path) for path in set(paths)}
    return np.array([times[path] for path in paths], np.int64)


def _changed_at(path: str) -> int:
    try:
        return Path(path).stat().st_ctime_ns
    except (OSError, ValueError):
        return -1


def _encoded(images: ImageSet, index: int) -> bytes:
    try:
        return images.samples[index].read()
    except Exception:  # unreadable then, and now: the same
        return b""


def _to_disk(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _versions() -> dict[str, str]:
    return {"pillow": PIL.__version__, "torchvision": torchvision.__version__}
