"""XNOR-Net and Binary-Weight-Network on ResNet-18 (Rastegari et al., ECCV 2016).

The paper keeps the first and the last layer real-valued and gives ResNet-18 shortcuts of type B. Reconstruction,
because the authors' code only has AlexNet: these shortcuts are real-valued, XNOR-Net's blocks have pre-activation order
without ReLU inside (its AlexNet has none), and BN and ReLU come before the classifier (as there).
"""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.binary_conv import LowBitConv2d, Quantizers, of_step
from bcdzoo.layers.quantizers.sign import clipped_sign
from bcdzoo.layers.quantizers.xnornet import InputScale, XnorWeight
from bcdzoo.models.trunks import ResNet18, classifier, projection, resnet_stem


class XnorUnit(nn.Module):
    """BN → sign → binary 3×3 → times K (section 3.2, figure 3: normalization comes before the sign).

    K is the activations' scale (:class:`InputScale`), which the paper's convolution has, but not the authors' code, nor
    that of others.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        stride: Stride of the convolution.
        quantizers: Quantizers of the weights.
        input_scale: Whether to multiply by K.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, quantizers: Quantizers, input_scale: bool) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(c_in)
        self.sign = clipped_sign()
        self.conv = quantizers.conv(c_in, c_out, 3, stride)
        self.input_scale = InputScale(3, stride) if input_scale else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(x)
        out: Tensor = self.conv(self.sign(x))
        return out if self.input_scale is None else out * self.input_scale(x)


class XnorBlock(nn.Module):
    """Two units, and one shortcut around both; (N, c_in, H, W) to (N, c_out, ⌈H/stride⌉, ⌈W/stride⌉)."""

    def __init__(self, c_in: int, c_out: int, stride: int, quantizers: Quantizers, input_scale: bool) -> None:
        super().__init__()
        self.first = XnorUnit(c_in, c_out, stride, quantizers, input_scale)
        self.second = XnorUnit(c_out, c_out, 1, quantizers, input_scale)
        self.shortcut = projection(c_in, c_out, stride) or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.second(self.first(x)) + self.shortcut(x)
        return out


def xnornet_r18(num_classes: int = 1000, step: int = 2, input_scale: bool = True) -> nn.Module:
    """XNOR-Net on ResNet-18.

    Args:
        num_classes: Number of outputs.
        step: Training step: 2, or 1 for the form with real-valued weights.
        input_scale: Whether the convolutions have the activations' scale K, as in the paper, or not, as in its code.
    """
    quantizers = of_step(step, XnorWeight)
    before = nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(512), activation=nn.ReLU()))
    return ResNet18(
        resnet_stem(nn.ReLU()),
        lambda c_in, c_out, stride: XnorBlock(c_in, c_out, stride, quantizers, input_scale),
        classifier(num_classes, before),
    )


class BinaryWeightBlock(nn.Module):
    """ResNet's basic block with 1-bit weights on real activations: (3×3 → BN → ReLU → 3×3 → BN) + shortcut → ReLU.

    Shape:
        (N, c_in, H, W) to (N, c_out, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = LowBitConv2d(c_in, c_out, 3, stride, XnorWeight(), a_bits=32)
        self.bn1 = nn.BatchNorm2d(c_out)
        self.conv2 = LowBitConv2d(c_out, c_out, 3, 1, XnorWeight(), a_bits=32)
        self.bn2 = nn.BatchNorm2d(c_out)
        self.shortcut = projection(c_in, c_out, stride) or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + self.shortcut(x))


def bwn_r18(num_classes: int = 1000) -> nn.Module:
    """Binary-Weight-Network on ResNet-18: its multiply-accumulates have one real operand and are FLOPs."""
    return ResNet18(resnet_stem(nn.ReLU()), BinaryWeightBlock, classifier(num_classes))
