"""DoReFa-Net (Zhou et al., 2016): ResNet-18 with 2-bit weights, AlexNet with 1-bit ones, and 2-bit activations in both.

The paper's networks are AlexNets, of which one is here as larq-zoo builds it. The authors' code also has a
pre-activation ResNet-18 (tensorpack, ``resnet-dorefa.py``, 1-bit weights and 4-bit activations), which is followed
here: the first convolution and the classifier are real-valued, all others, the 1×1 of the shortcuts too, are quantized.
Reconstruction: that the published 2/2 figures, which are other papers', are of this network. Left out: that code's
factor 49 before the classifier, which its weights absorb, and its asymmetric padding of the stem.
"""

from collections import OrderedDict

from torch import Tensor, nn

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.flatten import FlattenLast
from bcdzoo.layers.norm import OffsetNorm2d
from bcdzoo.layers.padding import max_pool
from bcdzoo.layers.quantizers.dorefa import DoReFaActivation, DoReFaSign, DoReFaWeight
from bcdzoo.layers.unit import HalvingPool
from bcdzoo.models.trunks import AlexNet, ResNet18, classifier

BITS = 2


def _conv(c_in: int, c_out: int, kernel_size: int) -> nn.Module:
    return LowBitConv2d(c_in, c_out, kernel_size, quantizer=DoReFaWeight(BITS), a_bits=BITS)


def _activation(channels: int) -> nn.Module:
    """BN → clip to [0, 1] and quantize."""
    return nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(channels), quantizer=DoReFaActivation(BITS)))


class DoReFaBlock(nn.Module):
    """(2×2 average pooling →) BN → quantizer → 3×3 → BN → quantizer → 3×3, + shortcut.

    In the first block of a stage the shortcut is a quantized 1×1 of the quantized map, in others the block's input; the
    pooling takes the place of a stride.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        stride: 2 for the pooling.
        projects: Whether the shortcut is a 1×1.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, projects: bool = False) -> None:
        super().__init__()
        self.pool = HalvingPool() if stride == 2 else nn.Identity()
        self.activation1 = _activation(c_in)
        self.conv1 = _conv(c_in, c_out, 3)
        self.activation2 = _activation(c_out)
        self.conv2 = _conv(c_out, c_out, 3)
        self.projection = _conv(c_in, c_out, 1) if projects or c_in != c_out else None

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(x)
        a = self.activation1(x)
        shortcut = x if self.projection is None else self.projection(a)
        out: Tensor = self.conv2(self.activation2(self.conv1(a))) + shortcut
        return out


def dorefa_r18_w2a2(num_classes: int = 1000) -> nn.Module:
    """DoReFa-Net on ResNet-18 with 2-bit weights and activations."""
    conv = nn.Conv2d(3, 64, 7, stride=2, padding=3)
    stem = nn.Sequential(OrderedDict(conv=conv, pool=nn.MaxPool2d(3, stride=2, padding=1)))
    before = nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(512), clip=nn.Hardtanh(0, 1)))
    first = DoReFaBlock(64, 64, 1, projects=True)
    return ResNet18(stem, DoReFaBlock, classifier(num_classes, before), first)


def _layer(c_in: int, c_out: int, kernel_size: int, pool: nn.Module | None = None) -> nn.Module:
    """Quantizer → convolution of 1-bit weights → BN (→ pooling)."""
    conv = LowBitConv2d(c_in, c_out, kernel_size, quantizer=DoReFaSign(), a_bits=BITS)
    parts = OrderedDict(quantizer=DoReFaActivation(BITS), conv=conv, bn=OffsetNorm2d(c_out, 1e-4))
    return nn.Sequential(parts | {"pool": pool or nn.Identity()})


def dorefanet_alexnet(num_classes: int = 1000) -> nn.Module:
    """DoReFa-Net on AlexNet with 1-bit weights and 2-bit activations.

    Args:
        num_classes: Number of outputs; 0 for the pooled features of the last 3×3 convolution.
    """
    convolutions = nn.Sequential(
        nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 96, 12, 4))),
        _layer(96, 256, 5, max_pool(3, "tensorflow")),
        _layer(256, 384, 3, max_pool(3, "tensorflow")),
        _layer(384, 384, 3),
        _layer(384, 256, 3, nn.MaxPool2d(3, 2)),
    )
    if not num_classes:
        return AlexNet(convolutions)
    top = OrderedDict[str, nn.Module](
        flatten=FlattenLast(),
        hidden1=_layer(9216, 4096, 1),
        hidden2=_layer(4096, 4096, 1),
        clip=nn.Hardtanh(0, 1),
        squeeze=nn.Flatten(),
        fc=nn.Linear(4096, num_classes),
    )
    return AlexNet(convolutions, nn.Sequential(top))
