"""Checks of a dataset before the first image is decoded."""

from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from bcdzoo.data.classes import VALIDATION_IMAGES, names, official_number, validation_labels, wnids
from bcdzoo.data.imagenet import ImageSet
from bcdzoo.data.labels import BACKGROUND, FROM_ORDER, FROM_WNIDS, as_number
from bcdzoo.data.names import shown, some

_MOST = 0.9  # share of images that a mistake must explain; the rest are strays
_CHANCE = 10  # images beyond one per class; with fewer, random labels may look like a renumbering
_ALONE = "use the images without labels (a flat folder, ILSVRC2012_img_val.tar), because the labels are shipped"

Ints = npt.NDArray[np.int64]


class DataFinding(NamedTuple):
    """A finding about a dataset.

    Attributes:
        severity: ``stop`` if the accuracy would be wrong, ``note`` for information.
        message: One line that says what is wrong and what to do.
    """

    severity: Literal["stop", "note"]
    message: str


def preflight(images: ImageSet, outputs: int) -> list[DataFinding]:
    """Check the labels and completeness of a dataset or a subset.

    Args:
        images: Result of :func:`bcdzoo.data.imagenet.open_dataset`.
        outputs: Number of outputs; with ImageNet's 1000 the official validation images' labels are compared with the
            ground truth.

    Returns:
        The findings, worst first.
    """
    labels = np.array([sample.label for sample in images.samples], np.int64)
    numbers = np.array([official_number(sample.id) or 0 for sample in images.samples], np.int64)
    offset = images.label_offset or 0
    found = [*_class_order(images.class_names)]
    if outputs - offset == 1000:
        found += _against_truth(images, labels - offset, numbers)
    if not found:
        found += _range(images, labels, outputs)
    if not found and images.label_offset is None and images.labels_from not in (FROM_WNIDS, FROM_ORDER):
        found += _first_class(labels, numbers, outputs, len(images.class_names))
    return [
        *found,
        *(DataFinding("note", note) for note in images.notes),
        *_official(images, numbers),
        *_balance(labels, outputs, bool(numbers.any())),
    ]


def _class_order(class_names: tuple[str, ...]) -> Iterator[DataFinding]:
    """Find class names in the data whose order differs from the network's."""
    numbers = [as_number(name) for name in class_names]
    if set(numbers) == set(range(len(class_names))):
        meant = [{number} for number in numbers if number is not None]
    elif len(class_names) == 1000:
        places = _places()
        meant = [places.get(name.lower(), set()) | places.get(_first_word(name), set()) for name in class_names]
    else:
        return
    wrong = [label for label, indices in enumerate(meant) if indices and label not in indices]
    if len(wrong) > 1:  # two orders differ in at least two places; a single difference is an ambiguous name
        label = wrong[0]
        yield DataFinding(
            "stop",
            f"the data names its classes in another order: label {label} is {class_names[label]!r}, which is the "
            f"network's class {min(meant[label])} ({len(wrong)} such labels); renumber the labels, or give them as a "
            "CSV of path,label",
        )


def _places() -> dict[str, set[int]]:
    """Map wnids, full names and their first words to ImageNet's class indices; ``crane`` has two."""
    places: dict[str, set[int]] = {}
    for index, (wnid, words) in enumerate(zip(wnids(), names(), strict=True)):
        for name in (wnid, words.lower(), _first_word(words)):
            places.setdefault(name, set()).add(index)
    return places


def _first_word(words: str) -> str:
    return words.lower().partition(",")[0]


def _against_truth(images: ImageSet, labels: Ints, numbers: Ints) -> Iterator[DataFinding]:
    """Find labels of official images that differ from the ground truth, and the mistake that explains them."""
    official = np.flatnonzero(numbers)
    given, truth = labels[official], validation_labels()[numbers[official] - 1]
    wrong = official[given != truth]
    if len(wrong):
        what = f"{len(wrong)} of {len(official)} labels contradict ImageNet's ground truth"
        files = [images.samples[index].id for index in wrong]
        yield DataFinding("stop", f"{what}: {_mistake(given, truth, files)}")


def _mistake(given: Ints, truth: Ints, files: list[str]) -> str:
    for renumbered, explanation in _renumberings():
        if (given == renumbered[truth]).mean() >= _MOST:
            return explanation
    if len(files) <= len(given) / 2:
        return f"{some(files)} have the wrong class; move or relabel them"
    one_to_one = _is_one_to_one(given, truth)
    if one_to_one is None:
        return f"the classes are in another order, or the labels are random (too few images to tell); {_ALONE}"
    if one_to_one:
        return (
            "the classes are renumbered consistently, as in the devkit's order (ILSVRC2012_ID), which is not that of "
            f"the class indices; translate each to its wnid and use that one's position in sorted order, or {_ALONE}"
        )
    return f"they have nothing to do with the images; {_ALONE}"


