"""AdaBin (Tu et al., ECCV 2022), for ImageNet and for images of 32×32.

The authors' code has the ResNets. VGG-Small is a reconstruction: that of IR-Net's code with AdaBin's convolution and
activation. In training call :func:`bcdzoo.layers.quantizers.base.set_training_progress` every epoch.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from bcdzoo.layers.adabin import AdaBinConv2d, Maxout
from bcdzoo.models import small
from bcdzoo.models.trunks import RESNET_WIDTHS, BinaryResNet, Block, projection


class AdaBinUnit(nn.Module):
    """AdaBin 3×3 → BN → + shortcut → Maxout; (N, c_in, H, W) to (N, c_out, ⌈H/stride⌉, ⌈W/stride⌉)."""

    def __init__(self, c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> None:
        super().__init__()
        self.conv = AdaBinConv2d(c_in, c_out, 3, stride)
        self.bn = nn.BatchNorm2d(c_out)
        self.shortcut = shortcut or nn.Identity()
        self.activation = Maxout(c_out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.bn(self.conv(x)) + self.shortcut(x))
        return out


def _unit(shortcut: small.Shortcut) -> Block:
    return lambda c_in, c_out, stride: AdaBinUnit(c_in, c_out, stride, shortcut(c_in, c_out, stride))


def adabin_r18(num_classes: int = 1000) -> nn.Module:
    """ResNet-18, and its form that the paper marks with a star, which is the same trained in two steps."""
    return _imagenet((4, 4, 4, 4), num_classes)


def adabin_r34(num_classes: int = 1000) -> nn.Module:
    """ResNet-34."""
    return _imagenet((6, 8, 12, 6), num_classes)


def _imagenet(depths: Sequence[int], num_classes: int) -> nn.Module:
    activation, norm = Maxout(RESNET_WIDTHS[0]), nn.BatchNorm1d(RESNET_WIDTHS[-1])
    return BinaryResNet(AdaBinUnit, depths, num_classes, stem_activation=activation, norm=norm)


def adabin_resnet20(num_classes: int = 10) -> nn.Module:
    """ResNet-20 of 18 binary 3×3 convolutions, a shortcut around each."""
    widths = small.RESNET20_WIDTHS
    return small.small_resnet(num_classes, widths, 6, _unit(small.padded_shortcut), Maxout(widths[0]))


def adabin_r18_cifar10(num_classes: int = 10) -> nn.Module:
    """ResNet-18 of 16 binary 3×3 convolutions, a shortcut around each; real-valued 1×1 shortcuts of stride 2."""
    return small.small_resnet(num_classes, RESNET_WIDTHS, 4, _unit(projection), Maxout(RESNET_WIDTHS[0]))


def adabin_vgg_small(num_classes: int = 10) -> nn.Module:
    """VGG-Small of five binary 3×3 convolutions."""
    return small.vgg_small(num_classes, lambda c_in, c_out: AdaBinConv2d(c_in, c_out, 3), Maxout)
