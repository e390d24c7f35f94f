"""IR-Net (Qin et al., CVPR 2020), shaped as the authors' code of ImageNet and of CIFAR-10; RBNN has the same trunk.

In training, call :func:`bcdzoo.layers.quantizers.base.set_training_progress` every epoch, because the sign's gradient
depends on it.
"""

from torch import nn

from bcdzoo.layers.binary_conv import LowBitConv2d, of_step
from bcdzoo.layers.quantizers.irnet import BalancedWeight, DecayingEstimator
from bcdzoo.layers.quantizers.sign import Sign
from bcdzoo.models import small
from bcdzoo.models.trunks import hardtanh_resnet18, projection


def irnet_r18(num_classes: int = 1000, step: int = 2) -> nn.Module:
    """IR-Net on ResNet-18."""
    quantizers = of_step(step, BalancedWeight)
    return hardtanh_resnet18(
        num_classes,
        _sign,
        lambda c_in, c_out, stride: quantizers.conv(c_in, c_out, 3, stride),
    )


def _sign() -> nn.Module:
    return Sign(DecayingEstimator())


def _conv(c_in: int, c_out: int, stride: int) -> nn.Module:
    return LowBitConv2d(c_in, c_out, 3, stride, BalancedWeight())


def irnet_resnet20(num_classes: int = 10) -> nn.Module:
    """IR-Net on ResNet-20, with a shortcut around every binary convolution (the Bi-Real structure)."""
    return small.hardtanh_resnet20(num_classes, _sign, _conv, bireal=True)


def irnet_r18_cifar10(num_classes: int = 10) -> nn.Module:
    """IR-Net on ResNet-18 for 32×32; the 1×1 of shortcuts is real-valued."""
    return small.hardtanh_resnet18(num_classes, _sign, _conv, projection)


def irnet_vgg_small(num_classes: int = 10) -> nn.Module:
    """IR-Net on VGG-Small."""
    return small.hardtanh_vgg_small(num_classes, _sign, _conv)
