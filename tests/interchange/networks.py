"""Trained networks with a hundred real pictures each, and larger ones with random weights."""

import gzip
import tarfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import bcdzoo
from bcdzoo.data.imagenet import DEMO
from bcdzoo.data.preprocess import parse
from tests import mnist
from tests.packed.unsettled import unsettle

FILES = {"finn-lfc-w1a1": "finn-bnn-pynq-lfcW1A1-cnvW1A1.tar.gz", "adabin-resnet20": "adabin-resnet20-cifar10.th"}
"""Trained networks that are not in the package."""


def trained(name: str, real_data: Path | None = None) -> nn.Module:
    """A trained network; all but bcdnet-tiny need the folder of real data."""
    return bcdzoo.load_model(name, real_data / FILES[name] if real_data else None)


def pictures(name: str, real_data: Path | None = None) -> Tensor:
    """A hundred pictures as the network takes them: clothes, digits, or photographs made small."""
    preprocess = parse(str(trained(name, real_data).preprocess))
    return torch.stack([preprocess(image.convert("RGB")) for image in _images(name, real_data)])


def _images(name: str, real_data: Path | None) -> Iterable[Image.Image]:
    if real_data is None:
        with gzip.open(DEMO / "t10k-images-idx3-ubyte.gz") as images:
            content = np.frombuffer(images.read(16 + 100 * 28 * 28), np.uint8, offset=16)
        yield from map(Image.fromarray, content.reshape(-1, 28, 28))
    elif "finn" in name:
        yield from map(Image.fromarray, mnist.pixels(real_data, 100))
    else:
        with tarfile.open(real_data / "imagenet-photos-200.tar") as archive:
            for member in [member for member in archive if member.isfile()][:100]:
                file = archive.extractfile(member)
                assert file is not None
                yield Image.open(file).resize((32, 32))


def untrained(name: str) -> nn.Module:
    """A network with random weights, whose constants are as after training."""
    torch.manual_seed(0)
    return unsettle(bcdzoo.create_model(name, num_classes=10), 0)


def plain(network: nn.Module, x: Tensor) -> np.ndarray:
    """Torch's logits."""
    with torch.inference_mode():
        return np.asarray(network(x))


def assert_same_guesses(found: np.ndarray, network: nn.Module, x: Tensor) -> None:
    """A guess may differ from torch's where torch's own is another one if pixels are another in their last digit.

    A value lies within a rounding of its threshold there: so it is at 4 of adabin-resnet20's 100 pictures.
    """
    expected = plain(network, x).argmax(1)
    other = np.flatnonzero(found.argmax(1) != expected)
    if not len(other):
        return
    draw = torch.Generator().manual_seed(0)
    others = [plain(network, x[other] * (1 + 1e-6 * torch.randn(x[other].shape, generator=draw))) for _ in range(8)]
    assert (np.stack(others).argmax(2) != expected[other]).any(0).all(), other
    assert len(other) <= 0.04 * len(x)