def _renumberings() -> list[tuple[Ints, str]]:
    """Return the labels that each known mistake gives the classes, with an explanation."""
    indices = np.arange(1000)

    def places(order: list[int]) -> Ints:
        return np.argsort(np.array(order))

    text = "they number the folders {} sorted as text ({}, …); use the folders' numbers{} as labels, or {}"
    return [
        (indices + 1, "they are 1 to 1000 instead of 0 to 999, shifted by one; subtract 1 from each"),
        (places(sorted(indices, key=str)), text.format("0 to 999", "0, 1, 10, 100", "", _ALONE)),
        (places(sorted(indices + 1, key=str)), text.format("1 to 1000", "1, 10, 100, 1000", " less 1", _ALONE)),
    ]


def _is_one_to_one(given: Ints, truth: Ints) -> bool | None:
    """Whether the images of each class share one label that no other class has; None if there are too few to tell."""
    pairs, counts = np.unique(np.stack([truth, given]), axis=1, return_counts=True)
    usual = {int(pairs[0, at]): at for at in np.argsort(counts, kind="stable")}  # the last is the most frequent
    repeats = len(truth) - len(usual)
    if repeats < _CHANCE:
        return None
    chosen = list(usual.values())
    agreeing = int((counts[chosen] - 1).sum())
    return agreeing >= _MOST * repeats and len(np.unique(pairs[1, chosen])) >= _MOST * len(chosen)


def _range(images: ImageSet, labels: Ints, outputs: int) -> Iterator[DataFinding]:
    """Find labels beyond the network's outputs."""
    beyond = np.flatnonzero(labels >= outputs)
    if len(beyond):
        one = images.samples[beyond[0]]
        fix = "use a network that was trained for these classes, or correct the labels"
        if 1 <= labels.min() < labels.max() == outputs:
            fix = f"they seem to be 1 to {outputs} instead of 0 to {outputs - 1}; use --label-offset -1"
        yield DataFinding(
            "stop",
            f"{len(beyond)} labels are beyond the network's {outputs} outputs ({shown(one.id)} has {one.label}): {fix}",
        )


def _first_class(labels: Ints, numbers: Ints, outputs: int, named: int) -> Iterator[DataFinding]:
    """Find labels that may start at a different number than the network's outputs."""
    official = np.flatnonzero(numbers)
    if len(official):
        if outputs > 1000 and (labels[official] == validation_labels()[numbers[official] - 1]).mean() >= _MOST:
            yield DataFinding(
                "stop", f"the labels are ImageNet's 0 to 999, but the network has {outputs} outputs: {_which()}"
            )
        return
    if named == outputs:
        return
    present = np.unique(labels)
    lowest, highest, all_between = int(present[0]), int(present[-1]), len(present) == present[-1] - present[0] + 1
    if outputs == 1001 and highest != 1000:
        yield DataFinding(
            "stop",
            f"the labels are {lowest} to {highest}, perhaps of 1000 classes, but the network has 1001 outputs: "
            f"{_which()}",
        )
    elif outputs != 1001 and lowest == 1 and all_between and len(present) > 1:
        yield DataFinding(
            "stop",
            f"the labels are 1 to {highest} and none is 0: if they start at 1, use --label-offset -1 (in Python "
            "label_offset=-1); if they start at 0 and class 0 has no images, use --label-offset 0",
        )


def _which() -> str:
    return f"{BACKGROUND}; if the data's label 0 is output 0, use --label-offset 0"


def _official(images: ImageSet, numbers: Ints) -> Iterator[DataFinding]:
    """Find official images that are missing, and additional images."""
    if not numbers.any():
        return
    missing = np.setdiff1d(np.arange(1, VALIDATION_IMAGES + 1), numbers)
    if len(missing):
        names = some(f"ILSVRC2012_val_{number:08d}.JPEG" for number in missing)
        yield DataFinding(
            "note", f"of ImageNet's {VALIDATION_IMAGES} validation images {len(missing)} are missing: {names}"
        )
    others = [sample.id for sample, number in zip(images.samples, numbers, strict=True) if not number]
    if others:
        yield DataFinding(
            "note", f"besides ImageNet's validation images there are {len(others)} others: {some(others)}"
        )


def _balance(labels: Ints, outputs: int, official: bool) -> Iterator[DataFinding]:
    """Find classes with more images than others, or with none."""
    counts = np.bincount(labels[labels < outputs], minlength=outputs)
    absent = np.flatnonzero(counts == 0)
    if len(absent):
        few = ", ".join(map(str, absent[:3]))
        yield DataFinding(
            "note", f"{len(absent)} of {outputs} classes have no images: class {few}{', …' * (len(absent) > 3)}"
        )
    present = counts[counts > 0]
    if len(present) and present.min() != present.max():
        usual = "; ImageNet's validation set has 50 of each" if official else ""
        yield DataFinding("note", f"the classes have {present.min()} to {present.max()} images each{usual}")
