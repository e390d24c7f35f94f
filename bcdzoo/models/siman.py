"""SiMaN (Lin et al., TPAMI 2022), shaped as the authors' code of ImageNet and of CIFAR-10.

PReLU is the activation, but for ReLU in the ResNets' stems and hardtanh in CIFAR-10's ResNet-18. In training, call
:func:`bcdzoo.layers.quantizers.base.set_training_progress` every epoch, because the percentiles at which weights are
clipped depend on it.
"""

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.rbnn import CentredSign
from bcdzoo.layers.quantizers.recu import ScaledEstimator
from bcdzoo.layers.quantizers.siman import MagnitudeWeight
from bcdzoo.layers.unit import BinaryUnit
from bcdzoo.models import small
from bcdzoo.models.trunks import BinaryResNet, strided_shortcut


def _sign() -> nn.Module:
    return CentredSign(ScaledEstimator)


def _conv(c_in: int, c_out: int, stride: int = 1, kernel_size: int = 3) -> nn.Module:
    return LowBitConv2d(c_in, c_out, kernel_size, stride, MagnitudeWeight((c_out, c_in, kernel_size, kernel_size)))


def _unit(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
    """Centred sign → binary 3×3 → BN → + shortcut → PReLU."""
    return BinaryUnit(_sign(), _conv(c_in, c_out, stride), c_out, nn.PReLU(c_out), shortcut)


def siman_r18(num_classes: int = 1000) -> nn.Module:
    """SiMaN on ResNet-18, with a shortcut around every binary convolution."""
    return _siman((4, 4, 4, 4), num_classes)


def siman_r34(num_classes: int = 1000) -> nn.Module:
    """SiMaN on ResNet-34, likewise."""
    return _siman((6, 8, 12, 6), num_classes)


def _siman(depths: Sequence[int], num_classes: int) -> nn.Module:
    norm = nn.BatchNorm1d(512)
    return BinaryResNet(_unit, depths, num_classes, stem_activation=nn.ReLU(), shortcut=strided_shortcut, norm=norm)


def siman_resnet20(num_classes: int = 10) -> nn.Module:
    """SiMaN on ResNet-20, with a shortcut around every binary convolution (the Bi-Real structure)."""

    def unit(c_in: int, c_out: int, stride: int) -> nn.Module:
        return _unit(c_in, c_out, stride, small.padded_shortcut(c_in, c_out, stride))

    return small.small_resnet(num_classes, small.RESNET20_WIDTHS, 6, unit, nn.ReLU())


def _projection(c_in: int, c_out: int, stride: int) -> nn.Module | None:
    return None if c_in == c_out else small.normalized(_sign(), _conv(c_in, c_out, stride, 1), c_out)


def siman_r18_cifar10(num_classes: int = 10) -> nn.Module:
    """SiMaN on ResNet-18 for 32×32 in RBNN's frame; the 1×1 of shortcuts is binary too."""
    return small.hardtanh_resnet18(num_classes, _sign, _conv, _projection)


def siman_vgg_small(num_classes: int = 10) -> nn.Module:
    """SiMaN on VGG-Small."""

    def signed(c_in: int, c_out: int) -> nn.Module:
        return nn.Sequential(OrderedDict(sign=_sign(), conv=_conv(c_in, c_out)))

    return small.vgg_small(num_classes, signed, nn.PReLU)
