"""RBNN (Lin et al., NeurIPS 2020): IR-Net's trunks with rotated weights, as in the authors' code.

In training call :func:`bcdzoo.layers.quantizers.base.set_training_progress` and ``start_epoch`` beside it every epoch.
"""

from torch import nn

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.rbnn import CentredSign, RotatedWeight
from bcdzoo.models import small
from bcdzoo.models.trunks import hardtanh_resnet18


def _conv(c_in: int, c_out: int, stride: int = 1, kernel_size: int = 3) -> LowBitConv2d:
    return LowBitConv2d(c_in, c_out, kernel_size, stride, RotatedWeight((c_out, c_in, kernel_size, kernel_size)))


def rbnn_r18(num_classes: int = 1000) -> nn.Module:
    """RBNN on ResNet-18."""
    return hardtanh_resnet18(num_classes, CentredSign, _conv)


def _projection(c_in: int, c_out: int, stride: int) -> nn.Module | None:
    return None if c_in == c_out else small.normalized(CentredSign(), _conv(c_in, c_out, stride, 1), c_out)


def rbnn_resnet20(num_classes: int = 10) -> nn.Module:
    """RBNN on ResNet-20, with a shortcut around two binary convolutions."""
    return small.hardtanh_resnet20(num_classes, CentredSign, _conv, bireal=False)


def rbnn_resnet20_bireal(num_classes: int = 10) -> nn.Module:
    """RBNN on ResNet-20, with a shortcut around every binary convolution (the Bi-Real structure)."""
    return small.hardtanh_resnet20(num_classes, CentredSign, _conv, bireal=True)


def rbnn_r18_cifar10(num_classes: int = 10) -> nn.Module:
    """RBNN on ResNet-18 for 32×32; the 1×1 of shortcuts is binary too."""
    return small.hardtanh_resnet18(num_classes, CentredSign, _conv, _projection)


def rbnn_vgg_small(num_classes: int = 10) -> nn.Module:
    """RBNN on VGG-Small."""
    return small.hardtanh_vgg_small(num_classes, CentredSign, _conv)
