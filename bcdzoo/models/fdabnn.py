"""FDA-BNN on ResNet-18 (Xu et al., NeurIPS 2021): networks that are known, trained with a sine series' gradient.

At inference they are Bi-Real-18 with PReLU and ReActNet-R18; what is FDA-BNN's own is in
:mod:`bcdzoo.layers.quantizers.fdabnn`.
They have no training step 1: the paper binarizes weights and activations from the start.
"""

from torch import nn

from bcdzoo.layers.activation import RPReLU
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.fdabnn import FourierEstimator, FourierSignWeight
from bcdzoo.layers.quantizers.sign import RSign, Sign
from bcdzoo.layers.unit import BinaryUnit
from bcdzoo.models.trunks import BinaryResNet


def fda_residual(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
    """Sign → binary 3×3 → PReLU → BN → + shortcut.

    The paper names "Bi-Real Net + PReLU" as its baseline. Reconstruction: the place and the one slope of the PReLU are
    those of the authors' CIFAR-10 network (mindspore/models, research/cv/FDA-BNN/src/resnet.py).
    """
    conv = LowBitConv2d(c_in, c_out, 3, stride, FourierSignWeight(c_in))
    return BinaryUnit(Sign(FourierEstimator(c_in)), conv, c_out, shortcut=shortcut, inner=nn.PReLU())


def fda_react_residual(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
    """RSign → binary 3×3 → BN → + shortcut → RPReLU: ReActNet's, with FDA-BNN's gradients."""
    conv = LowBitConv2d(c_in, c_out, 3, stride, FourierSignWeight(c_in))
    return BinaryUnit(RSign(c_in, FourierEstimator(c_in)), conv, c_out, RPReLU(c_out), shortcut)


def fdabnn_r18(num_classes: int = 1000) -> nn.Module:
    """FDA-BNN on Bi-Real-18's trunk."""
    return BinaryResNet(fda_residual, (4, 4, 4, 4), num_classes)


def fdabnn_star_r18(num_classes: int = 1000) -> nn.Module:
    """FDA-BNN* on ReActNet's ResNet-18 trunk."""
    return BinaryResNet(fda_react_residual, (4, 4, 4, 4), num_classes)
