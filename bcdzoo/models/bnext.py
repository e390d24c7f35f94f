"""BNext-T, -S, -M and -L (Guo et al., arXiv:2211.12933, 2022), shaped as the authors' code (src/bnext.py) builds them.

Every binary convolution is followed by a gate computed from a mix of its real-valued input and its output ("adaptive
mix-to-binary attention"), and every second 3×3 also multiplies its output by its shortcut ("element attention").
They have no training step 1: the authors binarize the weights gradually instead, see :class:`ProgressiveSignWeight`.
"""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizers.base import Scheduled, WeightQuantizer
from bcdzoo.layers.quantizers.sign import RSign, sign, straight_through
from bcdzoo.layers.unit import HalvingPool
from bcdzoo.models.trunks import MobileNetStem, linear

STEM_WIDTHS = {"t": 32, "s": 48, "m": 48, "l": 64}
DEPTHS = {"t": (2, 2, 6, 2), "s": (2, 2, 6, 2), "m": (4, 4, 8, 4), "l": (4, 4, 16, 4)}
"""Blocks of each stage, after one block that doubles the stem's width; every stage doubles it again."""

LIMIT = 1.5
"""Activations beyond it have no gradient, and weights are kept within it."""


def limited_sign(x: Tensor) -> Tensor:
    """±1, with the gradient of a clip to ±:data:`LIMIT`; any shape."""
    if not torch.is_grad_enabled():
        return sign(x)
    return straight_through(sign(x.detach()), x.clamp(-LIMIT, LIMIT))


class ProgressiveSignWeight(WeightQuantizer, Scheduled):
    """Sign of the weights, reached gradually, with a straight-through gradient; no scale.

    In training the weights are ``clip(W / temperature)`` to [-1, 1], straight-through, and below a temperature of 1e-7
    their signs. The authors multiply the temperature by 0.9 after each of 512 epochs. In evaluation the weights are
    their signs at any time (the authors': from epoch 153 on).
    """

    def __init__(self) -> None:
        super().__init__()
        self.set_progress(0)

    def set_progress(self, progress: float) -> None:
        self.temperature = 0.9 ** int(512 * progress)

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        scale = torch.ones(len(weight), dtype=weight.dtype, device=weight.device)
        if not self.training:
            return straight_through(sign(weight.detach()), weight), scale
        weight.data.clamp_(-LIMIT, LIMIT)
        latent = weight.detach()
        levels = sign(latent) if self.temperature < 1e-7 else (latent / self.temperature).clamp_(-1, 1)
        return straight_through(levels, weight), scale


