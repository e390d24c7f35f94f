"""ReSTE (Wu et al., ICCV 2023) on ResNet-18 and on ResNet-20, shaped as the authors' code.

ReLU stands between each convolution and its batch normalization, also in the stem, and nowhere else. In training, call
:func:`bcdzoo.layers.quantizers.base.set_training_progress` every epoch, because the sign's gradient depends on it.
"""

from collections import OrderedDict

from torch import nn

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.reste import PowerEstimator, PowerSignWeight
from bcdzoo.layers.quantizers.sign import Sign
from bcdzoo.layers.unit import BinaryUnit
from bcdzoo.models import small
from bcdzoo.models.trunks import ResNet18, classifier, projection


def _unit(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
    """Sign → binary 3×3 → ReLU → BN → + shortcut."""
    conv = LowBitConv2d(c_in, c_out, 3, stride, PowerSignWeight())
    return BinaryUnit(Sign(PowerEstimator()), conv, c_out, shortcut=shortcut, inner=nn.ReLU())


def reste_r18(num_classes: int = 1000) -> nn.Module:
    """ReSTE on ResNet-18, with a shortcut around every binary convolution; the 1×1 of shortcuts is real-valued."""

    def block(c_in: int, c_out: int, stride: int) -> nn.Module:
        first = _unit(c_in, c_out, stride, projection(c_in, c_out, stride))
        return nn.Sequential(OrderedDict(first=first, second=_unit(c_out, c_out, 1, None)))

    conv, pool = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False), nn.MaxPool2d(3, stride=2, padding=1)
    stem = nn.Sequential(OrderedDict(conv=conv, inner=nn.ReLU(), bn=nn.BatchNorm2d(64), pool=pool))
    return ResNet18(stem, block, classifier(num_classes, norm=nn.BatchNorm1d(512)))


def reste_resnet20(num_classes: int = 10) -> nn.Module:
    """ReSTE on ResNet-20, with a shortcut around two binary convolutions and no activation between or after them."""

    def part(c_in: int, c_out: int, stride: int) -> nn.Module:
        conv = LowBitConv2d(c_in, c_out, 3, stride, PowerSignWeight())
        parts = OrderedDict(sign=Sign(PowerEstimator()), conv=conv, inner=nn.ReLU(), bn=nn.BatchNorm2d(c_out))
        return nn.Sequential(parts)

    def block(c_in: int, c_out: int, stride: int) -> nn.Module:
        shortcut = small.padded_shortcut(c_in, c_out, stride)
        return small.BasicBlock(part(c_in, c_out, stride), part(c_out, c_out, 1), shortcut, nn.Identity)

    return small.small_resnet(num_classes, small.RESNET20_WIDTHS, 3, block, inner=nn.ReLU())


def reste_resnet20_bireal(num_classes: int = 10) -> nn.Module:
    """ReSTE on ResNet-20, with a shortcut around every binary convolution (the Bi-Real structure)."""

    def unit(c_in: int, c_out: int, stride: int) -> nn.Module:
        return _unit(c_in, c_out, stride, small.padded_shortcut(c_in, c_out, stride))

    return small.small_resnet(num_classes, small.RESNET20_WIDTHS, 6, unit, inner=nn.ReLU())
