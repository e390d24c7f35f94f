"""Networks of somebody else, as a user would bring them."""

import os
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
        if len(images) > 1:
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
