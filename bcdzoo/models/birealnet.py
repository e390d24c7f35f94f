"""Bi-Real Net 18 and 34 (Liu et al., ECCV 2018), and the binary ResNet trunk that others share."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.activation import Sign
from bcdzoo.layers.binary_conv import binary_or_step1_conv
from bcdzoo.layers.padding import max_pool, split_padding
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
        padding: Of the stem, see :func:`bcdzoo.layers.padding.split_padding`; the units have their own.
        bn_eps: What every batch normalization adds to the variance.
        stem_activation: Of 64 channels, behind the stem's batch normalization.

    Shape:
        (N, 3, H, W) to (N, num_classes), float32.
    """

    def __init__(
        self,
        residual: Residual,
        depths: Sequence[int],
        num_classes: int,
        padding: str = "symmetric",
        bn_eps: float = 1e-5,
        stem_activation: nn.Module | None = None,
    ) -> None:
        super().__init__()
        if not 0 < bn_eps < 1:
            raise BcdzooError(f"bn_eps must be between 0 and 1, not {bn_eps!r}")
        pad, margin = split_padding(7, 2, padding)
        self.stem = nn.Sequential(
            OrderedDict(
                pad=pad or nn.Identity(),
                conv=nn.Conv2d(3, 64, 7, stride=2, padding=margin, bias=False),
                bn=nn.BatchNorm2d(64),
                activation=stem_activation or nn.Identity(),
                pool=max_pool(3, padding),
            )
        )
        self.stages = nn.Sequential()
        c_in = 64
        for depth, c_out in zip(depths, STAGE_WIDTHS, strict=True):
            self.stages.append(stage(residual, depth, c_in, c_out))
            c_in = c_out
        self.fc = nn.Linear(c_in, num_classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = bn_eps

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


def birealnet_18(
    num_classes: int = 1000,
    step: int = 2,
    activation: str = "identity",
    padding: str = "symmetric",
    bn_eps: float = 1e-5,
) -> nn.Module:
    """Bi-Real Net with 18 layers.

    Args:
        num_classes: Logits.
        step: 2, or 1 for the form with real-valued weights.
        activation: Behind each shortcut's addition: "identity" as in the authors' code, or "hardtanh".
        padding: "symmetric" as in the authors' code, or "tensorflow" for weights trained there (larq's).
        bn_eps: What batch normalization adds to the variance; Keras' default, and so larq's, is 1e-3.
    """
    return _birealnet((4, 4, 4, 4), num_classes, step, activation, padding, bn_eps)


def birealnet_34(num_classes: int = 1000, step: int = 2, activation: str = "identity") -> nn.Module:
    """Bi-Real Net with 34 layers; arguments as in :func:`birealnet_18`."""
    return _birealnet((6, 8, 12, 6), num_classes, step, activation)


def _birealnet(
    depths: Sequence[int],
    num_classes: int,
    step: int,
    activation: str,
    padding: str = "symmetric",
    bn_eps: float = 1e-5,
) -> nn.Module:
    """Sign → binary 3×3 → BN → + shortcut → activation."""
    if activation not in _ACTIVATIONS:
        raise BcdzooError(f"activation must be one of {', '.join(_ACTIVATIONS)}, not {activation!r}")

    def residual(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
        pad, margin = split_padding(3, stride, padding)
        sign = nn.Sequential(Sign(), pad) if pad else Sign()
        conv = binary_or_step1_conv(c_in, c_out, 3, stride, step, padding=margin)
        return BinaryUnit(sign, conv, c_out, _ACTIVATIONS[activation](), shortcut)

    return BinaryResNet(residual, depths, num_classes, padding, bn_eps)
