"""Training images: their order and augmentation, as pure functions of the seed and the position in the run.

So a run can be resumed without the state of random number generators, and gives the same images with any number of
workers.
"""

import functools
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler
from torchvision.transforms import v2

from bcdzoo.data import cifar, idx
from bcdzoo.data.classes import names, wnids
from bcdzoo.data.folders import class_folders
from bcdzoo.data.imagenet import ImageSet, decode, meant_by, open_dataset
from bcdzoo.data.labels import FROM_ORDER
from bcdzoo.data.layouts import detect
from bcdzoo.data.names import shown
from bcdzoo.data.preprocess import parse, require_resizable
from bcdzoo.data.workers import interruptible, started
from bcdzoo.errors import BcdzooError
from bcdzoo.processes import Processes
from bcdzoo.text import printable
from bcdzoo.train.recipe import Stage
from bcdzoo.weights.metadata import check_class_names, read_class_names


def open_training_set(path: Path, classes: int | None, label_offset: int | None = None) -> tuple[ImageSet, int]:
    """List the training images, and find the number of their classes; no image is read yet.

    Grey images become three equal channels, as everywhere in this zoo, so that a network always has the same kind of
    input; only its first convolution is more expensive.

    Args:
        path: Folder with idx files or CIFAR-10's, with a folder ``train``, or with a folder for each class; or anything
            that :func:`bcdzoo.data.imagenet.open_dataset` reads.
        classes: Number of classes; None to count the class folders, or the labels of such files.
        label_offset: As for :func:`bcdzoo.data.imagenet.open_dataset`; such files need none.

    Raises:
        BcdzooError: No such path, no training images, or the number of classes is unknown.
    """
    path = meant_by(path)
    if not path.exists():
        detect(path)  # raises an error unless it is a name or a pattern
    if label_offset is not None and type(label_offset) is not int:
        raise BcdzooError(f"label_offset: must be a whole number or None, not {printable(repr(label_offset), 60)}")
    if kind := _split_files(path):
        if label_offset:
            raise BcdzooError(f"{path} has {kind} files, whose labels start at 0: omit --label-offset")
        listing = idx.read_split(path, idx.TRAIN) if kind == "idx" else cifar.read_split(path, cifar.TRAIN)
        name = path.resolve().name
        classes = cifar.CLASSES if kind == "cifar10" and classes is None else classes
        images = ImageSet(
            listing.samples, name, kind, listing.labels_from, class_names=listing.class_names, notes=listing.notes
        )
    elif idx.has_idx(path, idx.TEST):
        raise BcdzooError(
            f"{path} has only test images (t10k-images-idx3-ubyte) and no training images "
            "(train-images-idx3-ubyte): a network cannot be trained on them"
        )
    else:
        root = path / "train" if (path / "train").is_dir() else path
        if classes is None:
            classes = len(class_folders(root)) if root.is_dir() else 0
        if not classes:
            raise BcdzooError(f"{path} has no class folders that show the number of classes: set it with --classes")
        images = open_dataset(root, classes, label_offset=label_offset)
    return images, classes or 1 + max(sample.label for sample in images.samples)


def _split_files(path: Path) -> str:
    """The layout of a folder whose files say which images to train on; empty for others."""
    if idx.has_idx(path, idx.TRAIN):
        return "idx"
    return "cifar10" if cifar.holds_splits(path) else ""


def check_labels(images: ImageSet, classes: int) -> None:
    """Check that these labels suit a network with that many classes.

    Raises:
        BcdzooError: They do not.
    """
    highest = max(images.samples, key=lambda sample: sample.label)
    if highest.label >= classes:
        raise BcdzooError(f"{highest.id} has label {highest.label}, but the {classes} classes end at {classes - 1}")
    if classes < 2:
        raise BcdzooError(f"{images.name} has only one class: there is nothing to learn")


def name_classes(images: ImageSet, classes: int, file: Path | None) -> list[str]:
    """Return the class names for the weights' metadata: a file's lines, the data's own, ImageNet's, or numbers.

    A class without a name in the data gets its number.

    Raises:
        BcdzooError: The file does not have a line for each class, or a name is invalid.
    """
    folders = sorted({sample.id.partition("/")[0] for sample in images.samples})
    if file is not None:
        found = read_class_names(file)
        if len(found) != classes:
            raise BcdzooError(f"{file} has {len(found)} names (one per line) for {classes} classes")
        return found
    if len(images.class_names) == classes:
        found = [name if name.strip() else str(label) for label, name in enumerate(images.class_names)]
        check_class_names(found)
        return found
    if images.labels_from == FROM_ORDER and len(folders) == classes:
        check_class_names(folders)
        return folders
    if classes == len(wnids()) and images.name.startswith("imagenet"):
        return names()
    return [str(label) for label in range(classes)]


