"""IR-Net on ResNet-18 (Qin et al., CVPR 2020), shaped as the authors' ImageNet code: the frame that RBNN took over.

In training call :func:`bcdzoo.layers.quantizer.set_training_progress` every epoch: the sign's gradient depends on it.
"""

from collections import OrderedDict
from collections.abc import Callable

from torch import nn

from bcdzoo.layers.binary_conv import binary_or_step1_conv
from bcdzoo.layers.ede import BalancedWeight, DecayingSign
from bcdzoo.layers.trunk import ResNet18, classifier, projection, resnet_stem
from bcdzoo.layers.unit import BinaryUnit


def hardtanh_resnet18(
    num_classes: int, sign: Callable[[], nn.Module], conv: Callable[[int, int, int], nn.Module]
) -> nn.Module:
    """ResNet-18 with a shortcut around every binary 3×3, hardtanh after every addition and in the stem.

    A block is two units of sign → binary 3×3 → BN → + shortcut → hardtanh. The downsampling shortcut is a real-valued
    1×1 of stride 2 with BN; stem and classifier are real-valued, with a batch norm of the pooled features between.

    Args:
        num_classes: Logits.
        sign: Builds a unit's sign.
        conv: Builds a unit's convolution from input channels, output channels and stride.
    """

    def unit(c_in: int, c_out: int, stride: int) -> nn.Module:
        return BinaryUnit(sign(), conv(c_in, c_out, stride), c_out, nn.Hardtanh(), projection(c_in, c_out, stride))

    def block(c_in: int, c_out: int, stride: int) -> nn.Module:
        return nn.Sequential(OrderedDict(first=unit(c_in, c_out, stride), second=unit(c_out, c_out, 1)))

    return ResNet18(resnet_stem(nn.Hardtanh()), block, classifier(num_classes, norm=nn.BatchNorm1d(512)))


def irnet_r18(num_classes: int = 1000, step: int = 2) -> nn.Module:
    """IR-Net on ResNet-18."""
    return hardtanh_resnet18(
        num_classes,
        DecayingSign,
        lambda c_in, c_out, stride: binary_or_step1_conv(c_in, c_out, 3, stride, step, BalancedWeight()),
    )
