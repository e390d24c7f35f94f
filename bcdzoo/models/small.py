"""Frames for images of 32×32 that several papers share: ResNet-20, the form of ResNet-18 for them, and VGG-Small.

Their first convolution and their classifier are real-valued. A batch norm of the pooled features comes before a
ResNet's classifier.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.unit import BinaryUnit
from bcdzoo.models.trunks import RESNET_WIDTHS, Block, linear

RESNET20_WIDTHS = (16, 32, 64)
VGG_WIDTHS = (128, 128, 256, 256, 512, 512)

Shortcut = Callable[[int, int, int], nn.Module | None]
"""Builds a shortcut from input channels, output channels and stride; None where it is the identity."""


class ZeroChannels(nn.Module):
    """Channels of zeros around; (N, C, H, W) to (N, 2C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        quarter = x.shape[1] // 2
        return F.pad(x, (0, 0, 0, 0, quarter, quarter))

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {}


class PaddedShortcut(ZeroChannels):
    """ResNet's shortcut of type A: every second pixel, and channels of zeros around; (N, C, H, W) to (N, 2C, …)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, :, ::2, ::2])


def padded_shortcut(c_in: int, c_out: int, stride: int) -> nn.Module | None:
    """:class:`PaddedShortcut` if the width changes, else None."""
    return None if c_in == c_out else PaddedShortcut()


def averaged_shortcut(c_in: int, c_out: int, stride: int) -> nn.Module | None:
    """The same with the average of 2×2 pixels in place of every second one."""
    return None if c_in == c_out else nn.Sequential(OrderedDict(pool=nn.AvgPool2d(2), pad=ZeroChannels()))


class BasicBlock(nn.Module):
    """ResNet's block: one shortcut around two convolutions.

    Args:
        first: First convolution with its sign and batch normalization.
        second: Second one.
        shortcut: Module that brings the input to the output's shape, if it differs.
        activation: Function that builds the activation between them and that after the addition.

    Shape:
        (N, c_in, H, W) to (N, c_out, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    def __init__(
        self,
        first: nn.Module,
        second: nn.Module,
        shortcut: nn.Module | None,
        activation: Callable[[], nn.Module] = nn.Hardtanh,
    ) -> None:
        super().__init__()
        self.first = first
        self.inner = activation()
        self.second = second
        self.shortcut = shortcut or nn.Identity()
        self.activation = activation()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.second(self.inner(self.first(x))) + self.shortcut(x))
        return out


def small_resnet(
    num_classes: int,
    widths: Sequence[int],
    depth: int,
    block: Block,
    activation: nn.Module | None = None,
    inner: nn.Module | None = None,
) -> nn.Module:
    """A ResNet whose first convolution is 3×3, without pooling.

    Args:
        num_classes: Number of outputs.
        widths: Channels of each stage; the stride is 2 where they change.
        depth: Number of blocks in a stage.
        block: Function that builds one.
        activation: Activation after the first batch normalization.
        inner: Activation before it.
    """
    stages = nn.Sequential()
    c_in = widths[0]
    for c_out in widths:
        first = block(c_in, c_out, 1 if c_in == c_out else 2)
        stages.append(nn.Sequential(first, *(block(c_out, c_out, 1) for _ in range(depth - 1))))
        c_in = c_out
    conv = nn.Conv2d(3, widths[0], 3, padding=1, bias=False)
    stem = {"conv": conv, "inner": inner, "bn": nn.BatchNorm2d(widths[0]), "activation": activation}
    return nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(OrderedDict((name, part) for name, part in stem.items() if part is not None)),
            stages=stages,
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            norm=nn.BatchNorm1d(c_in),
            fc=linear(c_in, num_classes),
        )
    )


def hardtanh_resnet20(
    num_classes: int, sign: Callable[[], nn.Module], conv: Block, bireal: bool, shortcut: Shortcut = padded_shortcut
) -> nn.Module:
    """ResNet-20 of 18 binary convolutions with hardtanh as activation and shortcuts without weights.

    Args:
        num_classes: Number of outputs.
        sign: Function that builds the sign before a convolution.
        conv: Function that builds a binary 3×3 convolution.
        bireal: Whether there is a shortcut around each convolution, or around two.
        shortcut: Function that builds the shortcut.
    """

    def unit(c_in: int, c_out: int, stride: int) -> nn.Module:
        around = shortcut(c_in, c_out, stride)
        return BinaryUnit(sign(), conv(c_in, c_out, stride), c_out, nn.Hardtanh(), around)

    build, depth = (unit, 6) if bireal else (_basic_block(sign, conv, shortcut), 3)
    return small_resnet(num_classes, RESNET20_WIDTHS, depth, build, nn.Hardtanh())


def hardtanh_resnet18(num_classes: int, sign: Callable[[], nn.Module], conv: Block, shortcut: Shortcut) -> nn.Module:
    """ResNet-18 of 16 binary 3×3 convolutions with hardtanh as activation, but for the first layer, which has none.

    Args:
        num_classes: Number of outputs.
        sign: Function that builds the sign before a convolution.
        conv: Function that builds a binary 3×3 convolution.
        shortcut: Function that builds the shortcut around two convolutions.
    """
    return small_resnet(num_classes, RESNET_WIDTHS, 2, _basic_block(sign, conv, shortcut))


def _basic_block(sign: Callable[[], nn.Module], conv: Block, shortcut: Shortcut) -> Block:
    def block(c_in: int, c_out: int, stride: int) -> nn.Module:
        first = normalized(sign(), conv(c_in, c_out, stride), c_out)
        return BasicBlock(first, normalized(sign(), conv(c_out, c_out, 1), c_out), shortcut(c_in, c_out, stride))

    return block


def normalized(sign: nn.Module, conv: nn.Module, channels: int) -> nn.Module:
    """Sign → binary convolution → BN."""
    return nn.Sequential(OrderedDict(sign=sign, conv=conv, bn=nn.BatchNorm2d(channels)))


def hardtanh_vgg_small(num_classes: int, sign: Callable[[], nn.Module], conv: Block) -> nn.Module:
    """VGG-Small with hardtanh as activation; arguments as in :func:`hardtanh_resnet20`."""

    def signed(c_in: int, c_out: int) -> nn.Module:
        return nn.Sequential(OrderedDict(sign=sign(), conv=conv(c_in, c_out, 1)))

    return vgg_small(num_classes, signed, lambda channels: nn.Hardtanh())


def vgg_small(
    num_classes: int, conv: Callable[[int, int], nn.Module], activation: Callable[[int], nn.Module]
) -> nn.Module:
    """VGG-Small: six 3×3 convolutions, a maximum of 2×2 behind every second one, and one linear layer.

    Args:
        num_classes: Number of outputs.
        conv: Function of input and output channels that builds the last five convolutions, with what binarizes.
        activation: Function of the channels that builds the activation behind each batch normalization.
    """
    features = nn.Sequential()
    c_in = 3
    for place, c_out in enumerate(VGG_WIDTHS):
        layer = conv(c_in, c_out) if place else nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        parts = OrderedDict(conv=layer)
        if place % 2:
            parts["pool"] = nn.MaxPool2d(2)
        parts |= {"bn": nn.BatchNorm2d(c_out), "activation": activation(c_out)}
        features.append(nn.Sequential(OrderedDict(parts)))
        c_in = c_out
    fc = linear(c_in * (32 // 8) ** 2, num_classes)
    return nn.Sequential(OrderedDict(features=features, flatten=nn.Flatten(), fc=fc))
