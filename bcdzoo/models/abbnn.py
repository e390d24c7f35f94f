"""A&B BNN (Ma et al., CVPR 2024) on ReActNet's ResNet-18, ResNet-34 and ReActNet-A, shaped as the authors' code.

There is no batch normalization: weights are standardized, and each unit adds a quarter of its convolution to its input.
The slopes of its activations are powers of two. In step 1 the binary weights are real-valued.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.activation import PowerRPReLU
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.abbnn import MaskedSign, StandardizedSignWeight, StandardizedWeight, standardized
from bcdzoo.layers.unit import Duplicate, HalvingPool
from bcdzoo.models.trunks import (
    MOBILENET_STEM_WIDTH,
    MOBILENET_WIDTHS,
    RESNET_WIDTHS,
    linear,
    mobilenet_blocks,
    stage,
)

Weight = type[StandardizedWeight]

_SHARE = 0.25
"""What a unit adds of its convolution's output to its input."""


class StandardizedConv2d(nn.Conv2d):
    """A real-valued convolution of standardized weights with a learned gain, no bias."""

    def __init__(self, c_in: int, c_out: int, kernel_size: int, stride: int) -> None:
        super().__init__(c_in, c_out, kernel_size, stride, kernel_size // 2, bias=False)
        self.gain = nn.Parameter(torch.ones(c_out, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.gain * standardized(self.weight), None, self.stride, self.padding)


class NormFreeUnit(nn.Module):
    """Masked sign → binary convolution → + shortcut → RPReLU; (N, c_in, H, W) to (N, c_out, ⌈H/stride⌉, ⌈W/stride⌉).

    Args:
        weight: Quantizer of the weights.
        c_in: Input channels.
        c_out: Output channels.
        kernel_size: Height and width of the kernel.
        stride: Step in pixels.
        variance: Variance of the input that is expected.
        shortcut: Module that brings the input to the output's shape.
    """

    def __init__(
        self,
        weight: Weight,
        c_in: int,
        c_out: int,
        kernel_size: int,
        stride: int,
        variance: float,
        shortcut: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.sign = MaskedSign(c_in, variance)
        self.conv = LowBitConv2d(c_in, c_out, kernel_size, stride, weight(c_out, _SHARE))
        self.shortcut = shortcut or nn.Identity()
        self.activation = PowerRPReLU(c_out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.conv(self.sign(x)) + self.shortcut(x))
        return out


def abbnn_r18(num_classes: int = 1000, step: int = 2) -> nn.Module:
    """A&B BNN on ResNet-18; its downsampling shortcuts have 1-bit weights on real activations."""
    return _resnet((4, 4, 4, 4), num_classes, step)


def abbnn_r34(num_classes: int = 1000, step: int = 2) -> nn.Module:
    """A&B BNN on ResNet-34, likewise."""
    return _resnet((6, 8, 12, 6), num_classes, step)


def _resnet(depths: Sequence[int], num_classes: int, step: int) -> nn.Module:
    weight, variances = _weight(step), _resnet_variances(depths)

    def residual(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
        return NormFreeUnit(weight, c_in, c_out, 3, stride, next(variances), shortcut)

    def shortcut(c_in: int, c_out: int) -> nn.Module:
        conv = LowBitConv2d(c_in, c_out, 1, quantizer=weight(c_out), a_bits=32)
        return nn.Sequential(OrderedDict(pool=HalvingPool(), conv=conv))

    stages = nn.Sequential()
    c_in = RESNET_WIDTHS[0]
    for depth, c_out in zip(depths, RESNET_WIDTHS, strict=True):
        stages.append(stage(residual, depth, c_in, c_out, shortcut))
        c_in = c_out
    stem = OrderedDict(conv=StandardizedConv2d(3, RESNET_WIDTHS[0], 7, 2), pool=nn.MaxPool2d(3, stride=2, padding=1))
    return _network(OrderedDict(stem=nn.Sequential(stem), stages=stages), c_in, num_classes)


def _resnet_variances(depths: Sequence[int]) -> Iterator[float]:
    """The variance that each unit's input is expected to have; a stage's first unit changes its trunk."""
    variance = 1.0
    for depth in depths:
        yield variance
        variance = 1.0
        for _ in range(depth - 1):
            yield variance
            variance += _SHARE**2


def abbnn_a(num_classes: int = 1000, step: int = 2) -> nn.Module:
    """A&B BNN on ReActNet-A."""
    weight, variances = _weight(step), _mobilenet_variances()

    def spatial(channels: int, stride: int) -> nn.Module:
        shortcut = HalvingPool() if stride == 2 else None
        return NormFreeUnit(weight, channels, channels, 3, stride, next(variances), shortcut)

    def pointwise(c_in: int, c_out: int) -> nn.Module:
        return NormFreeUnit(weight, c_in, c_out, 1, 1, next(variances), Duplicate() if c_out == 2 * c_in else None)

    stem = nn.Sequential(OrderedDict(conv=StandardizedConv2d(3, MOBILENET_STEM_WIDTH, 3, 2)))
    blocks = mobilenet_blocks(MOBILENET_WIDTHS, spatial, pointwise)
    return _network(OrderedDict(stem=stem, blocks=blocks), MOBILENET_WIDTHS[-1], num_classes)


def _mobilenet_variances() -> Iterator[float]:
    """The same of each half of a block; it begins anew behind each block that halves the map."""
    variance = 1.0
    for c_in, c_out in zip((MOBILENET_WIDTHS[0], *MOBILENET_WIDTHS), MOBILENET_WIDTHS, strict=False):
        yield variance
        yield variance + _SHARE**2
        variance = 1.0 if c_in != c_out else variance + 2 * _SHARE**2


def _network(parts: "OrderedDict[str, nn.Module]", features: int, num_classes: int) -> nn.Module:
    head = OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=linear(features, num_classes))
    return nn.Sequential(parts | head)


def _weight(step: int) -> Weight:
    if step not in (1, 2):
        raise BcdzooError(f"step must be 1 (real-valued weights) or 2 (binary weights), not {step!r}")
    return StandardizedWeight if step == 1 else StandardizedSignWeight