def has_test_images(path: Path) -> bool:
    """Whether the data has test images: a folder ``val``, idx files ``t10k``, or CIFAR-10's ``test_batch``."""
    return (path / "val").is_dir() or idx.has_idx(path, idx.TEST) or cifar.has_split(path, cifar.TEST)


def derived_seed(*parts: object) -> int:
    """Derive a seed of 63 bits from a tuple of parts."""
    text = "/".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest()) >> 1


class TrainingImages(Dataset[tuple[Tensor, int]]):
    """Images by their position in a stage: (uint8 of shape (3, H, W), class index).

    Every epoch has its own order; a batch may span two epochs.

    Args:
        images: Training images.
        stage: Stage with the options of augmentation.
    """

    def __init__(self, images: ImageSet, stage: Stage) -> None:
        self.images = images
        self.seed = (stage.seed, stage.name)
        self.crop_scale, self.resize = stage.crop_scale, parse(stage.preprocess).resize
        self.vary = variation(stage)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        epoch, offset = divmod(place, len(self.images))
        sample = self.images.samples[int(_order(len(self.images), derived_seed(*self.seed, "order", epoch))[offset])]
        try:
            image = decode(sample.read())
            if not self.crop_scale:
                require_resizable(*image.size, self.resize)
        except Exception as error:  # Pillow's decoders may raise anything
            reason = printable(" ".join(str(error).split()), 300)
            raise BcdzooError(f"cannot read image {shown(sample.id)}: {reason}; replace or remove it") from error
        torch.default_generator.manual_seed(derived_seed(*self.seed, "image", place))  # torch.manual_seed takes 150 µs
        varied: Tensor = self.vary(image)
        return varied, sample.label


@functools.lru_cache(maxsize=2)
def _order(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def variation(stage: Stage) -> v2.Transform:
    """Return the random transforms of a stage, from an image to uint8 of shape (3, H, W); uses torch's generator."""
    preprocess = parse(stage.preprocess)
    size = preprocess.crop
    steps: list[Any] = []
    if stage.crop_scale:
        steps.append(v2.RandomResizedCrop(size, scale=tuple(stage.crop_scale), antialias=True))
    else:
        steps.append(_ShortSide(preprocess.resize))
        steps.append(v2.RandomCrop(size, padding=stage.crop_padding or None))
    if stage.flip:
        steps.append(v2.RandomHorizontalFlip())
    if stage.jitter:
        steps.append(v2.ColorJitter(*stage.jitter))
    return v2.Compose([*steps, v2.PILToTensor()])


class _ShortSide(v2.Resize):  # type: ignore[misc]  # torchvision has no types
    """Resizes the short side, unless it already has the length."""

    def __init__(self, size: int) -> None:
        super().__init__([size], antialias=True)

    def forward(self, image: Image.Image) -> Image.Image:
        resized: Image.Image = image if [min(image.size)] == self.size else super().forward(image)
        return resized


class _Places(Sampler[list[int]]):
    """The positions of this process's share of every part of every batch, from an update on."""

    def __init__(self, stage: Stage, processes: Processes, done: int) -> None:
        self.parts = range(done * stage.accumulate, stage.iterations * stage.accumulate)
        self.part_size = stage.batch_size // stage.accumulate
        self.share = self.part_size // processes.count
        self.first = processes.rank * self.share

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Any:
        for part in self.parts:
            start = part * self.part_size + self.first
            yield list(range(start, start + self.share))


def check_batches(stage: Stage, images: ImageSet, processes: Processes) -> None:
    """Check that these processes can make a stage's batches from these images.

    Raises:
        BcdzooError: They cannot.
    """
    if stage.batch_size > len(images):
        raise BcdzooError(
            f"{stage.name}: batch_size {stage.batch_size} is more than the {len(images)} images to train on"
        )
    if stage.batch_size % (processes.count * stage.accumulate):
        raise BcdzooError(
            f"batch_size {stage.batch_size} cannot be divided among {processes.count} processes "
            f"and accumulate = {stage.accumulate}"
        )


def batches(
    images: TrainingImages, stage: Stage, processes: Processes, done: int, workers: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Return this process's parts of the batches that remain after ``done`` updates."""
    return started(
        DataLoader(
            images,
            batch_sampler=_Places(stage, processes, done),
            num_workers=workers,
            pin_memory=processes.device.type == "cuda",
            generator=torch.Generator(),
            worker_init_fn=interruptible,
        )
    )
