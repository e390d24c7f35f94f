"""The trained networks of BMXNet (Yang et al., ACM Multimedia 2017), after the symbol files beside their weights.

A binary convolution counts the bits that agree and pads with +1; weights have no scale. ResNet-18 has pre-activation
order (He et al., Identity Mappings in Deep Residual Networks, ECCV 2016), with two convolutions between shortcuts, and
the shortcuts that widen are binary too.
"""

from collections import OrderedDict
from collections.abc import Callable

from torch import Tensor, nn

from bcdzoo.layers.agreements import Agreements
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.grey import FirstChannel
from bcdzoo.layers.quantizers.sign import ClippedSignWeight, clipped_sign
from bcdzoo.models.trunks import RESNET_WIDTHS, linear

_RESNET_EPS, _LENET_EPS = 2e-5, 1e-3
Conv = Callable[[int, int, int, int], nn.Module]
"""Builds a convolution from input channels, output channels, kernel size and stride."""


def counting_conv(c_in: int, c_out: int, kernel_size: int, stride: int = 1, padding: int | None = None) -> nn.Module:
    """A binary convolution of agreeing bits, +1 beyond the map's edge.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        kernel_size: Height and width of the kernel.
        stride: Step in pixels.
        padding: Pixels on every side; half the kernel if omitted.
    """
    padding = kernel_size // 2 if padding is None else padding
    conv = LowBitConv2d(c_in, c_out, kernel_size, stride, quantizer=ClippedSignWeight(), padding=padding, pad_value=1.0)
    return nn.Sequential(OrderedDict(conv=conv, agreements=Agreements(c_in * kernel_size**2)))


def _real_conv(c_in: int, c_out: int, kernel_size: int, stride: int) -> nn.Module:
    return nn.Conv2d(c_in, c_out, kernel_size, stride, kernel_size // 2, bias=False)


class PreActivationBlock(nn.Module):
    """BN → activation → 3×3 → BN → activation → 3×3, and a shortcut around all, or from the first activation on.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        stride: Of the first convolution.
        activation: Builds one; the sign before binary convolutions.
        conv: Builds the convolutions.
        projects: Whether the shortcut is a 1×1 convolution of the first activation, and not the input as it is.

    Shape:
        (N, c_in, H, W) to (N, c_out, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    def __init__(
        self, c_in: int, c_out: int, stride: int, activation: Callable[[], nn.Module], conv: Conv, projects: bool
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(c_in, eps=_RESNET_EPS)
        self.activation1 = activation()
        self.conv1 = conv(c_in, c_out, 3, stride)
        self.bn2 = nn.BatchNorm2d(c_out, eps=_RESNET_EPS)
        self.activation2 = activation()
        self.conv2 = conv(c_out, c_out, 3, 1)
        self.shortcut = conv(c_in, c_out, 1, stride) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        first = self.activation1(self.bn1(x))
        out: Tensor = self.conv2(self.activation2(self.bn2(self.conv1(first))))
        return out + (x if self.shortcut is None else self.shortcut(first))


def _resnet18(num_classes: int, stem: nn.Module, real_stages: int = 0) -> nn.Module:
    stages = nn.Sequential()
    c_in = RESNET_WIDTHS[0]
    for i, c_out in enumerate(RESNET_WIDTHS):
        activation, conv = (nn.ReLU, _real_conv) if i < real_stages else (clipped_sign, counting_conv)
        first = PreActivationBlock(c_in, c_out, 2 if c_out > c_in else 1, activation, conv, projects=True)
        stages.append(nn.Sequential(first, PreActivationBlock(c_out, c_out, 1, activation, conv, projects=False)))
        c_in = c_out
    return nn.Sequential(
        OrderedDict(
            stem=stem,
            stages=stages,
            bn=nn.BatchNorm2d(c_in, eps=_RESNET_EPS),
            activation=nn.ReLU(),
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            fc=linear(c_in, num_classes),
        )
    )


def _imagenet_stem() -> nn.Module:
    return nn.Sequential(
        OrderedDict(
            data=nn.BatchNorm2d(3, eps=_RESNET_EPS),
            conv=nn.Conv2d(3, RESNET_WIDTHS[0], 7, 2, 3, bias=False),
            bn=nn.BatchNorm2d(RESNET_WIDTHS[0], eps=_RESNET_EPS),
            activation=nn.ReLU(),
            pool=nn.MaxPool2d(3, 2, 1),
        )
    )


def bmxnet_r18(num_classes: int = 1000) -> nn.Module:
    """BMXNet's ResNet-18, all of its four stages 1-bit."""
    return _resnet18(num_classes, _imagenet_stem())


def bmxnet_r18_first_real(num_classes: int = 1000) -> nn.Module:
    """The same with a real-valued first stage."""
    return _resnet18(num_classes, _imagenet_stem(), real_stages=1)


def bmxnet_r18_cifar10(num_classes: int = 10) -> nn.Module:
    """The same for images of 32×32: a 3×3 convolution in place of the stem."""
    conv = nn.Conv2d(3, RESNET_WIDTHS[0], 3, padding=1, bias=False)
    return _resnet18(num_classes, nn.Sequential(OrderedDict(data=nn.BatchNorm2d(3, eps=_RESNET_EPS), conv=conv)))


def bmxnet_lenet_mnist(num_classes: int = 10) -> nn.Module:
    """BMXNet's LeNet for grey images of 28×28; its 1-bit layers are the second convolution and the first linear one.

    The latter is a convolution of the whole 4×4 map, which is the same.
    """
    features = 1000
    return nn.Sequential(
        OrderedDict(
            grey=FirstChannel(),
            conv1=nn.Conv2d(1, 64, 5),
            activation1=nn.Tanh(),
            pool1=nn.MaxPool2d(2),
            bn1=nn.BatchNorm2d(64, eps=_LENET_EPS),
            sign1=clipped_sign(),
            conv2=counting_conv(64, 64, 5, padding=0),
            bn2=nn.BatchNorm2d(64, eps=_LENET_EPS),
            pool2=nn.MaxPool2d(2),
            sign2=clipped_sign(),
            fc1=counting_conv(64, features, 4, padding=0),
            bn3=nn.BatchNorm2d(features, eps=_LENET_EPS),
            activation2=nn.Tanh(),
            flatten=nn.Flatten(),
            fc2=linear(features, num_classes),
        )
    )
