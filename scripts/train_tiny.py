"""Train a tiny network of each method and write scripts/train_tiny.json, for the slow tests and docs/training.md.

    python -m scripts.train_tiny [METHOD]...

Each is trained twice, for seconds on one core: as it is, and with the weights of its low-bit layers left as they were
drawn (``frozen``), all else being trained. It learns through them if the first is well above the second. Methods that
are not named keep their figures. The training images are those of Debian's package dataset-fashion-mnist.
"""

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

import bcdzoo
from bcdzoo.train.stages import train
from scripts.tiny_methods import METHODS

DATA = Path("/usr/share/datasets/fashion-mnist")
NETWORK = "scripts.tiny_methods:network"
FIGURES = Path(__file__).with_suffix(".json")
RECIPE = Path(__file__).with_suffix(".toml")


def top1(method: str, control: str = "") -> float:
    """Train the tiny network of a method; returns its accuracy on the first 2,000 test images in percent."""
    settings = {"build.method": method, "build.control": control}
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        images.mkdir()
        for file in DATA.glob("train-*"):  # alone: else all 10,000 test images are evaluated behind each training
            (images / file.name).symlink_to(file)
        (trained,) = train(NETWORK, images, Path(folder) / "run", recipe=str(RECIPE), settings=settings, workers=0)
        weights = trained.weights
        found = bcdzoo.evaluate(
            NETWORK, "demo", weights=weights, workers=0, progress=False, check=False, method=method, control=control
        )
    return found.top1


def main(chosen: list[str]) -> None:
    """Train the chosen methods, or all."""
    torch.set_num_threads(1)
    figures: dict[str, Any] = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    for method in chosen or METHODS:
        start = time.process_time()
        learned, frozen = top1(method), top1(method, "frozen")
        seconds = round((time.process_time() - start) / 2)
        figures[method] = {"top1": learned, "frozen": frozen, "seconds": seconds, "machine": machine()}
        known = {method: figures[method] for method in METHODS if method in figures}
        FIGURES.write_text(json.dumps(known, indent=1) + "\n")
        print(method, figures[method], flush=True)


def machine() -> str:
    """Processor and software that a figure is from."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
    return f"{model}, one thread, torch {torch.__version__}"


if __name__ == "__main__":
    main(sys.argv[1:])
