"""PokeBNN (Zhang et al., CVPR 2022) in its published widths, shaped as the authors' JAX code (google/aqt).

ResNet-50 without a real-valued convolution: the first two and the classifier have 8 bits, the gates 4, all others one.
A convolution has two shortcuts: one around itself, and, the last of each block, one around the block. None has weights:
channels are averaged, repeated or filled with zeros, and maps are pooled.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.activation import DPReLU
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.bounded import BoundedConv2d
from bcdzoo.layers.lowering import Lowering, Value, constant
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.padding import SamePad
from bcdzoo.layers.quantizers.pokebnn import BoundedWeight, bounded_sign
from bcdzoo.layers.quantizers.sign import Sign
from bcdzoo.models.trunks import RESNET_WIDTHS

DEPTHS = (3, 4, 6, 3)
"""Blocks of each stage, as in ResNet-50."""

STEM_GROUPS, STEM_WIDTH = 32, 64
WIDENING = 4
"""Channels of a block's output for each of those inside."""


class MeanOfChannels(nn.Module):
    """Means of consecutive channels; (N, group·C, H, W) to (N, C, H, W).

    Args:
        group: Number of channels in a mean.
    """

    def __init__(self, group: int) -> None:
        super().__init__()
        self.group = group

    def forward(self, x: Tensor) -> Tensor:
        means: Tensor = x.unflatten(1, (-1, self.group)).mean(2)
        return means

    def lower(self, plan: Lowering, x: Value) -> Value:
        c_out = x.shape[0] // self.group
        weight = torch.full((c_out, self.group, 1, 1), 1 / self.group)
        return plan.add("conv", x=x, weight=weight, relu=0, stride=(1, 1), padding=(0,) * 4, groups=c_out)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"pool": output.numel()}


class FirstChannels(nn.Module):
    """The first channels; (N, C, H, W) to (N, channels, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def forward(self, x: Tensor) -> Tensor:
        return x[:, : self.channels]


class MoreChannels(nn.Module):
    """The map with channels of zeros behind it, or several times; (N, c_in, H, W) to (N, c_out, H, W).

    Args:
        c_in: Input channels.
        c_out: Output channels, a multiple of them if the map is repeated.
        repeat: Whether it is.
    """

    def __init__(self, c_in: int, c_out: int, repeat: bool) -> None:
        super().__init__()
        self.zeros, self.times = (0, c_out // c_in) if repeat else (c_out - c_in, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 0, 0, 0, self.zeros)) if self.zeros else torch.cat([x] * self.times, dim=1)

    def lower(self, plan: Lowering, x: Value) -> Value:
        nothing, channels = x, x.shape[0]
        if self.zeros:
            nothing = plan.add("clip", x=x, low=0.0, high=0.0)
        parts = [x] + [nothing] * (self.zeros // channels + self.times - 1)
        if rest := self.zeros % channels:
            parts.append(plan.add("slice", x=nothing, axis=0, start=0, stop=rest, step=1))
        return plan.add("concat", **{f"x{i}": part for i, part in enumerate(parts)})

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {}


class HardSigmoid(nn.Module):
    """``min(max(x + 3, 0), 6) / 6``; any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + 3).clamp(0, 6) * (1 / 6)

    def lower(self, plan: Lowering, x: Value) -> Value:
        moved = plan.add("scale_shift", x=x, alpha=constant(1.0), beta=constant(3.0))
        clipped = plan.add("clip", x=moved, low=0.0, high=6.0)
        return plan.add("scale_shift", x=clipped, alpha=constant(1 / 6), beta=constant(0.0))

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"activation": output.numel()}


def shortcut(c_in: int, c_out: int, stride: int, repeat: bool = False) -> nn.Module:
    """A shortcut without weights; (N, c_in, H, W) to (N, c_out, ⌈H/stride⌉, ⌈W/stride⌉).

    Fewer channels are means of as many consecutive ones as fit, and what does not fit is left out. The pooling counts
    the border as zeros.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        stride: 1, or 2 for a 3×3 average pooling.
        repeat: Whether more channels are copies of the map, not zeros.
    """
    parts: list[nn.Module] = [SamePad(3, 2), nn.AvgPool2d(3, 2)] if stride == 2 else []
    group = c_in // c_out
    if group and group * c_out < c_in:
        parts.append(FirstChannels(group * c_out))
    if group > 1:
        parts.append(MeanOfChannels(group))
    if c_in < c_out:
        parts.append(MoreChannels(c_in, c_out, repeat))
    return nn.Sequential(*parts)


