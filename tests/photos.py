"""Twenty photographs of ImageNet's classes (foolbox ships them), in every layout that the zoo reads."""

import csv
import shutil
from importlib.metadata import distribution
from pathlib import Path

import numpy as np

from bcdzoo.data.classes import validation_labels, wnids

PHOTOS = sorted(Path(str(distribution("foolbox").locate_file("foolbox/data"))).glob("imagenet_*.jpg"))
LABELS = [int(path.stem.split("_")[2]) for path in PHOTOS]


def official_names() -> list[str]:
    """For each photograph the name of a validation image that has its label."""
    taken: set[int] = set()
    for label in LABELS:
        taken.add(next(int(i) for i in np.flatnonzero(validation_labels() == label) if int(i) not in taken))
    by_label = {label: sorted(i for i in taken if validation_labels()[i] == label) for label in LABELS}
    return [f"ILSVRC2012_val_{by_label[label].pop(0) + 1:08d}.JPEG" for label in LABELS]


def image_folder(root: Path) -> Path:
    for photo, label, name in zip(PHOTOS, LABELS, official_names(), strict=True):
        folder = root / "val" / wnids()[label]
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(photo, folder / name)
    return root


def flat_folder(root: Path) -> Path:
    root.mkdir(parents=True)
    for photo, name in zip(PHOTOS, official_names(), strict=True):
        shutil.copy(photo, root / name)
    return root


def csv_file(flat: Path, file: Path) -> Path:
    """A CSV of the photographs in a flat folder, the labels in turn as indices and as wnids."""
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["path", "label"])
        for number, (label, name) in enumerate(zip(LABELS, official_names(), strict=True)):
            writer.writerow([flat / name, label if number % 2 else wnids()[label]])
    return file
