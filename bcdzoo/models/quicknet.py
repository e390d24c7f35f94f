"""QuickNet (Bannink et al., Larq Compute Engine, MLSys 2021), as larq-zoo builds it."""

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.padding import SamePad, pad_same
from bcdzoo.layers.quantizers.sign import ClippedSignWeight, clipped_sign
from bcdzoo.layers.unit import BinaryUnit
from bcdzoo.models.trunks import linear, pooled

THRESHOLD = 1.25
"""Where the sign's straight-through gradient ends, for weights and activations."""


class BlurPool(nn.Module):
    """Depthwise 3×3 of stride 2 with a fixed binomial filter (Zhang, 2019), TensorFlow's padding.

    Shape:
        (N, C, H, W) to (N, C, ⌈H/2⌉, ⌈W/2⌉).
    """

    weight: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("weight", torch.outer(line, line).expand(channels, 1, 3, 3).clone())

    def forward(self, x: Tensor) -> Tensor:
        # contiguous, because torch's rounding depends on the order in memory
        return F.conv2d(pad_same(x.contiguous(), 3, 2), self.weight, stride=2, groups=len(self.weight))


def _stem(channels: int) -> nn.Sequential:
    """Real-valued 3×3 of stride 2 → BN → ReLU → depthwise 3×3 of stride 2 → BN → 1×1 → BN."""
    narrow = channels // 4
    parts = OrderedDict[str, nn.Module](
        pad=SamePad(3, 2),
        conv=nn.Conv2d(3, narrow, 3, 2, bias=False),
        bn=_stem_norm(narrow),
        activation=nn.ReLU(),
        depthwise_pad=SamePad(3, 2),
        depthwise=nn.Conv2d(narrow, narrow, 3, 2, groups=narrow, bias=False),
        depthwise_bn=_stem_norm(narrow, affine=False),
        pointwise=nn.Conv2d(narrow, channels, 1, bias=False),
        pointwise_bn=_stem_norm(channels),
    )
    return nn.Sequential(parts)


def _stem_norm(channels: int, affine: bool = True) -> nn.Module:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.01, affine=affine)  # Keras' defaults


def _unit(channels: int) -> nn.Module:
    """Sign → binary 3×3 → ReLU → BN, + shortcut; what is beyond the map's edge is +1."""
    conv = LowBitConv2d(channels, channels, 3, quantizer=ClippedSignWeight(THRESHOLD), pad_value=1.0)
    return BinaryUnit(clipped_sign(THRESHOLD), conv, channels, inner=nn.ReLU())


def _transition(c_in: int, c_out: int) -> nn.Module:
    """ReLU → 2×2 max pooling of stride 1 → blur of stride 2 → real-valued 1×1 → BN."""
    conv = nn.Conv2d(c_in, c_out, 1, bias=False)
    parts = OrderedDict[str, nn.Module](
        activation=nn.ReLU(), pool=nn.MaxPool2d(2, 1), blur=BlurPool(c_in), conv=conv, bn=nn.BatchNorm2d(c_out)
    )
    return nn.Sequential(parts)


class QuickNet(nn.Module):
    """Real-valued stem, four stages of binary 3×3 units, ReLU, global pooling, linear classifier.

    Args:
        depths: Number of units in each stage.
        widths: Channels of each stage.
        num_classes: Number of outputs; 0 for the pooled features.

    Shape:
        (N, 3, H, W) to (N, num_classes), float32.
    """

    def __init__(self, depths: Sequence[int], widths: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.stem = _stem(widths[0])
        self.stages = nn.Sequential()
        for i, (depth, width) in enumerate(zip(depths, widths, strict=True)):
            parts = OrderedDict[str, nn.Module](transition=_transition(widths[i - 1], width)) if i else OrderedDict()
            parts.update((str(number), _unit(width)) for number in range(depth))
            self.stages.append(nn.Sequential(parts))
        self.fc = linear(widths[-1], num_classes)

    def features(self, x: Tensor) -> Tensor:
        """The map before the head, as larq's ``include_top=False`` gives it."""
        out: Tensor = self.stages(self.stem(x))
        return out

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(pooled(F.relu(self.features(x))))
        return logits


def quicknet_small(num_classes: int = 1000) -> nn.Module:
    """QuickNet-Small."""
    return QuickNet((4, 4, 4, 4), (32, 64, 256, 512), num_classes)


def quicknet(num_classes: int = 1000) -> nn.Module:
    """QuickNet."""
    return QuickNet((4, 4, 4, 4), (64, 128, 256, 512), num_classes)


def quicknet_large(num_classes: int = 1000) -> nn.Module:
    """QuickNet-Large."""
    return QuickNet((6, 8, 12, 6), (64, 128, 256, 512), num_classes)
