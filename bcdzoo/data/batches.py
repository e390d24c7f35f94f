"""A few images of a data set, for those who look at a network's maps."""

from collections.abc import Iterator

import numpy as np
from torch import Tensor

from bcdzoo.data.imagenet import open_dataset
from bcdzoo.data.pixels import Pixels, loader
from bcdzoo.data.preprocess import Preprocess
from bcdzoo.errors import BcdzooError

AT_ONCE = 8
"""Images of a batch: all maps of a layer are held together."""


def batches_of(data: str, preprocess: Preprocess, outputs: int, layout: str | None, number: int) -> Iterator[Tensor]:
    """Yield batches of normalized images, evenly spaced in a set, (n, 3, H, W).

    Args:
        data: Path of the images, in any layout.
        preprocess: Preprocessing of the images.
        outputs: Number of outputs of the network.
        layout: Data layout; detected if None.
        number: Number of images.
    """
    found = open_dataset(data, outputs, layout)
    chosen = np.unique(np.linspace(0, len(found) - 1, min(number, len(found)), dtype=int)).tolist()
    parts = [chosen[start : start + AT_ONCE] for start in range(0, len(chosen), AT_ONCE)]
    for _, crops, unreadable in loader(Pixels(found, [preprocess.geometry]), parts, workers=0):
        if unreadable:
            raise BcdzooError(unreadable[0][1])
        yield preprocess.normalize(crops[0])
