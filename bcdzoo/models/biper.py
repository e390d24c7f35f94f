"""BiPer (Vargas et al., CVPR 2024), shaped as the authors' code of ImageNet and of CIFAR-10, in ReCU's frames.

All take ``step`` (1 for the sine of the weights in place of its sign) and ``freq``, the sine's frequency, which the
authors' files do not hold.
"""

from collections.abc import Sequence

from torch import nn

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.biper import FREQUENCY, WaveWeight
from bcdzoo.layers.quantizers.recu import ScaledEstimator
from bcdzoo.layers.quantizers.sign import Sign
from bcdzoo.layers.unit import BinaryUnit
from bcdzoo.models import small
from bcdzoo.models.trunks import BinaryResNet, Block, strided_shortcut


def _sign() -> nn.Module:
    return Sign(ScaledEstimator())


def _conv(step: int, freq: float) -> Block:
    return lambda c_in, c_out, stride: LowBitConv2d(c_in, c_out, 3, stride, WaveWeight(c_out, freq, step))


def biper_r18(num_classes: int = 1000, step: int = 2, freq: float = FREQUENCY) -> nn.Module:
    """BiPer on ResNet-18, with a shortcut around every binary convolution."""
    return _biper((4, 4, 4, 4), num_classes, _conv(step, freq))


def biper_r34(num_classes: int = 1000, step: int = 2, freq: float = FREQUENCY) -> nn.Module:
    """BiPer on ResNet-34, likewise."""
    return _biper((6, 8, 12, 6), num_classes, _conv(step, freq))


def _biper(depths: Sequence[int], num_classes: int, conv: Block) -> nn.Module:
    def unit(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
        return BinaryUnit(_sign(), conv(c_in, c_out, stride), c_out, nn.Hardtanh(), shortcut)

    norm = nn.BatchNorm1d(512)
    return BinaryResNet(unit, depths, num_classes, stem_activation=nn.Hardtanh(), shortcut=strided_shortcut, norm=norm)


def biper_resnet20(num_classes: int = 10, step: int = 2, freq: float = FREQUENCY) -> nn.Module:
    """BiPer on ResNet-20, with a shortcut around every binary convolution, which averages where the map shrinks."""
    return small.hardtanh_resnet20(num_classes, _sign, _conv(step, freq), bireal=True, shortcut=small.averaged_shortcut)


def biper_r18_cifar10(num_classes: int = 10, step: int = 2, freq: float = FREQUENCY) -> nn.Module:
    """BiPer on ResNet-18 for 32×32, with a shortcut around two binary convolutions, which averages likewise."""
    return small.hardtanh_resnet18(num_classes, _sign, _conv(step, freq), small.averaged_shortcut)


def biper_vgg_small(num_classes: int = 10, step: int = 2, freq: float = FREQUENCY) -> nn.Module:
    """BiPer on VGG-Small."""
    return small.hardtanh_vgg_small(num_classes, _sign, _conv(step, freq))
