"""AdaBin (Tu et al., ECCV 2022): ResNet-20 for images of 32×32."""

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.adabin import AdaBinConv2d, Maxout
from bcdzoo.layers.metadata import OpCounts

_WIDTHS = (16, 32, 64)


class PaddedShortcut(nn.Module):
    """ResNet's shortcut of type A: every second pixel, and channels of zeros around; (N, C, H, W) to (N, 2C, …)."""

    def forward(self, x: Tensor) -> Tensor:
        quarter = x.shape[1] // 2
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, quarter, quarter))

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {}


class AdaBinUnit(nn.Module):
    """AdaBin 3×3 → BN → + shortcut → Maxout; (N, c_in, H, W) to (N, c_out, ⌈H/stride⌉, ⌈W/stride⌉)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = AdaBinConv2d(c_in, c_out, 3, stride=1 if c_in == c_out else 2)
        self.bn = nn.BatchNorm2d(c_out)
        self.shortcut = nn.Identity() if c_in == c_out else PaddedShortcut()
        self.activation = Maxout(c_out)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.bn(self.conv(x)) + self.shortcut(x))
        return out


def adabin_resnet20(num_classes: int = 10) -> nn.Module:
    """ResNet-20 of 18 binary 3×3 convolutions, a shortcut around each; batch normalization before the classifier."""
    stages = nn.Sequential()
    c_in = _WIDTHS[0]
    for c_out in _WIDTHS:
        units = [AdaBinUnit(c_in, c_out), *(AdaBinUnit(c_out, c_out) for _ in range(5))]
        stages.append(nn.Sequential(*units))
        c_in = c_out
    stem = OrderedDict(
        conv=nn.Conv2d(3, c := _WIDTHS[0], 3, padding=1, bias=False), bn=nn.BatchNorm2d(c), activation=Maxout(c)
    )
    return nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(stem),
            stages=stages,
            pool=nn.AdaptiveAvgPool2d(1),
            flatten=nn.Flatten(),
            norm=nn.BatchNorm1d(c_in),
            fc=nn.Linear(c_in, num_classes),
        )
    )
