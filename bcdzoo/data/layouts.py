"""The layouts by name, and their detection. Does not import torch."""

from collections.abc import Callable
from pathlib import Path

from bcdzoo.data.cifar import cifar10_files, holds_cifar
from bcdzoo.data.csv_layout import csv_file
from bcdzoo.data.folders import class_folders, flat_folder, image_folder, parquet_in, validation_root
from bcdzoo.data.hub import PREFIX, hub_dataset
from bcdzoo.data.idx import TEST, has_idx, idx_files
from bcdzoo.data.labels import wnid_indices
from bcdzoo.data.names import is_image, is_litter
from bcdzoo.data.samples import Listing
from bcdzoo.data.shards import is_shard, webdataset_shards
from bcdzoo.data.tar import class_archives, tar_archive
from bcdzoo.errors import BcdzooError

Layout = Callable[..., Listing]
"""Function of a path and the network's number of outputs; for tables also of the names of their columns."""


def _parquet(path: Path, classes: int, columns: tuple[str, str] | None = None) -> Listing:
    from bcdzoo.data.parquet import parquet_files  # imports pyarrow

    return parquet_files(path, classes, columns)


LAYOUTS: dict[str, Layout] = {
    "imagefolder": image_folder,
    "flat": flat_folder,
    "tar": tar_archive,
    "parquet": _parquet,
    "hf": hub_dataset,
    "webdataset": webdataset_shards,
    "csv": csv_file,
    "idx": idx_files,
    "cifar10": cifar10_files,
}
TABLES = ("parquet", "hf", "csv")
"""Layouts that have columns."""

_PACKED = (".zip", ".rar", ".7z")


def detect(path: Path) -> str:
    """Return the name of a path's layout.

    Raises:
        BcdzooError: There is nothing, or no known layout.
        OSError: It cannot be read.
    """
    if str(path).startswith(PREFIX):
        return "hf"
    if holds_cifar(path):
        return "cifar10"
    if path.is_dir():
        return _detect_folder(path)
    ending = path.suffix.lower()
    if "{" in path.name and not path.exists():
        return "webdataset"
    if ending in (".csv", ".tsv"):
        return "csv"
    if ending == ".parquet":
        return "parquet"
    if ".tar" in path.name.lower() or ending == ".tgz":
        return "webdataset" if is_shard(path) else "tar"
    if ending in _PACKED and path.exists():
        raise BcdzooError(f"{path} is a {ending[1:]} archive, which is not supported: unpack it, and use the folder")
    what = "is neither a folder nor a .tar, .parquet, .csv or .tsv file" if path.exists() else "does not exist"
    raise BcdzooError(f"{path} {what}; use a folder of images, of .parquet files or of shards, or such a file")


def _detect_folder(path: Path) -> str:
    if has_idx(path, TEST):
        return "idx"
    root = validation_root(path)
    folders = class_folders(root)
    # Images go first, because there may be a stray archive among them.
    if wnid_indices(1000).keys() & set(folders):
        return "imagefolder"
    names = [child.name for child in root.iterdir() if not is_litter(child.name)]
    if not any(map(is_image, names)):
        if parquet_in(path):
            return "parquet"
        if any(name.lower().endswith(".tar") for name in names):
            return "tar" if class_archives(root) else "webdataset"
    return "imagefolder" if folders else "flat"
