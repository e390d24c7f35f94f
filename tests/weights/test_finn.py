"""FINN's networks: the files in, and out what the hardware computes of them; the published accuracy where it is."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bcdzoo import load_model, pack
from bcdzoo.errors import BcdzooError
from tests import mnist
from tests.weights import finn

MODELS = {"lfc": "finn-lfc-w1a1", "cnv": "finn-cnv-w1a1"}
SIZES = {"lfc": (28, 1), "cnv": (32, 3)}
REAL = "finn-bnn-pynq-lfcW1A1-cnvW1A1.tar.gz"


def logits(model: nn.Module, images: np.ndarray) -> Tensor:
    """Of images in bytes, (N, H, W) or (N, H, W, 3), preprocessed as the model's files say."""
    colours = images[..., None].repeat(3, -1) if images.ndim == 3 else images
    pixels = torch.from_numpy(colours.copy()).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        result: Tensor = model((pixels - 0.5) / 0.5)
    return result


def some_images(program: str, n: int) -> np.ndarray:
    size, channels = SIZES[program]
    images = np.random.default_rng(1).integers(0, 256, (n, size, size, channels), np.uint8)
    return images[..., 0] if channels == 1 else images


@pytest.mark.parametrize("program", MODELS)
@pytest.mark.parametrize("form", ["folder", "x.tar", "x.tar.gz", "x.zip"])
def test_a_network_computes_what_its_hardware_does(program: str, form: str, tmp_path: Path) -> None:
    content = finn.files(program, finn.invented(program))
    write = finn.write_folder if form == "folder" else finn.write_archive
    model = load_model(MODELS[program], write(content, tmp_path / form))
    images = some_images(program, 3)
    shaped = images if program == "cnv" else images[..., None]
    found = logits(model, images)
    assert found.tolist() == finn.run(program, content, shaped).tolist()
    assert torch.equal(logits(pack(model), images), found)


@pytest.mark.parametrize(("program", "folder"), [("lfc", "mnist/lfcW1A1"), ("cnv", "cifar10/cnvW1A1")])
def test_a_trained_network_computes_what_its_hardware_does(program: str, folder: str, real_data: Path) -> None:
    from bcdzoo.weights.bundle import read_files

    there = read_files(real_data / REAL)
    where = next(name.rpartition("/")[0] for name in there if f"{folder}/" in name)
    content = {name.rpartition("/")[2]: content for name, content in there.items() if name.startswith(where)}
    model = load_model(MODELS[program], real_data / REAL)
    images = mnist.pixels(real_data, 50) if program == "lfc" else some_images("cnv", 2)
    shaped = images if program == "cnv" else images[..., None]
    found = logits(model, images)
    assert found.tolist() == finn.run(program, content, shaped).tolist()
    assert torch.equal(logits(pack(model), images), found)


