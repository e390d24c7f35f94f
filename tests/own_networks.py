"""Networks of somebody else, as a user would bring them."""

import os
import time
from pathlib import Path

import torch
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn


def efficientnet_lite0() -> nn.Module:
    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    return network


class Brightness(nn.Module):
    """Three classes: as many as there are channels, the logit of each is its mean."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


class Announced(Brightness):
    """Makes the file named in ``ANNOUNCE`` when the evaluation has begun."""

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > 2:  # pairs are tried before
            Path(os.environ["ANNOUNCE"]).touch()
        return super().forward(images)


brightness = Brightness()


def broken() -> nn.Module:
    raise KeyError("no such\nlayer")


def number() -> int:
    return 7


class Pair(nn.Module):
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return images, images


class Feature(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images


class Wide(nn.Module):
    """Made for images of 32×32."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 32 * 32, 3)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.layer(images.flatten(1))
        return logits


class Same(nn.Module):
    """The same logit for each of 1000 classes, whatever the image."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.zeros(len(images), 1000)


class Inverse(nn.Module):
    """Divides by the image's mean: infinite for a black one."""

    def forward(self, images: Tensor) -> Tensor:
        return 1 / images.mean(dim=(2, 3)) if len(images) > 1 else images.mean(dim=(2, 3))


class Steady(nn.Module):
    """Ten classes by a small convolution with weights drawn when it is built; takes ``PAUSE`` seconds for a batch.

    Each process leaves its number in a file of its rank in the folder ``PIDS``.
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 5, stride=4)
        self.fc = nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > 1 and "PIDS" in os.environ:
            announced = Path(os.environ["PIDS"]) / os.environ.get("RANK", "0")
            announced.with_suffix(".new").write_text(str(os.getpid()))
            announced.with_suffix(".new").rename(announced)
        if "PAUSE" in os.environ:
            time.sleep(float(os.environ["PAUSE"]))
        logits: Tensor = self.fc(self.conv(images).relu().mean(dim=(2, 3)))
        return logits


class Interrupted(Steady):
    """Ctrl-C comes with the given batch."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.left = batch

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > 1:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return super().forward(images)


class Crowded(Steady):
    """Out of memory with more than five images at once, as a GPU that is too small."""

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(images)


class Overflowing(Steady):
    """Its third batch is too much for it, behind the two that it is tried out with."""

    batches = 0

    def forward(self, images: Tensor) -> Tensor:
        self.batches += len(images) > 1
        return super().forward(images) / (self.batches != 5)


def named(*, outputs: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, outputs))