class Gate(nn.Sequential):
    """Squeeze and excitation: pooling → 1×1 to an eighth → ReLU → 1×1 → sigmoid; (N, C, H, W) to (N, C, 1, 1)."""

    def __init__(self, channels: int) -> None:
        layers = OrderedDict[str, nn.Module](
            pool=nn.AdaptiveAvgPool2d(1),
            reduce=nn.Conv2d(channels, channels // 8, 1),
            relu=nn.ReLU(),
            expand=nn.Conv2d(channels // 8, channels, 1),
            sigmoid=nn.Sigmoid(),
        )
        super().__init__(layers)


class Mix(nn.Module):
    """``m·x + (1 - m)·y`` with a learned m in [0, 1] per channel; two maps (N, C, H, W) to one.

    Args:
        channels: C.
        clamped: Whether m is kept in [0, 1] in evaluation too, not in training alone: the authors' code does so behind
            1×1 convolutions only, and the last update of training may leave an m outside.
    """

    def __init__(self, channels: int, clamped: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((1, channels, 1, 1), 0.5))
        self.clamped = clamped

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        if self.training:
            self.weight.data.clamp_(0, 1)
        m = self.weight.clamp(0, 1) if self.clamped and not self.training else self.weight
        return m * x + (1 - m) * y

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"gate": 2 * output.numel(), "add": output.numel()}


class FeedForward(nn.Module):
    """Sign → binary convolution → BN → PReLU → gate → BN → + shortcut (the authors' "processor" and its shortcut).

    The gate sees a mix of the unit's input and of what it multiplies. With element attention the shortcut first
    passes a PReLU, and the gated map is multiplied by it before the second BN.

    Args:
        channels: Number of input and output channels.
        kernel_size: Kernel size of the convolution.
        stride: With 2, shortcut and mix take the 2×2 average-pooled input.
        element_attention: Whether the map is multiplied by its shortcut.

    Shape:
        (N, channels, H, W) to (N, channels, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    def __init__(self, channels: int, kernel_size: int, stride: int = 1, element_attention: bool = False) -> None:
        super().__init__()
        self.sign = RSign(channels, limited_sign)
        self.conv = LowBitConv2d(channels, channels, kernel_size, stride, ProgressiveSignWeight())
        self.bn = nn.BatchNorm2d(channels)
        self.activation = nn.PReLU(channels)
        self.pool = HalvingPool() if stride == 2 else nn.Identity()
        self.mix = Mix(channels, clamped=kernel_size == 1)
        self.gate = Gate(channels)
        self.shortcut_activation = nn.PReLU(channels) if element_attention else None
        self.bn_gated = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.bn(self.conv(self.sign(x))))
        pooled = self.pool(x)
        y = self.gate(self.mix(pooled, y)) * y
        if self.shortcut_activation is None:
            shortcut = pooled
        else:
            shortcut = self.pool(self.shortcut_activation(x))
            y = y * shortcut
        out: Tensor = self.bn_gated(y) + shortcut
        return out


class Widen(nn.ModuleList):
    """Two feed-forward units on the same map, concatenated; (N, C, H, W) to (N, 2C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([unit(x) for unit in self], dim=1)


class BNext(nn.Module):
    """Stem, blocks of a 3×3 and a 1×1 unit, PReLU, global average pooling and a linear classifier.

    Args:
        width: Channels of the stem.
        depths: Blocks of each stage.
        num_classes: Number of outputs.

    Shape:
        (N, 3, H, W) to (N, num_classes), float32.
    """

    def __init__(self, width: int, depths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.stem = MobileNetStem(width)
        self.blocks = nn.Sequential()
        c_in = width
        for stage, depth in enumerate((1, *depths)):
            c_out = width << (stage + 1)
            for _ in range(depth):
                self.blocks.append(self._block(c_in, c_out, 2 if c_in != c_out and stage else 1))
                c_in = c_out
        self.activation = nn.PReLU(c_in)
        self.fc = linear(c_in, num_classes)

    def _block(self, c_in: int, c_out: int, stride: int) -> nn.Module:
        element_attention = len(self.blocks) % 2 == 1  # in every second block
        spatial = FeedForward(c_in, 3, stride, element_attention)
        pointwise = FeedForward(c_in, 1) if c_in == c_out else Widen([FeedForward(c_in, 1), FeedForward(c_in, 1)])
        return nn.Sequential(OrderedDict(spatial=spatial, pointwise=pointwise))

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.blocks(self.stem(x)))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def bnext_t(num_classes: int = 1000) -> nn.Module:
    """BNext-T(iny)."""
    return BNext(STEM_WIDTHS["t"], DEPTHS["t"], num_classes)


def bnext_s(num_classes: int = 1000) -> nn.Module:
    """BNext-S(mall)."""
    return BNext(STEM_WIDTHS["s"], DEPTHS["s"], num_classes)


def bnext_m(num_classes: int = 1000) -> nn.Module:
    """BNext-M(iddle)."""
    return BNext(STEM_WIDTHS["m"], DEPTHS["m"], num_classes)


def bnext_l(num_classes: int = 1000) -> nn.Module:
    """BNext-L(arge)."""
    return BNext(STEM_WIDTHS["l"], DEPTHS["l"], num_classes)
