"""Layouts ``imagefolder`` and ``flat``: images as files. Archives of such folders share their rules."""

import os
import stat
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from bcdzoo.data.classes import VALIDATION_IMAGES, official_number, validation_labels
from bcdzoo.data.labels import FROM_GROUND_TRUTH, FROM_WNIDS, LabelError, folder_labels
from bcdzoo.data.names import PassedOver, image_id, is_image, is_litter, shown, some, split_of
from bcdzoo.data.samples import FileRange, Listing, Sample
from bcdzoo.errors import BcdzooError


class File(NamedTuple):
    """An image in a folder or an archive.

    Attributes:
        name: Path relative to the folder of the classes, with ``/``.
        read: Gives its bytes.
    """

    name: str
    read: FileRange

    def sample(self, label: int) -> Sample:
        """The image with its label."""
        return Sample(image_id(self.name), label, self.read.size, self.read)


def validation_root(path: Path) -> Path:
    """The folder that holds the images or the class folders: ``val`` where there is one.

    Raises:
        BcdzooError: It is no folder.
    """
    if not path.is_dir():
        raise BcdzooError(f"{path} is not a folder")
    return path / "val" if (path / "val").is_dir() else path


def class_folders(root: Path) -> list[str]:
    """Names of the folders in a folder, but for litter and for links to where they stand in, sorted."""
    return sorted(
        child.name
        for child in root.iterdir()
        if not is_litter(child.name) and child.is_dir() and not (child.is_symlink() and _holds(str(child), str(root)))
    )


def image_folder(path: Path, classes: int) -> Listing:
    """List a folder of one folder per class.

    Raises:
        BcdzooError: It has another form, or folders whose class is not known.
        OSError: It cannot be read.
    """
    root = validation_root(path)
    passed = PassedOver()
    return by_class_folder(str(root), list(walk(root, passed)), class_folders(root), classes, passed)


def flat_folder(path: Path, classes: int) -> Listing:
    """List a folder of officially named validation images.

    Raises:
        BcdzooError: It is no folder, or has an image with another name.
        OSError: It cannot be read.
    """
    root = validation_root(path)
    passed = PassedOver()
    return by_official_name(str(root), list(walk(root, passed)), classes, passed)


def by_class_folder(where: str, files: list[File], folders: Sequence[str], classes: int, passed: PassedOver) -> Listing:
    """Label files by the first folder in their names.

    Args:
        where: The dataset, for messages.
        files: All images.
        folders: The class folders.
        classes: Outputs of the network.
        passed: What was left out.

    Raises:
        BcdzooError: Files beside the folders, splits, or folders whose class is not known.
    """
    loose = [file.name for file in files if "/" not in file.name]
    if loose:
        raise BcdzooError(
            f"{shown(where)} holds class folders and beside them images ({some(loose)}): move one or the other"
        )
    if not folders:
        raise BcdzooError(f"{where} has no class folders")
    labels, labels_from = folder_labels(where, folders, classes)
    below = {second for file in files for second in file.name.split("/")[1:-1][:1]}
    splits = list(filter(split_of, below))
    if len({split_of(name) for name in splits}) > 1:
        raise BcdzooError(f"{where}: its class folders hold splits ({some(splits)}): give images of one of them only")
    if labels_from != FROM_WNIDS:
        _refuse_deeper_classes(where, files, folders)
    return Listing(
        [file.sample(labels[file.name.partition("/")[0]]) for file in files], labels_from, notes=passed.notes()
    )


def _refuse_deeper_classes(where: str, files: list[File], folders: Sequence[str]) -> None:
    """Stop where the folders may be parts of a dataset, each with folders of the same classes."""
    below: dict[str, set[str]] = {}
    for file in files:
        top, *middle, _ = file.name.split("/")
        below.setdefault(top, set()).add(middle[0] if middle else "")
    first = next(iter(below.values()), set())
    if (
        len(below) == len(folders) > 1
        and len(first) > 1
        and "" not in first
        and all(s == first for s in below.values())
    ):
        raise BcdzooError(
            f"{where}: its folders ({some(folders)}) all hold folders of the same names ({some(first)}), so either may "
            "be the classes: give one folder, or the labels as a CSV of path,label"
        )


def by_official_name(where: str, files: list[File], classes: int, passed: PassedOver) -> Listing:
    """Label files by their official names, from the shipped ground truth.

    Raises:
        BcdzooError: A file with another name, or a network that is not for ImageNet's classes.
    """
    if files and classes != 1000:
        raise LabelError(
            f"{where} has no class folders, and the network {classes} outputs, not ImageNet's 1000: "
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
    return Listing(samples, FROM_GROUND_TRUTH, notes=passed.notes())


def walk(root: Path, passed: PassedOver) -> Iterator[File]:
    """The images in a folder and the folders in it, those behind links too, each folder once.

    Args:
        root: The folder.
        passed: Gets what is left out.

    Raises:
        BcdzooError: A folder is there twice, through a link, under two names in ``root``.
        OSError: A folder cannot be read.
    """
    where = str(root)
    folders, links = deque([""]), deque[str]()
    seen: dict[tuple[int, int], str] = {}
    images: dict[tuple[int, int], str] = {}
    while folders or links:
        base = (folders or links).popleft()  # links last, so that a folder's own name goes before another
        place = os.path.join(where, base)  # noqa: PTH118 - 50,000 times, and pathlib is slow
        found = os.stat(place)  # noqa: PTH116
        before = seen.setdefault((found.st_dev, found.st_ino), base)
        if before != base or (base and _holds(place, where)):
            if before and before.partition("/")[0] != base.partition("/")[0]:
                raise BcdzooError(
                    f"{where}: {shown(before)} and {shown(base)} are the same folder, so its images would have two "
                    "classes: remove one"
                )
            passed.add("links passed over, to folders that are listed already", base)
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
                passed.other(name)
            elif found_here is None or not stat.S_ISREG(found_here.st_mode):
                passed.add("passed over that are no regular files (pipes, devices, links to nothing)", name)
            else:
                if images.setdefault((found_here.st_dev, found_here.st_ino), name) != name:
                    passed.add("images that are there already under another name, and are counted again", name)
                yield File(name, FileRange(child.path, 0, found_here.st_size))


def _stat(entry: "os.DirEntry[str]") -> os.stat_result | None:
    try:
        return entry.stat()
    except OSError:  # a link to nothing, or to itself
        return None


def _holds(outer: str, inner: str) -> bool:
    """Whether a folder is another one, or one above it, when all links are followed."""
    return os.path.commonpath((os.path.realpath(outer), os.path.realpath(inner))) == os.path.realpath(outer)