def gate(c_in: int, c_out: int) -> nn.Module:
    """Squeeze and excitation in 4 bits: pooling → 1×1 to an eighth → ReLU → 1×1 → hard sigmoid."""
    layers = OrderedDict[str, nn.Module](
        pool=nn.AdaptiveAvgPool2d(1),
        reduce=BoundedConv2d(c_in, c_in // 8, 1, bits=4),
        relu=nn.ReLU(),
        expand=BoundedConv2d(c_in // 8, c_out, 1, bits=4, positive=True),
        sigmoid=HardSigmoid(),
    )
    return nn.Sequential(layers)


class PokeConv(nn.Module):
    """Sign → binary convolution → BN → + shortcuts → DPReLU → · gate of the input → BN.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        kernel_size: Kernel size of the convolution.
        stride: Its stride.
        around: Shortcut around the block, of the block's input, if this is its last convolution; its BN starts with
            the scale 0 then, as the last of a ResNet's block.

    Shape:
        (N, c_in, H, W), and the block's input if it is another map, to (N, c_out, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    def __init__(self, c_in: int, c_out: int, kernel_size: int, stride: int, around: nn.Module | None = None) -> None:
        super().__init__()
        self.sign = Sign(bounded_sign)
        self.conv = LowBitConv2d(c_in, c_out, kernel_size, stride, BoundedWeight(), padding="tensorflow")
        self.bn = nn.BatchNorm2d(c_out)
        self.shortcut = shortcut(c_in, c_out, stride)
        self.around = around
        self.activation = DPReLU(c_out)
        self.gate = gate(c_in, c_out)
        self.bn_gated = nn.BatchNorm2d(c_out)
        if around is not None:
            nn.init.zeros_(self.bn.weight)

    def forward(self, x: Tensor, block: Tensor | None = None) -> Tensor:
        y = self.bn(self.conv(self.sign(x))) + self.shortcut(x)
        if self.around is not None:
            y = y + self.around(x if block is None else block)
        out: Tensor = self.bn_gated(self.activation(y) * self.gate(x))
        return out


class Bottleneck(nn.Module):
    """1×1 → 3×3 → 1×1 to four times the channels; (N, c_in, H, W) to (N, 4·channels, ⌈H/stride⌉, ⌈W/stride⌉)."""

    def __init__(self, c_in: int, channels: int, stride: int) -> None:
        super().__init__()
        c_out = WIDENING * channels
        self.reduce = PokeConv(c_in, channels, 1, 1)
        self.spatial = PokeConv(channels, channels, 3, stride)
        self.expand = PokeConv(channels, c_out, 1, 1, around=shortcut(c_in, c_out, stride, repeat=True))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.expand(self.spatial(self.reduce(x)), x)
        return out


class PokeBNN(nn.Sequential):
    """Stem of 8 bits, four stages of blocks, pooling, classifier of 8 bits; (N, 3, H, W) to (N, num_classes), float32.

    Args:
        width: Factor of the channels; a multiple of 1/4, so that the first block can repeat the stem's 64 channels.
        num_classes: Number of outputs.

    Raises:
        BcdzooError: ``width`` is no such multiple.
    """

    def __init__(self, width: float, num_classes: int) -> None:
        if width <= 0 or 4 * width % 1:
            raise BcdzooError(f"width must be a multiple of 1/4, not {width!r}")
        stem = OrderedDict[str, nn.Module](
            patches=BoundedConv2d(3, STEM_GROUPS, 4, bits=8, stride=4, bias=False),
            bn_patches=nn.BatchNorm2d(STEM_GROUPS),
            activation_patches=DPReLU(STEM_GROUPS),
            grouped=BoundedConv2d(STEM_GROUPS, STEM_WIDTH, 3, bits=8, groups=STEM_GROUPS, bias=False),
            bn=nn.BatchNorm2d(STEM_WIDTH),
            activation=DPReLU(STEM_WIDTH),
        )
        stages = nn.Sequential()
        c_in = STEM_WIDTH
        for stage, depth in enumerate(DEPTHS):
            channels = int(width * RESNET_WIDTHS[stage])
            blocks = nn.Sequential()
            for block in range(depth):
                blocks.append(Bottleneck(c_in, channels, 2 if stage and not block else 1))
                c_in = WIDENING * channels
            stages.append(blocks)
        head = OrderedDict[str, nn.Module](pool=nn.AdaptiveAvgPool2d(1))
        if num_classes:
            head["fc"] = BoundedConv2d(c_in, num_classes, 1, bits=8)
        head["flatten"] = nn.Flatten()
        super().__init__(OrderedDict(stem=nn.Sequential(stem), stages=stages, head=nn.Sequential(head)))


def pokebnn_0_5x(num_classes: int = 1000) -> nn.Module:
    """PokeBNN-0.5x."""
    return PokeBNN(0.5, num_classes)


def pokebnn_0_75x(num_classes: int = 1000) -> nn.Module:
    """PokeBNN-0.75x."""
    return PokeBNN(0.75, num_classes)


def pokebnn_1_0x(num_classes: int = 1000) -> nn.Module:
    """PokeBNN-1.0x."""
    return PokeBNN(1.0, num_classes)
