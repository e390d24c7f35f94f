"""How much of the slower of decoding and computing an evaluation reaches: one process decodes, one thread computes.

    python -m benchmarks.end_to_end

Uses foolbox's 20 photographs, many times over. It prints, for a network of almost no work, a quick one and a slow one,
the images per second of decoding alone, of computing alone and of the whole evaluation, all in one run; then the same
evaluation from images that were prepared.
"""

import shutil
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import nn

import bcdzoo
from bcdzoo.data.imagenet import ImageSet, open_dataset
from bcdzoo.data.pixels import Pixels, loader
from bcdzoo.data.prepare import prepare
from bcdzoo.data.preprocess import PRESETS
from bcdzoo.layers.int8 import with_int8
from tests.photos import PHOTOS

IMAGES = 800
BATCH = 16
PRESET = PRESETS["imagenet"]


class Pooled(nn.Module):
    """Next to nothing: as fast as images come."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:  # noqa: D102
        return images.mean(dim=(2, 3)).repeat(1, 400)[:, :1000]


def photos(folder: Path) -> ImageSet:
    for number in range(IMAGES):
        shutil.copy(PHOTOS[number % len(PHOTOS)], folder / f"{number:05}.jpg")
    (folder / "list.csv").write_text("\n".join(f"{number:05}.jpg,0" for number in range(IMAGES)))
    return open_dataset(folder / "list.csv")


def rate(work: Callable[[], object], images: int) -> float:
    start = time.perf_counter()
    work()
    return images / (time.perf_counter() - start)


def decode(images: ImageSet) -> None:
    batches = [range(start, start + BATCH) for start in range(0, len(images), BATCH)]
    for _ in loader(Pixels(images, [PRESET.geometry]), batches, workers=1):
        pass


def compute(network: nn.Module, batch: torch.Tensor, repeat: int) -> None:
    with torch.inference_mode():
        for _ in range(repeat):
            network(PRESET.normalize(batch))


def evaluate(network: nn.Module, images: ImageSet, workers: int) -> float:
    result = bcdzoo.evaluate(network, images, batch_size=BATCH, workers=workers, preprocess=PRESET, check=False)
    return result.images_per_second


def main() -> None:
    torch.set_num_threads(1)
    networks = {
        "mean of the pixels": (Pooled(), IMAGES),
        "bcdnet-a": (with_int8(bcdzoo.create_model("bcdnet-a").eval()), 160),
        "resnet-18": (bcdzoo.create_model("resnet-18").eval(), 160),
    }
    with tempfile.TemporaryDirectory() as folder:
        images = photos(Path(folder))
        batch = torch.stack([PRESET.geometry.pixels(images.image(index)) for index in range(BATCH)])
        compute(networks["resnet-18"][0], batch, 2)
        for name, (network, count) in networks.items():
            some = ImageSet(images.samples[:count], images.name, images.layout, images.labels_from)
            alone = rate(partial(decode, some), count), rate(partial(compute, network, batch, count // BATCH), count)
            whole = evaluate(network, some, workers=1)
            print(
                f"{name:20} decode {alone[0]:7.1f}/s, compute {alone[1]:7.1f}/s, end to end {whole:7.1f}/s: "
                f"{100 * whole / min(alone):.0f} % of the slower"
            )
        prepare(images, PRESET.geometry, workers=1)
        print(f"{'from prepared images':20} end to end {evaluate(networks['mean of the pixels'][0], images, 0):7.1f}/s")


if __name__ == "__main__":
    main()
