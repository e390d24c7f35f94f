"""ReCU (Xu et al., ICCV 2021), shaped as the authors' code of ImageNet and of CIFAR-10.

In training, call :func:`bcdzoo.layers.quantizers.base.set_training_progress` every epoch, because the quantile at which
weights are clamped depends on it.
"""

from collections.abc import Sequence

from torch import nn

from bcdzoo.layers.activation import RPReLU
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.recu import RectifiedWeight, ScaledEstimator
from bcdzoo.layers.quantizers.sign import RSign, Sign
from bcdzoo.layers.unit import BinaryUnit
from bcdzoo.models import small
from bcdzoo.models.trunks import BinaryResNet, strided_shortcut


def _sign() -> nn.Module:
    return Sign(ScaledEstimator())


def _conv(c_in: int, c_out: int, stride: int) -> nn.Module:
    return LowBitConv2d(c_in, c_out, 3, stride, RectifiedWeight(c_out))


def _unit(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
    """Sign → binary 3×3 → BN → + shortcut → hardtanh."""
    return BinaryUnit(_sign(), _conv(c_in, c_out, stride), c_out, nn.Hardtanh(), shortcut)


def _react_unit(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
    """RSign → binary 3×3 → BN → + shortcut → RPReLU."""
    return BinaryUnit(RSign(c_in, ScaledEstimator()), _conv(c_in, c_out, stride), c_out, RPReLU(c_out), shortcut)


def recu_r18(num_classes: int = 1000) -> nn.Module:
    """ReCU on ResNet-18 in IR-Net's frame."""
    return _recu((4, 4, 4, 4), num_classes)


def recu_r34(num_classes: int = 1000) -> nn.Module:
    """ReCU on ResNet-34, likewise."""
    return _recu((6, 8, 12, 6), num_classes)


def _recu(depths: Sequence[int], num_classes: int) -> nn.Module:
    norm = nn.BatchNorm1d(512)
    return BinaryResNet(_unit, depths, num_classes, stem_activation=nn.Hardtanh(), shortcut=strided_shortcut, norm=norm)


def recu_react_r18(num_classes: int = 1000) -> nn.Module:
    """ReCU on ReActNet's ResNet-18."""
    return BinaryResNet(_react_unit, (4, 4, 4, 4), num_classes)


def recu_resnet20(num_classes: int = 10) -> nn.Module:
    """ReCU on ResNet-20, with a shortcut around every binary convolution, which averages where the map shrinks."""
    return small.hardtanh_resnet20(num_classes, _sign, _conv, bireal=True, shortcut=small.averaged_shortcut)


def recu_r18_cifar10(num_classes: int = 10) -> nn.Module:
    """ReCU on ResNet-18 for 32×32, with a shortcut around two binary convolutions, which averages likewise."""
    return small.hardtanh_resnet18(num_classes, _sign, _conv, small.averaged_shortcut)


def recu_vgg_small(num_classes: int = 10) -> nn.Module:
    """ReCU on VGG-Small."""
    return small.hardtanh_vgg_small(num_classes, _sign, _conv)
