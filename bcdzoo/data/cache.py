"""The cache of decoded, resized and cropped images that ``bcdzoo prepare`` writes.

One folder per set of images and geometry in the cache folder: the pixels of all images in one file that is mapped
into memory, a checksum of each image's pixels and of the file it was decoded from, and the images that could not be
read with the reason. Results equal those from the original files, bit for bit.
"""

import zlib
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import PIL
import torch
import torchvision
from torch import Tensor

from bcdzoo.data.imagenet import ImageSet
from bcdzoo.data.preprocess import DECODERS, Geometry
from bcdzoo.errors import BcdzooError
from bcdzoo.files import cache_dir, require_regular, sha256_of
from bcdzoo.seal import read_json
from bcdzoo.text import say

_SPREAD = 64  # evenly spaced files compared with their checksums before use, besides all that may have changed
_BATCH = 32


class Prepared:
    """The pixels of one set of images with one geometry.

    Args:
        folder: Folder that :func:`prepare` wrote.
        images: Number of images.
        geometry: Geometry of the pixels.

    Raises:
        BcdzooError: The folder is damaged.
    """

    def __init__(self, folder: Path, images: int, geometry: Geometry) -> None:
        self.folder = folder
        self.shape = (images, *pixel_shape(geometry))
        self.dtype = pixel_dtype(geometry)
        checksums = folder / "checksums.npy"
        try:
            for name in ("facts.json", "checksums.npy", "pixels"):
                require_regular(folder / name)
            self.facts, sealed = read_json(folder / "facts.json")
            if sealed and self.facts["checksums"] != sha256_of(checksums):
                raise ValueError("checksums.npy is not what was written")
            # of pixels and file; mapped, because the header may state any size
            self.checksums = np.array(np.load(checksums, mmap_mode="r", allow_pickle=False))
            self.unreadable = {int(index): str(reason) for index, reason in self.facts["unreadable"].items()}
            self.versions = dict(self.facts["versions"])
            self.changed = self._times(images) if "times" in self.facts else None
            size = (folder / "pixels").stat().st_size
        except (OSError, ValueError, KeyError, AttributeError, TypeError, EOFError, BcdzooError) as error:
            raise self._damaged(str(error)) from error
        if self.checksums.shape != (images, 2) or self.checksums.dtype != np.uint32:
            raise self._damaged("its checksums have the wrong size")
        if size != self.dtype.itemsize * int(np.prod(self.shape)):
            raise self._damaged("its pixels have the wrong size")
        if not sealed:
            say(f"{folder} is from an older version: the list of unreadable images is unchecked")

    @cached_property
    def _pixels(self) -> npt.NDArray[Any]:
        return np.memmap(self.folder / "pixels", self.dtype, "r", shape=self.shape)

    def pixels(self, index: int) -> Tensor:
        """Return the pixels of one image, as :meth:`Geometry.pixels` does.

        Raises:
            BcdzooError: The image could not be read when the cache was made; or the cache is damaged.
        """
        if index in self.unreadable:
            raise BcdzooError(self.unreadable[index])
        pixels = np.array(self._pixels[index])  # a copy, because torch needs writable memory
        if zlib.crc32(pixels.data) != self.checksums[index, 0]:
            raise self._damaged(f"image {index} has a different checksum")
        return torch.from_numpy(pixels)

    def check(self, images: ImageSet) -> None:
        """Compare files with their checksums: all that were touched since, and some others, evenly spaced.

        Raises:
            BcdzooError: A file has changed although its name and size have not.
        """
        spread = np.linspace(0, len(images) - 1, min(_SPREAD, len(images)), dtype=int)
        now = change_times(images)
        touched = np.flatnonzero((self.changed != now) | (now < 0)) if self.changed is not None else range(len(images))
        for index in sorted({*map(int, spread), *map(int, touched)}):
            if zlib.crc32(encoded(images, index)) != self.checksums[index, 1]:
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
            raise ValueError("its times have the wrong size")
        return found

    def _damaged(self, why: str) -> BcdzooError:
        return BcdzooError(f"the prepared images in {self.folder} are damaged ({why}): remove that folder")

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_pixels"}  # workers map it themselves


def prepared_folder(images: ImageSet, geometry: Geometry) -> Path:
    """Folder for the pixels of a set; it may not exist."""
    by = "" if images.decoder == DECODERS[0] else f"-{images.decoder}"
    return cache_dir() / "prepared" / f"{images.name}-{images.fingerprint[:16]}-{geometry}{by}"


def find_prepared(images: ImageSet, geometry: Geometry) -> Prepared | None:
    """Find what was prepared for these images with these versions of the libraries that decode and resize, if anything.

    Raises:
        BcdzooError: It is damaged, or a file has changed since.
    """
    folder = prepared_folder(images, geometry)
    if not folder.is_dir():
        return None
    found = Prepared(folder, len(images), geometry)
    if found.versions != library_versions():
        say(f"{folder} is from other versions ({found.versions}) and is not used")
        return None
    found.check(images)
    return found


def pixel_shape(geometry: Geometry) -> tuple[int, int, int]:
    """Shape of one image's pixels."""
    return 3, geometry.crop, geometry.crop


def pixel_dtype(geometry: Geometry) -> np.dtype[Any]:
    """Data type of :meth:`Geometry.pixels`."""
    return np.dtype(np.uint8 if geometry.whole else np.float32)


def change_times(images: ImageSet) -> npt.NDArray[np.int64]:
    """Time of the last change (ctime) of each image's file, in ns; unlike mtime it cannot be set."""
    paths = [sample.read.path for sample in images.samples]
    times = {path: _changed_at(path) for path in set(paths)}
    return np.array([times[path] for path in paths], np.int64)


def _changed_at(path: str) -> int:
    try:
        return Path(path).stat().st_ctime_ns
    except (OSError, ValueError):
        return -1


def encoded(images: ImageSet, index: int) -> bytes:
    """Read an image's encoded bytes; empty if it cannot be read."""
    try:
        return images.samples[index].read()
    except Exception:  # unreadable before and now counts as equal
        return b""


def library_versions() -> dict[str, str]:
    """Versions of the libraries that decode and resize."""
    return {"pillow": PIL.__version__, "torchvision": torchvision.__version__}
