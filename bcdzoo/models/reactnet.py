"""ReActNet-A, -B, -C and -R18 (Liu et al., ECCV 2020), shaped as the authors' code builds A and R18."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.activation import RPReLU, RSign
from bcdzoo.layers.binary_conv import binary_or_step1_conv
from bcdzoo.layers.unit import BinaryUnit, Duplicate, HalvingPool
from bcdzoo.models.birealnet import BinaryResNet

WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
"""Output channels of ReActNet-A's 13 blocks (those of MobileNet-V1)."""

STEM_WIDTH = 32


class Stem(nn.Sequential):
    """Real-valued 3×3 convolution of stride 2, and BN."""

    conv: nn.Conv2d
    bn: nn.BatchNorm2d

    def __init__(self, c_out: int = STEM_WIDTH) -> None:
        super().__init__(
            OrderedDict(conv=nn.Conv2d(3, c_out, 3, stride=2, padding=1, bias=False), bn=nn.BatchNorm2d(c_out))
        )


def spatial_half(channels: int, stride: int, step: int) -> nn.Module:
    """RSign → binary 3×3 → BN → + shortcut (2×2 average pooling when the stride is 2) → RPReLU."""
    return BinaryUnit(
        RSign(channels),
        binary_or_step1_conv(channels, channels, 3, stride, step),
        channels,
        RPReLU(channels),
        HalvingPool() if stride == 2 else None,
    )


def pointwise_half(c_in: int, c_out: int, step: int) -> nn.Module:
    """RSign → binary 1×1 → BN → + shortcut → RPReLU.

    Where the width doubles, the authors run two parallel 1×1 convolutions, each with its own BN and the same shortcut,
    and concatenate. That is one convolution to twice the channels, and the shortcut twice.
    """
    return BinaryUnit(
        RSign(c_in),
        binary_or_step1_conv(c_in, c_out, 1, step=step),
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


def conv_blocks(
    widths: Sequence[int],
    spatial: Callable[[int, int], nn.Module],
    pointwise: Callable[[int, int], nn.Module],
) -> nn.Sequential:
    """The blocks of a MobileNet-V1 trunk, behind the stem.

    Args:
        widths: Output channels of each block; the stride is 2 where they change, except after the stem.
        spatial: Builds the first half from channels and stride.
        pointwise: Builds the second half from input and output channels.
    """
    blocks = []
    for i, (c_in, c_out) in enumerate(zip((STEM_WIDTH, *widths), widths, strict=False)):
        stride = 2 if c_in != c_out and i > 0 else 1
        halves = OrderedDict(spatial=spatial(c_in, stride), pointwise=pointwise(c_in, c_out))
        blocks.append(nn.Sequential(halves))
    return nn.Sequential(*blocks)


class ReActNet(nn.Module):
    """Stem, blocks, global average pooling and a linear classifier; (N, 3, H, W) to (N, num_classes), float32."""

    def __init__(
        self, blocks: nn.Sequential, num_classes: int, channels: int = WIDTHS[-1], stem_width: int = STEM_WIDTH
    ) -> None:
        super().__init__()
        self.stem = Stem(stem_width)
        self.blocks = blocks
        self.fc = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def reactnet_a(num_classes: int = 1000, step: int = 2) -> nn.Module:
    """ReActNet-A: all blocks binary."""
    return _reactnet(num_classes, step, widening=lambda c_in, c_out: pointwise_half(c_in, c_out, step))


def reactnet_b(num_classes: int = 1000, step: int = 2) -> nn.Module:
    """ReActNet-B: the 1×1 of the five widening blocks real-valued, in 4 groups (reconstruction)."""
    return _reactnet(num_classes, step, widening=lambda c_in, c_out: real_pointwise_half(c_in, c_out, groups=4))


def reactnet_c(num_classes: int = 1000, step: int = 2) -> nn.Module:
    """ReActNet-C: as B, without groups (reconstruction)."""
    return _reactnet(num_classes, step, widening=lambda c_in, c_out: real_pointwise_half(c_in, c_out, groups=1))


def _reactnet(num_classes: int, step: int, widening: Callable[[int, int], nn.Module]) -> nn.Module:
    blocks = conv_blocks(
        WIDTHS,
        lambda channels, stride: spatial_half(channels, stride, step),
        lambda c_in, c_out: pointwise_half(c_in, c_out, step) if c_in == c_out else widening(c_in, c_out),
    )
    return ReActNet(blocks, num_classes)


def react_residual(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None, step: int) -> nn.Module:
    """RSign → binary 3×3 → BN → + shortcut → RPReLU, of the ResNet-18 trunk."""
    return BinaryUnit(RSign(c_in), binary_or_step1_conv(c_in, c_out, 3, stride, step), c_out, RPReLU(c_out), shortcut)


def reactnet_r18(num_classes: int = 1000, step: int = 2) -> nn.Module:
    """ReActNet on Bi-Real-18's trunk: RSign and RPReLU in place of sign and identity."""
    return BinaryResNet(
        lambda c_in, c_out, stride, shortcut: react_residual(c_in, c_out, stride, shortcut, step),
        (4, 4, 4, 4),
        num_classes,
    )
