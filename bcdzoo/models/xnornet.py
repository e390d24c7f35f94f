"""XNOR-Net on ResNet-18 and AlexNet, Binary-Weight-Network on ResNet-18 (Rastegari et al., ECCV 2016).

AlexNet is as larq-zoo builds it. The paper keeps the first and the last layer real-valued and gives ResNet-18 shortcuts
of type B. Reconstruction, because the authors' code only has AlexNet: these shortcuts are real-valued, XNOR-Net's
blocks have pre-activation order without ReLU inside (its AlexNet has none), and BN and ReLU come before the classifier
(as there).
"""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.binary_conv import LowBitConv2d, Quantizers, of_step
from bcdzoo.layers.norm import OffsetNorm2d
from bcdzoo.layers.padding import SamePad
from bcdzoo.layers.quantizers.sign import clipped_sign
from bcdzoo.layers.quantizers.xnornet import InputScale, XnorWeight
from bcdzoo.models.trunks import AlexNet, ResNet18, classifier, projection, resnet_stem


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


def _layer(
    c_in: int, c_out: int, kernel_size: int, pools: bool = False, padding: int | str = "symmetric", eps: float = 1e-4
) -> nn.Module:
    """Sign → binary convolution (→ 3×3 max pooling of stride 2) → BN."""
    conv = LowBitConv2d(c_in, c_out, kernel_size, quantizer=XnorWeight(centre=False), padding=padding)
    pool = nn.MaxPool2d(3, 2) if pools else nn.Identity()
    return nn.Sequential(OrderedDict(sign=clipped_sign(), conv=conv, pool=pool, bn=OffsetNorm2d(c_out, eps)))


def xnornet_alexnet(num_classes: int = 1000) -> nn.Module:
    """XNOR-Net on AlexNet, without the activations' scale K.

    Args:
        num_classes: Number of outputs; 0 for the features of the 6×6 convolution.
    """
    stem = OrderedDict[str, nn.Module](
        pad=SamePad(11, 4),
        conv=nn.Conv2d(3, 96, 11, 4, bias=False),
        bn=OffsetNorm2d(96, 1e-5),
        activation=nn.ReLU(),
        pool=nn.MaxPool2d(3, 2),
        norm=OffsetNorm2d(96, 1e-4),
    )
    convolutions = nn.Sequential(
        nn.Sequential(stem),
        _layer(96, 256, 5, pools=True),
        _layer(256, 384, 3),
        _layer(384, 384, 3),
        _layer(384, 256, 3, pools=True),
        _layer(256, 4096, 6, padding=0),
    )
    if not num_classes:
        return AlexNet(convolutions)
    top = OrderedDict[str, nn.Module](
        hidden=_layer(4096, 4096, 1, eps=1e-3),
        activation=nn.ReLU(),
        squeeze=nn.Flatten(),
        fc=nn.Linear(4096, num_classes, bias=False),
    )
    return AlexNet(convolutions, nn.Sequential(top), side=1)
