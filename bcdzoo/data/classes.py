"""The classes of public data sets, and the ground truth of ImageNet-1k's 50,000 validation images."""

import re
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

VALIDATION_IMAGES = 50_000

_SMALL = {
    "cifar10": ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"],
    "fashion-mnist": [
        "T-shirt",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ],
    "mnist": list("0123456789"),
}

_OFFICIAL_NAME = re.compile(r"(?:.*/)?ILSVRC2012_val_(\d{8})(?:_n\d{8})?\.(?:jpe?g|png)", re.IGNORECASE | re.DOTALL)


@cache
def _stored(field: str) -> npt.NDArray[np.generic]:
    with np.load(Path(__file__).with_name("imagenet_classes.npz"), allow_pickle=False) as file:
        array: npt.NDArray[np.generic] = file[field]
    array.flags.writeable = False  # every caller gets the same array
    return array


def wnids() -> list[str]:
    """The WordNet ids of the 1000 classes, for example ``n01440764``, sorted: the position is the class index."""
    return [str(wnid) for wnid in _stored("wnids")]


def names() -> list[str]:
    """The words of the 1000 classes in order of class index, for example ``tench, Tinca tinca``."""
    return [str(name) for name in _stored("names")]


def classes_of(dataset: str) -> list[str]:
    """The words of a data set's classes in order of class index; empty if they are not known here."""
    return names() if dataset == "imagenet" else _SMALL.get(dataset, [])


def validation_labels() -> npt.NDArray[np.int64]:
    """Class indices of the 50,000 validation images, ``ILSVRC2012_val_00000001`` first; int64 of shape (50000,)."""
    return _stored("validation_labels").astype(np.int64)


def real_labels() -> list[tuple[int, ...]]:
    """The ReaL labels (Beyer et al., "Are we done with ImageNet?"): accepted class indices of each image.

    Returns:
        50,000 entries, ``ILSVRC2012_val_00000001`` first; empty for images without accepted classes.
    """
    ends = np.cumsum(_stored("real_counts"), dtype=np.int64)
    return [tuple(labels.tolist()) for labels in np.split(_stored("real_labels"), ends[:-1])]


def official_number(name: str) -> int | None:
    """Return the number, 1 to 50,000, of a validation image from its official name; None for any other name.

    Args:
        name: File name, such as ``ILSVRC2012_val_00000001.JPEG``, or ``…_00000001_n01751748.JPEG`` as the hub
            writes it; folders in front are ignored.
    """
    match = _OFFICIAL_NAME.fullmatch(name)
    return int(match[1]) if match and 1 <= int(match[1]) <= VALIDATION_IMAGES else None
