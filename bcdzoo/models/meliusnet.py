"""MeliusNet-22, -42 and -59 (Bethge et al., MeliusNet, arXiv:2001.05936), shaped as the authors' code builds them."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.binary_conv import Quantizers, of_step
from bcdzoo.layers.padding import max_pool, split_padding
from bcdzoo.layers.quantizers.sign import ClippedSignWeight, clipped_sign
from bcdzoo.models.trunks import linear

GROWTH = 64
"""Channels that a dense block adds and an improvement block improves; also those of the stem."""

THRESHOLD = 1.3
"""Where the sign's straight-through gradient ends, for weights and activations."""


class BinaryBranch(nn.Module):
    """BN → sign → binary 3×3 to 64 channels."""

    def __init__(self, c_in: int, quantizers: Quantizers, dilation: int = 1) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(c_in)
        self.sign = clipped_sign(THRESHOLD)
        self.conv = quantizers.conv(c_in, GROWTH, 3, dilation=dilation)

    def branch(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, 64, H, W)."""
        out: Tensor = self.conv(self.sign(self.bn(x)))
        return out


class DenseBlock(BinaryBranch):
    """Appends 64 new channels to the map; (N, C, H, W) to (N, C + 64, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.branch(x)], dim=1)


class ImprovementBlock(BinaryBranch):
    """Adds its output to the last 64 channels, those the dense block before it appended; shape kept."""

    def forward(self, x: Tensor) -> Tensor:
        older, newest = x[:, :-GROWTH], x[:, -GROWTH:]
        return torch.cat([older, newest + self.branch(x)], dim=1)


def stem(padding: str, pool: int) -> nn.Sequential:
    """Build the grouped stem: three real-valued 3×3 convolutions (4 groups in the second, 8 in the third), max pooling.

    It replaces ResNet's 7×7; (N, 3, H, W) to (N, 64, H/4, W/4).
    """

    def layer(c_in: int, c_out: int, stride: int, groups: int) -> nn.Module:
        pad, margin = split_padding(3, stride, padding)
        conv = nn.Conv2d(c_in, c_out, 3, stride, margin, groups=groups, bias=False)
        return nn.Sequential(
            OrderedDict(pad=pad or nn.Identity(), conv=conv, bn=nn.BatchNorm2d(c_out), activation=nn.ReLU())
        )

    if pool not in (2, 3):
        raise BcdzooError(f"stem_pool must be 3 (the authors') or 2 (larq's), not {pool!r}")
    half = GROWTH // 2
    return nn.Sequential(
        layer(3, half, 2, groups=1),
        layer(half, half, 1, groups=4),
        layer(half, GROWTH, 1, groups=8),
        max_pool(pool, padding),
    )


class Transition(nn.Sequential):
    """BN → 2×2 max pooling → ReLU → real-valued 1×1; (N, C, H, W) to (N, C', ⌈H/2⌉, ⌈W/2⌉).

    Args:
        c_in: Input channels.
        c_out: Output channels.
        ceil_mode: Whether an odd map's last row and column are pooled apart; else they are left out.
    """

    bn: nn.BatchNorm2d
    pool: nn.MaxPool2d
    conv: nn.Conv2d

    def __init__(self, c_in: int, c_out: int, ceil_mode: bool = True) -> None:
        super().__init__(
            OrderedDict(
                bn=nn.BatchNorm2d(c_in),
                pool=nn.MaxPool2d(2, ceil_mode=ceil_mode),
                activation=nn.ReLU(),
                conv=nn.Conv2d(c_in, c_out, 1, bias=False),
            )
        )


class MeliusNet(nn.Module):
    """Grouped stem, four stages of dense and improvement blocks in turn, BN, ReLU, global pooling, linear classifier.

    Args:
        depths: Number of pairs of blocks in each stage.
        widths: Channels after the transition of each stage except the last.
        num_classes: Number of outputs.
        step: Training step: 1 (real-valued weights) or 2.
        padding: Padding of the stem, see :func:`bcdzoo.layers.padding.split_padding`.
        stem_pool: Kernel of the stem's pooling.

    Shape:
        (N, 3, H, W) to (N, num_classes), float32.
    """

    def __init__(
        self,
        depths: Sequence[int],
        widths: Sequence[int],
        num_classes: int,
        step: int,
        padding: str = "symmetric",
        stem_pool: int = 3,
    ) -> None:
        super().__init__()
        quantizers = of_step(step, partial(ClippedSignWeight, THRESHOLD))
        self.stem = stem(padding, stem_pool)
        self.stages = nn.Sequential()
        channels = GROWTH
        for i, depth in enumerate(depths):
            stage = nn.Sequential()
            for _ in range(depth):
                pair = OrderedDict[str, nn.Module](
                    dense=DenseBlock(channels, quantizers), improve=ImprovementBlock(channels + GROWTH, quantizers)
                )
                stage.append(nn.Sequential(pair))
                channels += GROWTH
            if i < len(widths):
                stage.add_module("transition", Transition(channels, widths[i]))
                channels = widths[i]
            self.stages.append(stage)
        self.bn = nn.BatchNorm2d(channels)
        self.fc = linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.stages(self.stem(x))))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def meliusnet_22(num_classes: int = 1000, step: int = 2, padding: str = "symmetric", stem_pool: int = 3) -> nn.Module:
    """MeliusNet-22.

    Args:
        num_classes: Number of outputs.
        step: Training step: 2, or 1 for the form with real-valued weights.
        padding: "symmetric" as in the authors' code, or "tensorflow" for larq's weights.
        stem_pool: Kernel of the stem's pooling: 3 as in the authors' code, or 2 for larq's weights.
    """
    return MeliusNet((4, 5, 4, 4), (160, 224, 256), num_classes, step, padding, stem_pool)


def meliusnet_42(num_classes: int = 1000, step: int = 2) -> nn.Module:
    """MeliusNet-42."""
    return MeliusNet((5, 8, 14, 10), (160, 256, 416), num_classes, step)


def meliusnet_59(num_classes: int = 1000, step: int = 2) -> nn.Module:
    """MeliusNet-59."""
    return MeliusNet((6, 12, 24, 12), (192, 320, 544), num_classes, step)
