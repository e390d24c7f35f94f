"""ReActNet-A, -B, -C and -R18 (Liu et al., ECCV 2020), shaped as the authors' code builds A and R18."""

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.activation import RPReLU
from bcdzoo.layers.binary_conv import Quantizers, of_step
from bcdzoo.layers.unit import BinaryUnit, Duplicate, HalvingPool
from bcdzoo.models.trunks import (
    MOBILENET_STEM_WIDTH,
    MOBILENET_WIDTHS,
    BinaryResNet,
    MobileNetStem,
    linear,
    mobilenet_blocks,
)


def spatial_half(channels: int, stride: int, quantizers: Quantizers) -> nn.Module:
    """RSign → binary 3×3 → BN → + shortcut (2×2 average pooling when the stride is 2) → RPReLU."""
    return BinaryUnit(
        quantizers.activation(channels),
        quantizers.conv(channels, channels, 3, stride),
        channels,
        RPReLU(channels),
        HalvingPool() if stride == 2 else None,
    )


def pointwise_half(c_in: int, c_out: int, quantizers: Quantizers) -> nn.Module:
    """RSign → binary 1×1 → BN → + shortcut → RPReLU.

    Where the width doubles, the authors run two parallel 1×1 convolutions, each with its own BN and the same shortcut,
    and concatenate. That is one convolution to twice the channels, and the shortcut twice.
    """
    return BinaryUnit(
        quantizers.activation(c_in),
        quantizers.conv(c_in, c_out, 1),
        c_out,
        RPReLU(c_out),
        Duplicate() if c_out == 2 * c_in else None,
    )


def real_pointwise_half(c_in: int, c_out: int, groups: int) -> nn.Module:
    """Real-valued 1×1 → BN → RPReLU: no sign before it and no shortcut around it.

    Reconstruction: it gives the printed BOPs and FLOPs of ReActNet-B (4 groups) and -C (1) to every digit.
    """
    conv = nn.Conv2d(c_in, c_out, 1, groups=groups, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(c_out), activation=RPReLU(c_out)))


class ReActNet(nn.Module):
    """Stem, blocks, global average pooling and a linear classifier; (N, 3, H, W) to (N, num_classes), float32."""

    def __init__(
        self,
        blocks: nn.Sequential,
        num_classes: int,
        channels: int = MOBILENET_WIDTHS[-1],
        stem_width: int = MOBILENET_STEM_WIDTH,
    ) -> None:
        super().__init__()
        self.stem = MobileNetStem(stem_width)
        self.blocks = blocks
        self.fc = linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def reactnet_a(num_classes: int = 1000, step: int = 2) -> nn.Module:
    """ReActNet-A: all blocks binary."""
    return _reactnet(num_classes, step, pointwise_half)


def reactnet_b(num_classes: int = 1000, step: int = 2) -> nn.Module:
    """ReActNet-B: the 1×1 of the five widening blocks real-valued, in 4 groups (reconstruction)."""
    return _reactnet(num_classes, step, lambda c_in, c_out, _: real_pointwise_half(c_in, c_out, groups=4))


def reactnet_c(num_classes: int = 1000, step: int = 2) -> nn.Module:
    """ReActNet-C: as B, without groups (reconstruction)."""
    return _reactnet(num_classes, step, lambda c_in, c_out, _: real_pointwise_half(c_in, c_out, groups=1))


def _reactnet(num_classes: int, step: int, widening: Callable[[int, int, Quantizers], nn.Module]) -> nn.Module:
    quantizers = of_step(step)
    blocks = mobilenet_blocks(
        MOBILENET_WIDTHS,
        lambda channels, stride: spatial_half(channels, stride, quantizers),
        lambda c_in, c_out: (pointwise_half if c_in == c_out else widening)(c_in, c_out, quantizers),
    )
    return ReActNet(blocks, num_classes)


def react_residual(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None, quantizers: Quantizers) -> nn.Module:
    """RSign → binary 3×3 → BN → + shortcut → RPReLU, of the ResNet-18 trunk."""
    conv = quantizers.conv(c_in, c_out, 3, stride)
    return BinaryUnit(quantizers.activation(c_in), conv, c_out, RPReLU(c_out), shortcut)


def reactnet_r18(num_classes: int = 1000, step: int = 2) -> nn.Module:
    """ReActNet on Bi-Real-18's trunk: RSign and RPReLU instead of sign and identity."""
    return BinaryResNet(partial(react_residual, quantizers=of_step(step)), (4, 4, 4, 4), num_classes)
