"""Expert-BNN (Bulat et al., High-Capacity Expert Binary Networks, ICLR 2021), in the form of the released weights.

That is 1adrianb/expert-binary-networks' ``test/model.py`` with the arguments of ``test/test.py``. The training code
beside it differs in the real-valued shortcuts, and scores its experts by a sigmoid; the highest one is the same.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn

from bcdzoo.layers.experts import ExpertConv2d
from bcdzoo.layers.unit import HalvingPool
from bcdzoo.models.realtobinary import ChannelGate
from bcdzoo.models.trunks import linear

STEM_WIDTH = 64
WIDTHS = (128, 256, 512, 1024)
DEPTHS = (1, 2, 6, 2)
GROUPS = (4, 8, 8, 16)
"""Groups of each stage's 3×3 convolutions; the 1×1 behind every two of them mixes these."""


class Scale(nn.Module):
    """A learned factor of each channel, which folds into the normalization behind it; (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.alpha[:, None, None]


def _layer(c_in: int, c_out: int, kernel_size: int, stride: int = 1) -> nn.Module:
    conv = nn.Conv2d(c_in, c_out, kernel_size, stride, kernel_size // 2, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(c_out), activation=nn.ReLU()))


class ForkedStem(nn.Module):
    """daBNN's real-valued stem: a 3×3 of stride 2, then a 3×3 beside a max pooling, then a 1×1.

    Shape:
        (N, 3, H, W) to (N, c_out, H/4, W/4).
    """

    def __init__(self, c_out: int) -> None:
        super().__init__()
        self.first = _layer(3, c_out // 2, 3, stride=2)
        self.narrow = _layer(c_out // 2, c_out // 4, 1)
        self.spatial = _layer(c_out // 4, c_out // 2, 3, stride=2)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.last = _layer(c_out, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        out: Tensor = self.last(torch.cat([self.spatial(self.narrow(x)), self.pool(x)], dim=1))
        return out


class ExpertUnit(nn.Module):
    """``PReLU(conv(BN(x)) · gate(BN(x))) + shortcut(x)``, with a convolution of experts.

    Shape:
        (N, c_in, H, W) to (N, c_out, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        shortcut: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(c_in, eps=1e-4)
        self.conv = ExpertConv2d(c_in, c_out, kernel_size, stride, groups)
        self.gate = ChannelGate(c_in, c_out, c_out // 8)
        self.activation = nn.PReLU(c_out)
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        a = self.bn(x)
        out: Tensor = self.activation(self.conv(a) * self.gate(a)) + self.shortcut(x)
        return out


def narrow_shortcut(c_in: int, c_out: int, stride: int) -> nn.Module:
    """2×2 average pooling, if the map is halved; a real-valued 1×1 to c_in / 4 channels, and one to c_out."""

    def pointwise(c_in: int, c_out: int) -> list[nn.Module]:
        return [nn.Conv2d(c_in, c_out, 1, bias=False), Scale(c_out), nn.BatchNorm2d(c_out), nn.PReLU(c_out)]

    pool = HalvingPool() if stride == 2 else nn.Identity()
    return nn.Sequential(pool, *pointwise(c_in, c_in // 4), *pointwise(c_in // 4, c_out))


def expert_bnn(num_classes: int = 1000) -> nn.Module:
    """Four experts a convolution; 11 blocks of two 3×3 in groups and a 1×1, a shortcut around each of the three."""
    stages, c_in = nn.Sequential(), STEM_WIDTH
    for c_out, depth, groups in zip(WIDTHS, DEPTHS, GROUPS, strict=True):
        units: list[nn.Module] = []
        for _ in range(depth):
            stride = 2 if stages and not units else 1
            shortcut = None if units else narrow_shortcut(c_in, c_out, stride)
            units += [
                ExpertUnit(c_in, c_out, 3, stride, groups, shortcut),
                ExpertUnit(c_out, c_out, 3, groups=groups),
                ExpertUnit(c_out, c_out, 1),
            ]
            c_in = c_out
        stages.append(nn.Sequential(*units))
    head = OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten(), fc=linear(c_in, num_classes))
    return nn.Sequential(OrderedDict(stem=ForkedStem(STEM_WIDTH), stages=stages, **head))
