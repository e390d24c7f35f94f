"""Layouts ``imagefolder`` and ``flat``: images as files. Archives of such folders follow the same rules."""

import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bcdzoo.data.classes import VALIDATION_IMAGES, official_number, validation_labels
from bcdzoo.data.labels import FROM_GROUND_TRUTH, FROM_WNIDS, LabelError, folder_labels
from bcdzoo.data.names import SkippedFiles, image_id, is_image, is_litter, several_splits, shown, some, split_of
from bcdzoo.data.samples import FileRange, Listing, Sample
from bcdzoo.errors import BcdzooError


class File(NamedTuple):
    """An image in a folder or an archive.

    Attributes:
        name: Path relative to the folder that holds the classes, with ``/``.
        read: Reader of its bytes.
    """

    name: str
    read: FileRange

    def sample(self, label: int) -> Sample:
        """The image with its label."""
        return Sample(image_id(self.name), label, self.read.size, self.read)


def validation_root(path: Path, skipped: SkippedFiles | None = None) -> Path:
    """Find the folder that holds the images or the class folders: ``val`` if there is one.

    Args:
        path: Folder of the dataset.
        skipped: Collector for the folders beside ``val`` that may also be splits.

    Raises:
        BcdzooError: It is not a folder.
    """
    if not path.is_dir():
        raise BcdzooError(f"{path} is not a folder")
    if not (path / "val").is_dir():
        return path
    for name in class_folders(path):
        if skipped and name != "val" and split_of(name) in ("validation", "test"):
            skipped.add("folders skipped because the folder val beside them is used", name)
    return path / "val"


def class_folders(root: Path) -> list[str]:
    """List the names of the folders in a folder, sorted, without litter and links to a folder above."""
    return sorted(
        child.name
        for child in root.iterdir()
        if not is_litter(child.name) and child.is_dir() and not (child.is_symlink() and _holds(str(child), str(root)))
    )


def parquet_in(path: Path) -> list[Path]:
    """List the parquet files in a folder, else in its subfolders, sorted."""
    for pattern in ("*.parquet", "*/*.parquet"):
        files = sorted(file for file in path.glob(pattern) if not is_litter(file.relative_to(path).as_posix()))
        if files:
            return files
    return []


def image_folder(path: Path, classes: int) -> Listing:
    """List a folder of one folder per class.

    Raises:
        BcdzooError: It has a different structure, or folders of unknown classes.
        OSError: It cannot be read.
    """
    skipped = SkippedFiles()
    root = validation_root(path, skipped)
    return by_class_folder(str(root), list(walk(root, skipped)), class_folders(root), classes, skipped)


def flat_folder(path: Path, classes: int) -> Listing:
    """List a folder of officially named validation images.

    Raises:
        BcdzooError: It is not a folder, or has an image with another name.
        OSError: It cannot be read.
    """
    skipped = SkippedFiles()
    root = validation_root(path, skipped)
    return by_official_name(str(root), list(walk(root, skipped)), classes, skipped)


def by_class_folder(
    where: str, files: list[File], folders: Sequence[str], classes: int, skipped: SkippedFiles
) -> Listing:
    """Label files by the first folder in their names.

    Args:
        where: Name of the dataset in messages.
        files: All images.
        folders: Names of the class folders.
        classes: Number of outputs of the network.
        skipped: Collector that has the skipped files.

    Raises:
        BcdzooError: Images beside the folders, splits, or folders of unknown classes.
    """
    loose = [file.name for file in files if "/" not in file.name]
    if loose:
        raise BcdzooError(
            f"{shown(where)} has class folders and images beside them ({some(loose)}): move one or the other"
        )
    if not folders:
        raise BcdzooError(f"{where} has no class folders")
    labels, labels_from = folder_labels(where, folders, classes)
    if labels_from != FROM_WNIDS:
        _refuse_deeper_classes(where, files, folders)
    return Listing(
        [file.sample(labels[file.name.partition("/")[0]]) for file in files], labels_from, notes=skipped.notes()
    )


