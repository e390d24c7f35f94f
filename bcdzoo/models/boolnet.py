"""BoolNet and BaseNet (Guo et al., arXiv:2106.06991, 2021) on ResNet-18, shaped as the authors' code.

Between stem and classifier a map is k slices of bits: the signs of the same numbers at k thresholds. A binary 3×3 reads
one slice for each group of its outputs. Shortcuts are XNOR after a block's first convolution and OR after its second. A
block of BoolNet also hands on its shortcut, as further channels, of which the next one reads one half and hands on the
other.

The authors shuffle the two, channel by channel. Here one is put behind the other, and weights are read in that order,
so that a map's bits stay where they are.
"""

from collections import OrderedDict
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.boolean import ChannelBias, Either, Interleave, SignBorder, SliceMean, Xnor, evens_first
from bcdzoo.layers.quantizers.boolnet import GradualSignWeight, SlicedSign
from bcdzoo.models.trunks import RESNET_WIDTHS, linear

_UPDATES = 5  # of the temperature in an epoch of ImageNet, one for 1000 batches of 256


def _evens_first(channels: int) -> list[int]:
    return [*range(0, channels, 2), *range(1, channels, 2)]


class Form(NamedTuple):
    """What the networks differ in.

    Attributes:
        slices: k, the number of slices.
        hands_on: Whether a block hands on its shortcut.
        updates: How often the temperature of the weights falls in a training.
    """

    slices: int
    hands_on: bool
    updates: int

    def conv(self, c_in: int, c_out: int, stride: int, dilation: int, order: Sequence[int]) -> nn.Module:
        """A binary 3×3 of slices of ``c_in`` channels, with weights that are read in an order."""
        weights = GradualSignWeight(self.updates, order)
        sliced = {"padding": 0, "dilation": dilation, "groups": self.slices}
        conv = LowBitConv2d(self.slices * c_in, c_out, 3, stride, weights, **sliced)
        return nn.Sequential(OrderedDict(border=SignBorder(dilation), conv=conv))

    def shortcut(self, c_in: int, c_out: int, stride: int, order: Sequence[int]) -> nn.Module:
        """A binary 1×1 of all slices of ``c_in`` channels, and max pooling in place of its stride."""
        every = [c_in * slice + channel for slice in range(self.slices) for channel in order]
        weights = GradualSignWeight(self.updates, every)
        parts = OrderedDict[str, nn.Module](
            border=SignBorder(0),
            conv=LowBitConv2d(self.slices * c_in, c_out, 1, quantizer=weights),
            bias=ChannelBias(c_out),
            pool=nn.MaxPool2d(2, ceil_mode=True) if stride == 2 else nn.Identity(),
            bn=nn.BatchNorm2d(c_out),
            signs=SlicedSign(self.slices),
        )
        return nn.Sequential(parts)


class Block(nn.Module):
    """Conv → BN → signs → XNOR with the shortcut → conv → BN → signs → OR with the shortcut; slices of bits to such.

    Args:
        form: Form of the network.
        c_in: Channels of a slice.
        c_out: Channels of a slice of the output.
        stride: Stride of the first convolution.
        dilation: Distance of the taps of both.
        order: Order in which the first convolution's weights are read.
        shortcut: Module that brings the input to the output's shape.
        has_evens_first: Whether the channels of even number come first in the output and within the block.
        is_last: The map of the second BN is returned, plus a BN of the mean over the slices of the product.
    """

    def __init__(
        self,
        form: Form,
        c_in: int,
        c_out: int,
        stride: int = 1,
        dilation: int = 1,
        order: Sequence[int] = (),
        shortcut: nn.Module | None = None,
        has_evens_first: bool = False,
        is_last: bool = False,
    ) -> None:
        super().__init__()
        self.has_evens_first, self.is_last = has_evens_first, is_last
        self.shortcut = shortcut or nn.Identity()
        self.conv1 = form.conv(c_in, c_out, stride, dilation, order)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.signs1 = SlicedSign(form.slices)
        self.xnor = Xnor()
        self.conv2 = form.conv(c_out, c_out, 1, dilation, _evens_first(c_out) if has_evens_first else ())
        self.bn2 = nn.BatchNorm2d(c_out)
        if is_last:
            self.mean = SliceMean(form.slices)
            self.interleave = Interleave() if has_evens_first else nn.Identity()
            self.bn3 = nn.BatchNorm2d(c_out)
        else:
            self.signs2 = SlicedSign(form.slices)
            self.either = Either()

    def _ordered(self, x: Tensor) -> Tensor:
        return evens_first(x) if self.has_evens_first else x

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The block's output, and its shortcut."""
        shortcut = self.shortcut(x)
        y = self.xnor(self.signs1(self._ordered(self.bn1(self.conv1(x)))), shortcut)
        z = self.bn2(self.conv2(y))
        if self.is_last:
            return z + self.bn3(self.interleave(self.mean(y))), shortcut
        return self.either(self.signs2(self._ordered(z)), shortcut), shortcut


