"""ImageNet-1k's classes and the ground truth of its 50,000 validation images."""

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt


@cache
def _stored(field: str) -> npt.NDArray[np.generic]:
    with np.load(Path(__file__).with_name("imagenet_classes.npz"), allow_pickle=False) as file:
        array: npt.NDArray[np.generic] = file[field]
    array.flags.writeable = False  # every caller gets the same array
    return array


def wnids() -> list[str]:
    """The WordNet ids of the 1000 classes, for example ``n01440764``, sorted: a place in the list is a class index."""
    return [str(wnid) for wnid in _stored("wnids")]


def names() -> list[str]:
    """The words of the 1000 classes in order of class index, for example ``tench, Tinca tinca``."""
    return [str(name) for name in _stored("names")]


def validation_labels() -> npt.NDArray[np.int64]:
    """Class indices of the 50,000 validation images, ``ILSVRC2012_val_00000001`` first; int64 of shape (50000,)."""
    return _stored("validation_labels").astype(np.int64)