def _refuse_deeper_classes(where: str, files: list[File], folders: Sequence[str]) -> None:
    """Raise an error if the folders may be parts of a dataset that each contain the same class folders."""
    below: dict[str, set[str]] = {}
    for file in files:
        top, *middle, _ = file.name.split("/")
        below.setdefault(top, set()).add(middle[0] if middle else "")
    first = next(iter(below.values()), set())
    if (
        len(below) == len(folders) > 1
        and len(first) > 1
        and "" not in first
        and not several_splits(first)  # open_dataset has a better message for those
        and all(s == first for s in below.values())
    ):
        raise BcdzooError(
            f"{where}: its folders ({some(folders)}) all have folders of the same names ({some(first)}), so either may "
            "be the classes: pass one folder, or the labels as a CSV of path,label"
        )


def by_official_name(where: str, files: list[File], classes: int, skipped: SkippedFiles) -> Listing:
    """Label files by their official names, from the shipped ground truth.

    Raises:
        BcdzooError: A file with another name, or a network that is not for ImageNet's classes.
    """
    if files and classes != 1000:
        raise LabelError(
            f"{where} has no class folders, and the network has {classes} outputs, not ImageNet's 1000: "
            "give the labels as a CSV of path,label"
        )
    numbers = [official_number(file.name) for file in files]
    unknown = [file.name for file, number in zip(files, numbers, strict=True) if number is None]
    if unknown:
        raise BcdzooError(
            f"{where}: no label known for {some(unknown)}: a flat folder holds ILSVRC2012_val_00000001.JPEG to "
            f"…{VALIDATION_IMAGES:08d}.JPEG; give other labels as a CSV of path,label"
        )
    truth = validation_labels().tolist()
    samples = [file.sample(truth[number - 1]) for file, number in zip(files, numbers, strict=True) if number]
    return Listing(samples, FROM_GROUND_TRUTH, notes=skipped.notes())


def walk(root: Path, skipped: SkippedFiles, labelled: bool = True) -> Iterator[File]:
    """Yield the images in a folder and its subfolders, including linked ones, each folder once.

    Args:
        root: Folder to search.
        skipped: Collector for what is skipped.
        labelled: Whether the folders in ``root`` are classes.

    Raises:
        BcdzooError: A folder occurs twice, through a link, in two classes.
        OSError: A folder cannot be read.
    """
    where = str(root)
    folders, links = deque([""]), deque[str]()
    seen: dict[tuple[int, int], str] = {}
    images: dict[tuple[int, int], str] = {}
    while folders or links:
        base = (folders or links).popleft()  # links last, so that a folder gets its own name
        place = os.path.join(where, base)  # noqa: PTH118 - 50,000 times, and pathlib is slow
        found = os.stat(place)  # noqa: PTH116
        before = seen.setdefault((found.st_dev, found.st_ino), base)
        if before != base or (base and _holds(place, where)):
            if labelled and before and before.partition("/")[0] != base.partition("/")[0]:
                raise BcdzooError(
                    f"{where}: {shown(before)} and {shown(base)} are the same folder, so its images would have two "
                    "classes: remove one"
                )
            skipped.add("links skipped, to folders that are already listed", base)
            continue
        with os.scandir(place) as entries:
            children = sorted((entry for entry in entries if not is_litter(entry.name)), key=lambda entry: entry.name)
        for child in children:
            name = f"{base}/{child.name}" if base else child.name
            if child.is_dir(follow_symlinks=False):
                folders.append(name)
            elif (found_here := _stat(child)) and stat.S_ISDIR(found_here.st_mode):
                links.append(name)
            elif not is_image(child.name):
                skipped.other(name)
            elif found_here is None or not stat.S_ISREG(found_here.st_mode):
                skipped.add("skipped that are not regular files (pipes, devices, broken links)", name)
            else:
                if images.setdefault((found_here.st_dev, found_here.st_ino), name) != name:
                    skipped.add("images listed again under another name, and counted twice", name)
                yield File(name, FileRange(child.path, 0, found_here.st_size))


def _stat(entry: "os.DirEntry[str]") -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:  # a broken or circular link
        return None


def _holds(outer: str, inner: str) -> bool:
    """Whether a folder is another one, or above it, after following all links."""
    return os.path.commonpath((os.path.realpath(outer), os.path.realpath(inner))) == os.path.realpath(outer)
