"""RBONN on ResNet-18 (Xu et al., ECCV 2022): ReActNet's, with a learned scale of the weights.

What is its own is the gradient of the weights: :mod:`bcdzoo.layers.quantizers.rbonn`.
"""

from collections.abc import Callable

from torch import nn

from bcdzoo.layers.activation import RPReLU
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.base import WeightQuantizer
from bcdzoo.layers.quantizers.rbonn import RecurrentWeight
from bcdzoo.layers.quantizers.sign import RSign
from bcdzoo.layers.unit import BinaryUnit
from bcdzoo.models.trunks import BinaryResNet


def reconstructed_resnet18(num_classes: int, weight: Callable[[int], WeightQuantizer]) -> nn.Module:
    """RSign → binary 3×3 → BN → + shortcut → RPReLU.

    Args:
        num_classes: Number of outputs.
        weight: Function of the output channels that builds a convolution's quantizer.
    """

    def residual(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
        conv = LowBitConv2d(c_in, c_out, 3, stride, weight(c_out))
        return BinaryUnit(RSign(c_in), conv, c_out, RPReLU(c_out), shortcut)

    return BinaryResNet(residual, (4, 4, 4, 4), num_classes)


def rbonn_r18(num_classes: int = 1000) -> nn.Module:
    """RBONN on ReActNet's ResNet-18."""
    return reconstructed_resnet18(num_classes, RecurrentWeight)
