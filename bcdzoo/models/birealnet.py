"""Bi-Real Net 18 and 34 (Liu et al., ECCV 2018), and the binary ResNet trunk that others share."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.activation import Sign
from bcdzoo.layers.binary_conv import binary_or_step1_conv
from bcdzoo.layers.unit import BinaryUnit, HalvingPool

Residual = Callable[[int, int, int, nn.Module | None], nn.Module]
"""Builds a residual unit from input channels, output channels, stride and shortcut."""

STAGE_WIDTHS = (64, 128, 256, 512)


class BinaryResNet(nn.Module):
    """ResNet-18/34 with a shortcut around every binary 3×3 convolution.

    Stem, downsampling shortcuts and classifier are real-valued.

    Args:
        residual: Builds a unit.
        depths: Units of each of the four stages.
        num_classes: Logits.

    Shape:
        (N, 3, H, W) to (N, num_classes), float32.
    """

    def __init__(self, residual: Residual, depths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
                bn=nn.BatchNorm2d(64),
                pool=nn.MaxPool2d(3, stride=2, padding=1),
            )
        )
        self.stages = nn.Sequential()
        c_in = 64
        for depth, c_out in zip(depths, STAGE_WIDTHS, strict=True):
            self.stages.append(stage(residual, depth, c_in, c_out))
            c_in = c_out
        self.fc = nn.Linear(c_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.stem(x))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return logits


def stage(residual: Residual, depth: int, c_in: int, c_out: int) -> nn.Sequential:
    """Units of one width; the first has stride 2 and a downsampling shortcut where the width changes."""
    widens = c_in != c_out
    first = residual(c_in, c_out, 2 if widens else 1, downsampling_shortcut(c_in, c_out) if widens else None)
    return nn.Sequential(first, *(residual(c_out, c_out, 1, None) for _ in range(depth - 1)))


def downsampling_shortcut(c_in: int, c_out: int) -> nn.Module:
    """2×2 average pooling → real-valued 1×1 → BN."""
    conv = nn.Conv2d(c_in, c_out, 1, bias=False)
    return nn.Sequential(OrderedDict(pool=HalvingPool(), conv=conv, bn=nn.BatchNorm2d(c_out)))


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"identity": nn.Identity, "hardtanh": nn.Hardtanh}


def birealnet_18(num_classes: int = 1000, step: int = 2, activation: str = "identity") -> nn.Module:
    """Bi-Real Net with 18 layers."""
    return _birealnet((4, 4, 4, 4), num_classes, step, activation)


def birealnet_34(num_classes: int = 1000, step: int = 2, activation: str = "identity") -> nn.Module:
    """Bi-Real Net with 34 layers."""
    return _birealnet((6, 8, 12, 6), num_classes, step, activation)


def _birealnet(depths: Sequence[int], num_classes: int, step: int, activation: str) -> nn.Module:
    """Sign → binary 3×3 → BN → + shortcut → activation ("identity" as in the authors' code, or "hardtanh")."""
    if activation not in _ACTIVATIONS:
        raise BcdzooError(f"activation must be one of {', '.join(_ACTIVATIONS)}, not {activation!r}")

    def residual(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
        conv = binary_or_step1_conv(c_in, c_out, 3, stride, step)
        return BinaryUnit(Sign(), conv, c_out, _ACTIVATIONS[activation](), shortcut)

    return BinaryResNet(residual, depths, num_classes)