class Stage(nn.Module):
    """Two blocks; slices of bits to such, or to real values behind the last block.

    Args:
        form: Form of the network.
        c_in: Channels of a slice.
        c_out: Channels of the blocks; where they hand on their shortcuts a slice of the output has twice as many.
        stride: Stride of the first block.
        dilation: Distance of the taps in the second block.
        is_first: There is no stage before it: what it reads is in the order of the weights, and has its output's shape.
        is_last: There is none behind it.
    """

    def __init__(
        self,
        form: Form,
        c_in: int,
        c_out: int,
        stride: int = 1,
        dilation: int = 1,
        is_first: bool = False,
        is_last: bool = False,
    ) -> None:
        super().__init__()
        self.slices, self.hands_on, self.is_last = form.slices, form.hands_on, is_last
        # both halves of a slice have the even ones of their channels first, which the authors number in turns
        order = [2 * channel + half for half in (0, 1) for channel in _evens_first(c_in // 2)]
        if is_first or not form.hands_on:
            order = list(range(c_in))
        shortcut = None if is_first else form.shortcut(c_in, c_out, stride, order)
        self.first = Block(form, c_in, c_out, stride, 1, order, shortcut)
        seconds = _evens_first(c_out) if form.hands_on else ()
        self.second = Block(form, c_out, c_out, 1, dilation, seconds, None, form.hands_on, is_last)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor
        out, shortcut = self.first(x)
        if not self.hands_on:
            out, _ = self.second(out)
            return out
        halves = out.chunk(2 * self.slices, 1), shortcut.chunk(2 * self.slices, 1)
        out, _ = self.second(_in_turns(halves[0][0::2], halves[1][0::2]))
        if self.is_last:
            return out
        handed_on = _in_turns(halves[0][1::2], halves[1][1::2])
        return _in_turns(out.chunk(self.slices, 1), handed_on.chunk(self.slices, 1))


def _in_turns(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    return torch.cat([each for pair in zip(a, b, strict=True) for each in pair], 1)


class Nudged(nn.Module):
    """``BN(x) + BN(depthwise 3×3(BN(x)))``: the thresholds of the signs behind it depend on a pixel's neighbours."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.bn_in = nn.BatchNorm2d(channels)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1, groups=channels, bias=False)
        self.bn_out = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.bn(x) + self.bn_out(self.conv(self.bn_in(x)))
        return out


class BoolNet(nn.Module):
    """Real-valued stem, four stages of bits, real-valued head.

    Args:
        form: Form of the blocks.
        num_classes: Number of outputs.
        is_dilated: Whether the last stage keeps the size of its map.

    Shape:
        (N, 3, H, W) to (N, num_classes), float32.
    """

    def __init__(self, form: Form, num_classes: int, is_dilated: bool = False) -> None:
        super().__init__()
        c_in = RESNET_WIDTHS[0]
        self.stem = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(3, c_in, 7, stride=2, padding=3, bias=False),
                bn=nn.BatchNorm2d(c_in),
                pool=nn.MaxPool2d(3, stride=2, padding=1),
            )
        )
        self.nudged = Nudged(c_in) if form.hands_on else nn.BatchNorm2d(c_in)
        self.signs = SlicedSign(form.slices)
        self.stages = nn.Sequential()
        for c_out in RESNET_WIDTHS:
            is_first, is_last = c_out == RESNET_WIDTHS[0], c_out == RESNET_WIDTHS[-1]
            keeps = is_dilated and is_last
            stride = 1 if is_first or keeps else 2
            self.stages.append(Stage(form, c_in, c_out, stride, 2 if keeps else 1, is_first, is_last))
            c_in = 2 * c_out if form.hands_on else c_out
        self.activation = nn.PReLU(RESNET_WIDTHS[-1])
        self.fc = linear(RESNET_WIDTHS[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.activation(self.stages(self.signs(self.nudged(self.stem(x)))))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def boolnet_k4(num_classes: int = 1000) -> nn.Module:
    """BoolNet with 4 slices, trained for 80 epochs."""
    return BoolNet(Form(4, True, 80 * _UPDATES), num_classes)


def boolnet_star_k4(num_classes: int = 1000) -> nn.Module:
    """BoolNet*, whose last stage keeps the size of its map, with 4 slices, trained for 90 epochs."""
    return BoolNet(Form(4, True, 90 * _UPDATES), num_classes, is_dilated=True)


def basenet_k4(num_classes: int = 1000) -> nn.Module:
    """BaseNet, whose blocks hand on nothing, with 4 slices, trained for 120 epochs."""
    return BoolNet(Form(4, False, 120 * _UPDATES), num_classes)


def basenet_k1(num_classes: int = 1000) -> nn.Module:
    """BaseNet with a single slice: maps of one bit."""
    return BoolNet(Form(1, False, 120 * _UPDATES), num_classes)
