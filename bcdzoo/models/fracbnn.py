"""FracBNN (Zhang et al., FPGA 2021) for ImageNet and for CIFAR-10, shaped as the authors' code.

No convolution is real-valued: the image itself is bits. The classifier is.
"""

from collections import OrderedDict

from torch import Tensor, nn

from bcdzoo.layers.activation import RPReLU
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.gated_precision import GatedPrecisionConv2d
from bcdzoo.layers.quantizers.fracbnn import SymmetricSteps, ThermometerInput
from bcdzoo.layers.quantizers.sign import ClippedSignWeight
from bcdzoo.layers.unit import Duplicate, HalvingPool
from bcdzoo.models.small import RESNET20_WIDTHS
from bcdzoo.models.trunks import MOBILENET_STEM_WIDTH, MOBILENET_WIDTHS, linear, mobilenet_blocks

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's preprocessing, which the network for ImageNet takes back; that for CIFAR-10 has pixels in [0, 1]."""


class FracUnit(nn.Module):
    """Two-bit convolution → BN → RPReLU → + shortcut → BN; (N, c_in, H, W) to (N, c_out, ⌈H/stride⌉, ⌈W/stride⌉)."""

    def __init__(self, conv: nn.Module, channels: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.bn = nn.BatchNorm2d(channels)
        self.activation = RPReLU(channels)
        self.shortcut = shortcut
        self.shift = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.shift(self.activation(self.bn(self.conv(x))) + self.shortcut(x))
        return out


def _stem(c_out: int, stride: int, mean: tuple[float, ...], std: tuple[float, ...]) -> nn.Module:
    conv = LowBitConv2d(96, c_out, 3, stride, ClippedSignWeight(1.3))
    return nn.Sequential(OrderedDict(bits=ThermometerInput(mean, std), conv=conv, bn=nn.BatchNorm2d(c_out)))


def _head(channels: int, num_classes: int) -> OrderedDict[str, nn.Module]:
    return OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=linear(channels, num_classes))


def fracbnn(num_classes: int = 1000) -> nn.Module:
    """FracBNN on ReActNet-A's trunk, with shortcuts of 4 bits."""

    def unit(c_in: int, c_out: int, kernel_size: int, stride: int) -> nn.Module:
        parts: list[nn.Module] = [SymmetricSteps(4)]
        parts += [HalvingPool()] if stride == 2 else [Duplicate()] if c_out == 2 * c_in else []
        return FracUnit(GatedPrecisionConv2d(c_in, c_out, kernel_size, stride), c_out, nn.Sequential(*parts))

    blocks = mobilenet_blocks(
        MOBILENET_WIDTHS,
        lambda channels, stride: unit(channels, channels, 3, stride),
        lambda c_in, c_out: unit(c_in, c_out, 1, 1),
    )
    stem = _stem(MOBILENET_STEM_WIDTH, 2, MEAN, STD)
    return nn.Sequential(OrderedDict(stem=stem, blocks=blocks, **_head(MOBILENET_WIDTHS[-1], num_classes)))


def fracbnn_resnet20(num_classes: int = 10) -> nn.Module:
    """FracBNN on ResNet-20 for images of 32×32, with pixels in [0, 1]; its shortcuts are real-valued."""
    stages = nn.Sequential()
    c_in = RESNET20_WIDTHS[0]
    for c_out in RESNET20_WIDTHS:
        units = []
        for place in range(6):
            widens = c_in != c_out and place == 0
            shortcut = nn.Sequential(HalvingPool(), Duplicate()) if widens else nn.Identity()
            conv = GatedPrecisionConv2d(c_in, c_out, 3, 2 if widens else 1)
            units.append(FracUnit(conv, c_out, shortcut))
            c_in = c_out
        stages.append(nn.Sequential(*units))
    stem = _stem(RESNET20_WIDTHS[0], 1, (0.0,) * 3, (1.0,) * 3)
    return nn.Sequential(OrderedDict(stem=stem, stages=stages, **_head(c_in, num_classes)))
