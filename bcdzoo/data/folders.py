"""Layouts ``imagefolder`` and ``flat``: images as files. Archives of such folders share their rules."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from bcdzoo.data.classes import VALIDATION_IMAGES, official_number, validation_labels
from bcdzoo.data.labels import FROM_GROUND_TRUTH, folder_labels
from bcdzoo.data.samples import FileRange, Listing, Sample, image_id, is_image, some
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
    """Names of the folders in a folder, but for hidden ones, sorted."""
    return sorted(child.name for child in root.iterdir() if child.is_dir() and not child.name.startswith("."))


def image_folder(path: Path, classes: int) -> Listing:
    """List a folder of one folder per class.

    Raises:
        BcdzooError: It has another form, or folders whose class is not known.
        OSError: It cannot be read.
    """
    root = validation_root(path)
    folders = class_folders(root)
    loose = [File(child.name, FileRange(str(child), 0, 0)) for child in root.iterdir() if is_image(child.name)]
    return by_class_folder(
        str(root), [*loose, *(file for name in folders for file in _files(root, name))], folders, classes
    )


def flat_folder(path: Path, classes: int) -> Listing:
    """List a folder of officially named validation images.

    Raises:
        BcdzooError: It is no folder, or has an image with another name.
        OSError: It cannot be read.
    """
    root = validation_root(path)
    return by_official_name(str(root), list(_files(root)), classes)


def by_class_folder(where: str, files: list[File], folders: list[str], classes: int) -> Listing:
    """Label files by the first folder in their names.

    Args:
        where: The dataset, for messages.
        files: Those in other folders are left out.
        folders: The class folders.
        classes: Outputs of the network.

    Raises:
        BcdzooError: Files beside the folders, or folders whose class is not known.
    """
    loose = [file.name for file in files if "/" not in file.name]
    if loose:
        raise BcdzooError(f"{where} holds class folders and beside them images ({some(loose)}): move one or the other")
    if not folders:
        raise BcdzooError(f"{where} has no class folders")
    labels, labels_from = folder_labels(where, folders, classes)
    wanted = set(folders)
    tops = [(file.name.partition("/")[0], file) for file in files]
    return Listing([file.sample(labels[top]) for top, file in tops if top in wanted], labels_from)


def by_official_name(where: str, files: list[File], classes: int) -> Listing:
    """Label files by their official names, from the shipped ground truth.

    Raises:
        BcdzooError: A file with another name, or a network that is not for ImageNet's classes.
    """
    if classes != 1000:
        raise BcdzooError(
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
    return Listing(samples, FROM_GROUND_TRUTH)


def _files(root: Path, folder: str = "") -> Iterator[File]:
    def fail(error: OSError) -> None:
        raise error  # os.walk would pass over an unreadable folder in silence

    start = len(str(root / "x")) - 1
    for base, _, names in os.walk(root / folder, onerror=fail, followlinks=True):
        for name in filter(is_image, names):
            path = os.path.join(base, name)  # noqa: PTH118 - 50,000 times, and pathlib is slow
            yield File(path[start:], FileRange(path, 0, os.stat(path).st_size))  # noqa: PTH116
