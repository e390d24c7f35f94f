"""LQ-Net on the pre-activation ResNet-18, 1-bit weights and 2-bit activations (Zhang et al., ECCV 2018).

Shaped as the authors' code (``--mode preact``): the first convolution and the classifier are real-valued, all others,
including the 1×1 of the shortcuts, are quantized. The batch norm, ReLU and quantizer at a stage's end are the first
layers of the next stage, whose shortcut starts after them. The authors' framework pads stride-2 windows at the bottom
and the right only; here padding is symmetric.
"""

from collections import OrderedDict

from torch import Tensor, nn

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.lqnet import LearnedBasisActivation, LearnedBasisWeight
from bcdzoo.models.trunks import ResNet18, classifier, resnet_stem

A_BITS = 2


def _conv(c_in: int, c_out: int, kernel_size: int, stride: int) -> nn.Module:
    basis = LearnedBasisWeight((c_out, c_in, kernel_size, kernel_size))
    return LowBitConv2d(c_in, c_out, kernel_size, stride, basis, A_BITS)


def _activation(channels: int) -> nn.Module:
    """BN → ReLU → quantizer."""
    parts = OrderedDict(bn=nn.BatchNorm2d(channels), relu=nn.ReLU(), quantizer=LearnedBasisActivation(A_BITS))
    return nn.Sequential(parts)


class LearnedBasisBlock(nn.Module):
    """(BN → ReLU → quantizer →) 3×3 → BN → ReLU → quantizer → 3×3 → BN, + shortcut.

    If the width changes, the shortcut is a quantized 1×1 with BN on the quantized map; else it is the block's input.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        stride: Stride of the first 3×3 and of the shortcut.
        first: Whether it is the network's first block, which starts with the quantizer (the stem has BN and ReLU).
    """

    def __init__(self, c_in: int, c_out: int, stride: int, first: bool = False) -> None:
        super().__init__()
        self.activation1 = LearnedBasisActivation(A_BITS) if first else _activation(c_in)
        self.conv1 = _conv(c_in, c_out, 3, stride)
        self.activation2 = _activation(c_out)
        self.conv2 = _conv(c_out, c_out, 3, 1)
        self.bn = nn.BatchNorm2d(c_out)
        self.projection = (
            nn.Sequential(OrderedDict(conv=_conv(c_in, c_out, 1, stride), bn=nn.BatchNorm2d(c_out)))
            if c_in != c_out
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        a = self.activation1(x)
        shortcut = x if self.projection is None else self.projection(a)
        out: Tensor = self.bn(self.conv2(self.activation2(self.conv1(a)))) + shortcut
        return out


def lqnet_r18_w1a2(num_classes: int = 1000) -> nn.Module:
    """LQ-Net on ResNet-18 with 1-bit weights and 2-bit activations."""
    before = nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(512), relu=nn.ReLU()))
    first = LearnedBasisBlock(64, 64, 1, first=True)
    return ResNet18(resnet_stem(nn.ReLU()), LearnedBasisBlock, classifier(num_classes, before), first)
