"""SA-BNN on ResNet-18 and ResNet-50 (Liu et al., AAAI 2021).

SA-BNN's contribution, the gradient of the weights, is in :mod:`bcdzoo.layers.quantizers.sabnn`.
Reconstruction: the trunks, which are those of Bi-Real Net's code, the network it is compared with; and no training
step 1, weights and activations being binary from the start.
"""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizers.sabnn import StateAwareSignWeight
from bcdzoo.layers.quantizers.sign import Sign
from bcdzoo.layers.unit import BinaryUnit, HalvingPool
from bcdzoo.models.trunks import BinaryResNet, linear


def state_aware_conv(c_in: int, c_out: int, kernel_size: int, stride: int = 1) -> nn.Module:
    """Binary convolution whose weights have the state-aware gradient."""
    return LowBitConv2d(c_in, c_out, kernel_size, stride, StateAwareSignWeight())


def state_aware_residual(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
    """Sign → binary 3×3 → BN → + shortcut."""
    return BinaryUnit(Sign(), state_aware_conv(c_in, c_out, 3, stride), c_out, shortcut=shortcut)


def sabnn_18(num_classes: int = 1000) -> nn.Module:
    """SA-BNN on Bi-Real-18's trunk."""
    return BinaryResNet(state_aware_residual, (4, 4, 4, 4), num_classes)


class LeakyClip(nn.Module):
    """Identity on [-1, 1], slope 0.1 outside (Bi-Real-50's code); any shape."""

    def forward(self, x: Tensor) -> Tensor:
        inside = x.clamp(-1, 1)
        return inside + 0.1 * (x - inside)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"activation": output.numel()}


class Bottleneck(nn.Module):
    """Bi-Real-50's bottleneck: binary 1×1, 3×3 and 1×1, with a shortcut around each.

    The first 1×1 narrows the map, so its shortcut is the previous bottleneck's narrow map, which is passed
    with the wide one; a real-valued 1×1 widens it when the stage changes. The network's first bottleneck has
    no such map; its first 1×1 is real-valued, on a leaky clip.

    Args:
        c_in: Channels of the wide map.
        c_out: Channels of the wide output; a quarter of them inside.
        stride: Stride of the 3×3.
        first: Whether it is the network's first.

    Shape:
        (N, c_in / 4, H, W) and (N, c_in, H, W) to (N, c_out / 4, H', W') and (N, c_out, H', W'), H' = ⌈H/stride⌉.
    """

    def __init__(self, c_in: int, c_out: int, stride: int, first: bool = False) -> None:
        super().__init__()
        narrow = c_out // 4
        self.first = first
        self.reduce_sign = LeakyClip() if first else Sign()
        self.reduce = nn.Conv2d(c_in, narrow, 1, bias=False) if first else state_aware_conv(c_in, narrow, 1)
        self.reduce_bn = nn.BatchNorm2d(narrow)
        if not first:
            widens = c_in != c_out
            self.narrow_shortcut = nn.Conv2d(c_in // 4, narrow, 1, bias=False) if widens else nn.Identity()
        pool = HalvingPool() if stride == 2 else None
        self.spatial = BinaryUnit(Sign(), state_aware_conv(narrow, narrow, 3, stride), narrow, shortcut=pool)
        self.expand_sign = Sign()
        self.expand = state_aware_conv(narrow, c_out, 1)
        self.expand_bn = nn.BatchNorm2d(c_out)
        self.shortcut = _wide_shortcut(c_in, c_out, stride) if c_in != c_out else nn.Identity()

    def forward(self, maps: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        narrow, wide = maps
        reduced = self.reduce_bn(self.reduce(self.reduce_sign(wide)))
        if not self.first:
            reduced = reduced + self.narrow_shortcut(narrow)
        narrow = self.spatial(reduced)
        return narrow, self.expand_bn(self.expand(self.expand_sign(narrow))) + self.shortcut(wide)


def _wide_shortcut(c_in: int, c_out: int, stride: int) -> nn.Module:
    pool = HalvingPool() if stride == 2 else nn.Identity()
    conv = nn.Conv2d(c_in, c_out, 1, bias=False)
    return nn.Sequential(OrderedDict(pool=pool, conv=conv, bn=nn.BatchNorm2d(c_out)))


class StateAwareResNet50(nn.Module):
    """Stem, 3 + 4 + 6 + 3 bottlenecks, global average pooling and a linear classifier.

    Shape:
        (N, 3, H, W) to (N, num_classes), float32.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        conv = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.stem = nn.Sequential(
            OrderedDict(conv=conv, bn=nn.BatchNorm2d(64), pool=nn.MaxPool2d(3, stride=2, padding=1))
        )
        self.blocks = nn.Sequential()
        c_in = 64
        for depth, c_out in ((3, 256), (4, 512), (6, 1024), (3, 2048)):
            for _ in range(depth):
                self.blocks.append(Bottleneck(c_in, c_out, 2 if c_in != c_out != 256 else 1, first=c_in == 64))
                c_in = c_out
        self.fc = linear(c_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        _, wide = self.blocks((x, x))
        logits: Tensor = self.fc(F.adaptive_avg_pool2d(wide, 1).flatten(1))
        return logits


def sabnn_50(num_classes: int = 1000) -> nn.Module:
    """SA-BNN on Bi-Real-50's trunk."""
    return StateAwareResNet50(num_classes)
