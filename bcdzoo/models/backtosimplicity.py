"""BinaryDenseNet and ResNetE (Bethge et al., Back to Simplicity, arXiv:1906.08637, 2019), as larq-zoo builds them."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.binary_conv import LowBitConv2d, Quantizers
from bcdzoo.layers.padding import SamePad, max_pool
from bcdzoo.layers.quantizers.sign import ClippedSignWeight, clipped_sign
from bcdzoo.layers.unit import BinaryUnit
from bcdzoo.models.meliusnet import GROWTH, THRESHOLD, DenseBlock, Transition
from bcdzoo.models.trunks import RESNET_WIDTHS, linear, pooled, stage

RESNET_THRESHOLD = 1.25
"""Where the gradient of ResNetE's signs ends; BinaryDenseNet's is MeliusNet's."""


def _stem() -> OrderedDict[str, nn.Module]:
    """7×7 of stride 2 → BN → ReLU → 3×3 max pooling of stride 2, TensorFlow's padding."""
    conv = nn.Conv2d(3, 64, 7, 2, bias=False)
    return OrderedDict(
        pad=SamePad(7, 2), conv=conv, bn=nn.BatchNorm2d(64), activation=nn.ReLU(), pool=max_pool(3, "tensorflow")
    )


class BinaryDenseNet(nn.Module):
    """Stem, four stages of dense blocks, BN, ReLU, global pooling, linear classifier.

    Between the stages a transition halves the map, or not: then the blocks behind it are dilated.

    Args:
        depths: Number of blocks in each stage, each of which appends 64 channels.
        reductions: Factors by which the transitions divide the channels, to the nearest multiple of 32.
        num_classes: Number of outputs; 0 for the pooled features.
        dilations: Dilation of each stage's convolutions.

    Shape:
        (N, 3, H, W) to (N, num_classes), float32.
    """

    def __init__(
        self,
        depths: Sequence[int],
        reductions: Sequence[float],
        num_classes: int,
        dilations: Sequence[int] = (1, 1, 1, 1),
    ) -> None:
        super().__init__()
        quantizers = Quantizers(partial(ClippedSignWeight, THRESHOLD))
        self.stem = nn.Sequential(_stem())
        self.stages = nn.Sequential()
        channels = 64
        for i, (depth, dilation) in enumerate(zip(depths, dilations, strict=True)):
            blocks = [DenseBlock(channels + GROWTH * j, quantizers, dilation) for j in range(depth)]
            channels += GROWTH * depth
            self.stages.append(nn.Sequential(*blocks))
            if i < len(reductions):
                width = round(channels // reductions[i] / 32) * 32
                halves = dilations[i + 1] == 1
                transition = Transition(channels, width, ceil_mode=False) if halves else _narrowing(channels, width)
                self.stages[-1].add_module("transition", transition)
                channels = width
        self.bn = nn.BatchNorm2d(channels)
        self.fc = linear(channels, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """The map before the head, as larq's ``include_top=False`` gives it."""
        return F.relu(self.bn(self.stages(self.stem(x))))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(pooled(self.features(x)))
        return logits


def _narrowing(c_in: int, c_out: int) -> nn.Module:
    """A transition that keeps the map's size: BN → ReLU → real-valued 1×1."""
    conv = nn.Conv2d(c_in, c_out, 1, bias=False)
    return nn.Sequential(OrderedDict(bn=nn.BatchNorm2d(c_in), activation=nn.ReLU(), conv=conv))


def binarydensenet_28(num_classes: int = 1000) -> nn.Module:
    """BinaryDenseNet-28."""
    return BinaryDenseNet((6, 6, 6, 5), (2.7, 2.7, 2.2), num_classes)


def binarydensenet_37(num_classes: int = 1000) -> nn.Module:
    """BinaryDenseNet-37."""
    return BinaryDenseNet((6, 8, 12, 6), (3.3, 3.3, 4), num_classes)


def binarydensenet_37_dilated(num_classes: int = 1000) -> nn.Module:
    """BinaryDenseNet-37 whose last two stages are dilated by 2 and 4, on maps of the second stage's size."""
    return BinaryDenseNet((6, 8, 12, 6), (3.3, 3.3, 4), num_classes, (1, 1, 2, 4))


def binarydensenet_45(num_classes: int = 1000) -> nn.Module:
    """BinaryDenseNet-45."""
    return BinaryDenseNet((6, 12, 14, 8), (2.7, 3.3, 4), num_classes)


class BinaryResNetE(nn.Module):
    """ResNet-18 with a shortcut around every binary 3×3; BN after the stem's pooling, ReLU before the last one.

    Args:
        num_classes: Number of outputs; 0 for the pooled features.

    Shape:
        (N, 3, H, W) to (N, num_classes), float32.
    """

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(_stem() | {"norm": nn.BatchNorm2d(64)})
        self.stages = nn.Sequential()
        c_in = RESNET_WIDTHS[0]
        for c_out in RESNET_WIDTHS:
            self.stages.append(stage(_unit, 4, c_in, c_out))
            c_in = c_out
        self.fc = linear(c_in, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """The map before the head, as larq's ``include_top=False`` gives it."""
        return F.relu(self.stages(self.stem(x)))

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(pooled(self.features(x)))
        return logits


def _unit(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
    """Sign → binary 3×3 → BN, + shortcut."""
    conv = LowBitConv2d(c_in, c_out, 3, stride, ClippedSignWeight(RESNET_THRESHOLD), padding="tensorflow")
    return BinaryUnit(clipped_sign(RESNET_THRESHOLD), conv, c_out, shortcut=shortcut)


def binaryresnete_18(num_classes: int = 1000) -> nn.Module:
    """ResNetE-18."""
    return BinaryResNetE(num_classes)
