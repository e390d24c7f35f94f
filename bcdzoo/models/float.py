"""The real-valued networks of the tables: torchvision's ResNet-18 and MobileNet-V2, and MobileNet-V1."""

from collections import OrderedDict
from collections.abc import Callable

import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.errors import BcdzooError
from bcdzoo.models.trunks import linear


def resnet_18(num_classes: int = 1000) -> nn.Module:
    """ResNet-18, torchvision's."""
    model: nn.Module = torchvision.models.resnet18(num_classes=num_classes or 1)
    return model if num_classes else _without(model, "fc")


def mobilenet_v2(num_classes: int = 1000) -> nn.Module:
    """MobileNet-V2 of width 1, torchvision's."""
    model: nn.Module = torchvision.models.mobilenet_v2(num_classes=num_classes or 1)
    return model if num_classes else _without(model, "classifier")


def _without(model: nn.Module, classifier: str) -> nn.Module:
    setattr(model, classifier, nn.Identity())
    return model


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "relu6": nn.ReLU6}

_WIDTHS_AND_STRIDES = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)]


class MobileNetV1(nn.Module):
    """MobileNet-V1 of width 1 (Howard et al., 2017, table 1); (N, 3, H, W) to (N, num_classes), float32."""

    def __init__(self, num_classes: int, activation: Callable[[], nn.Module]) -> None:
        super().__init__()

        def conv(c_in: int, c_out: int, kernel_size: int, stride: int = 1, groups: int = 1) -> nn.Module:
            layer = nn.Conv2d(c_in, c_out, kernel_size, stride, kernel_size // 2, groups=groups, bias=False)
            return nn.Sequential(OrderedDict(conv=layer, bn=nn.BatchNorm2d(c_out), activation=activation()))

        self.stem = conv(3, 32, 3, stride=2)
        self.blocks = nn.Sequential()
        c_in = 32
        for c_out, stride in _WIDTHS_AND_STRIDES:
            halves = OrderedDict(depthwise=conv(c_in, c_in, 3, stride, groups=c_in), pointwise=conv(c_in, c_out, 1))
            self.blocks.append(nn.Sequential(halves))
            c_in = c_out
        self.fc = linear(c_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(self.stem(x))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def mobilenet_v1(num_classes: int = 1000, activation: str = "relu") -> nn.Module:
    """MobileNet-V1.

    Args:
        num_classes: Number of outputs.
        activation: "relu" as in the paper, or "relu6" as some trained weights expect.
    """
    if activation not in _ACTIVATIONS:
        raise BcdzooError(f"activation must be one of {', '.join(_ACTIVATIONS)}, not {activation!r}")
    return MobileNetV1(num_classes, _ACTIVATIONS[activation])
