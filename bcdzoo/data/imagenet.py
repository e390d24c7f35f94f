"""Images with labels, from every layout that ImageNet's validation set is kept in.

A layout is one function that lists :class:`Sample`; everything behind it (decoding, preprocessing, order, fingerprint)
is the same for all.
"""

import csv
import hashlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets.folder import IMG_EXTENSIONS

from bcdzoo.data.classes import validation_labels, wnids
from bcdzoo.data.preprocess import PRESETS, Preprocess
from bcdzoo.errors import BcdzooError

_WNIDS = "wnids"
_GROUND_TRUTH = "the shipped ground truth"
_OFFICIAL_NAME = re.compile(r"ILSVRC2012_val_(\d{8})\.(jpe?g|png)", re.IGNORECASE)


class Sample(NamedTuple):
    """One image that has not been read yet.

    Attributes:
        id: Its name in the dataset; an official name (``ILSVRC2012_val_…``) is the id in every layout.
        label: Class index.
        size: Bytes of the encoded image.
        read: Gives these bytes; it must survive pickling, for workers in processes of their own.
    """

    id: str
    label: int
    size: int
    read: Callable[[], bytes]


@dataclass(frozen=True)
class ImageSet(Dataset[tuple[Tensor, int, str]]):
    """Images in order of their ids, each as (float32 of shape (3, H, W), class index, id).

    Attributes:
        samples: What there is, sorted by id.
        name: ``imagenet`` when the labels are wnids or the shipped ground truth, else the path's name.
        layout: ``imagefolder``, ``flat`` or ``csv``.
        labels_from: Where the labels come from, in words.
        preprocess: Applied to each decoded image.
    """

    samples: list[Sample]
    name: str
    layout: str
    labels_from: str
    preprocess: Preprocess = PRESETS["imagenet"]

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[Tensor, int, str]:
        sample = self.samples[index]
        try:
            image = decode(sample.read())
        except Exception as error:  # on a broken file Pillow's decoders raise what they like: OSError, SyntaxError, …
            reason = "not an image" if isinstance(error, UnidentifiedImageError) else " ".join(str(error).split())
            raise BcdzooError(
                f"cannot read image {sample.id}: {reason}; replace it, or leave such files out with --skip-bad"
            ) from error
        return self.preprocess(image), sample.label, sample.id

    @property
    def classes(self) -> int:
        """Number of classes that are present."""
        return len({sample.label for sample in self.samples})

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all ids, labels and file sizes: cheap, and equal for the same images in another layout."""
        lines = (f"{sample.id}\0{sample.label}\0{sample.size}\n" for sample in self.samples)
        return hashlib.sha256("".join(lines).encode(errors="surrogateescape")).hexdigest()


def open_dataset(path: str | os.PathLike[str], classes: int = 1000) -> ImageSet:
    """List the images of a folder or a CSV file; no image is read yet.

    Args:
        path: A folder of one folder per class, a flat folder of ``ILSVRC2012_val_*.JPEG``, a folder that holds one of
            these as ``val``, or a CSV file of ``path,label``.
        classes: Outputs of the network: 1000 means ImageNet's classes.

    Raises:
        BcdzooError: Nothing there, no images, or a label that is not known.
    """
    path = Path(path)
    try:
        if path.is_dir():
            root = path / "val" if (path / "val").is_dir() else path
            folders = sorted(child.name for child in root.iterdir() if child.is_dir() and child.name[0] != ".")
            if folders:
                layout, (samples, labels_from) = "imagefolder", _image_folder(root, folders, classes)
            else:
                layout, (samples, labels_from) = "flat", _flat_folder(root, classes)
        elif path.suffix.lower() == ".csv":
            layout, (samples, labels_from) = "csv", _csv_file(path, classes)
        else:
            raise BcdzooError(f"{path} is neither a folder of images nor a .csv file of path,label")
    except OSError as error:
        raise BcdzooError(f"cannot read {error.filename or path}: {error.strerror}") from error
    if not samples:
        raise BcdzooError(f"no images in {path}: looked for files ending in {' '.join(IMG_EXTENSIONS)}")
    samples.sort(key=lambda sample: sample.id)
    for first, second in pairwise(samples):
        if first.id == second.id:
            raise BcdzooError(f"{path}: {first.id} is there twice; remove one")
    name = "imagenet" if labels_from in (_WNIDS, _GROUND_TRUTH) else path.resolve().stem
    return ImageSet(samples, name, layout, labels_from)


def decode(encoded: bytes) -> Image.Image:
    """Decode an image as torchvision's default loader does: to RGB, alpha dropped, EXIF rotation not applied.

    One thing differs: of 16-bit grey the high byte is taken, as Pillow itself does for 16-bit colour; its own
    conversion would clip everything above 255 to white.

    Raises:
        Exception: Whatever Pillow raises on a file that is broken or truncated, or is no image.
    """
    with Image.open(BytesIO(encoded)) as image:
        if image.mode in ("I", "F"):
            raise ValueError("32-bit grey has no defined white; convert it to 8 or 16 bits")
        if image.mode.startswith("I;16"):
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
        return image.convert("RGB")


def _image_folder(root: Path, folders: list[str], classes: int) -> tuple[list[Sample], str]:
    loose = [path.name for path in root.iterdir() if _is_image(path.name)]
    if loose:
        raise BcdzooError(f"{root} holds class folders and beside them images ({_some(loose)}): move one or the other")
    imagenet = {wnid: index for index, wnid in enumerate(wnids())}
    foreign = [name for name in folders if name not in imagenet]
    if classes == 1000 and not foreign:
        labels, labels_from = imagenet, _WNIDS
    elif len(folders) == classes and (classes != 1000 or len(foreign) == 1000):
        labels, labels_from = {name: index for index, name in enumerate(folders)}, "folder names in sorted order"
    elif classes == 1000:
        raise BcdzooError(f"{root}: not wnids of ImageNet: {_some(foreign)}; give the labels as a CSV of path,label")
    else:
        raise BcdzooError(
            f"{root} has {len(folders)} class folders, the network {classes} outputs: "
            "give the labels as a CSV of path,label"
        )
    files = [path.relative_to(root) for folder in folders for path in _walk(root / folder)]
    return [_sample(root, file, labels[file.parts[0]]) for file in files], labels_from


def _flat_folder(root: Path, classes: int) -> tuple[list[Sample], str]:
    if classes != 1000:
        raise BcdzooError(
            f"{root} has no class folders, and the network {classes} outputs, not ImageNet's 1000: "
            "give the labels as a CSV of path,label"
        )
    truth = validation_labels()
    files = sorted(path.relative_to(root) for path in _walk(root))
    numbers = [int(match[1]) if (match := _OFFICIAL_NAME.fullmatch(file.name)) else 0 for file in files]
    unknown = [file.name for file, number in zip(files, numbers, strict=True) if not 1 <= number <= len(truth)]
    if unknown:
        raise BcdzooError(
            f"{root}: no label known for {_some(unknown)}: a flat folder holds ILSVRC2012_val_00000001.JPEG to "
            f"…{len(truth):08d}.JPEG; give other labels as a CSV of path,label"
        )
    samples = [_sample(root, file, int(truth[number - 1])) for file, number in zip(files, numbers, strict=True)]
    return samples, _GROUND_TRUTH


def _csv_file(path: Path, classes: int) -> tuple[list[Sample], str]:
    imagenet = {wnid: index for index, wnid in enumerate(wnids())} if classes == 1000 else {}
    samples, from_wnids = [], []
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(enumerate(csv.reader(file, strict=True), start=1))
    except (csv.Error, UnicodeDecodeError) as error:
        raise BcdzooError(f"{path} is not a CSV file in UTF-8: {error}") from error
    for number, row in rows:
        cells = [cell.strip() for cell in row]
        if not any(cells) or (number == 1 and cells[-1].lower() == "label"):
            continue
        if len(cells) != 2:
            raise BcdzooError(f"{path}, line {number}: {len(cells)} columns where path,label are expected")
        image, label = cells
        if not (label in imagenet or (label.isascii() and label.isdecimal())):
            raise BcdzooError(f"{path}, line {number}: label {label!r} is neither a class index nor a wnid of ImageNet")
        from_wnids.append(label in imagenet)
        try:
            samples.append(_sample(path.parent, Path(image), imagenet[label] if label in imagenet else int(label)))
        except OSError as error:
            raise BcdzooError(f"{path}, line {number}: cannot read {image}: {error.strerror}") from error
    return samples, _WNIDS if samples and all(from_wnids) else "the CSV file"


def _walk(folder: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise error  # os.walk would pass over an unreadable folder in silence

    for base, _, names in os.walk(folder, onerror=fail, followlinks=True):
        yield from (Path(base, name) for name in names if _is_image(name))


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMG_EXTENSIONS) and not name.startswith(".")


def _sample(root: Path, file: Path, label: int) -> Sample:
    path = root / file
    name = file.name if _OFFICIAL_NAME.fullmatch(file.name) else file.as_posix()
    return Sample(name, label, path.stat().st_size, path.read_bytes)


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest
