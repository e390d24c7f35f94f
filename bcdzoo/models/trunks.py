"""Trunks that several papers share: ResNet-18 by blocks, Bi-Real Net's ResNet by units, MobileNet-V1's blocks."""

from collections import OrderedDict
from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.padding import max_pool, split_padding
from bcdzoo.layers.unit import BinaryUnit, HalvingPool

Block = Callable[[int, int, int], nn.Module]
"""Builds a residual block from input channels, output channels and stride."""

Residual = Callable[[int, int, int, nn.Module | None], nn.Module]
"""Builds a residual unit from input channels, output channels, stride and shortcut."""

RESNET_WIDTHS = (64, 128, 256, 512)


class ResNet18(nn.Sequential):
    """Real-valued stem, four stages of two blocks, real-valued head; (N, 3, H, W) to logits, float32.

    Args:
        stem: Module from (N, 3, H, W) to (N, 64, H/4, W/4).
        block: Function that builds a block; the first one of the last three stages has stride 2.
        head: Module from (N, 512, H/32, W/32) to logits.
        first: First block, if it differs from the others.
    """

    def __init__(self, stem: nn.Module, block: Block, head: nn.Module, first: nn.Module | None = None) -> None:
        c_in = RESNET_WIDTHS[0]
        stages = nn.Sequential(nn.Sequential(first or block(c_in, c_in, 1), block(c_in, c_in, 1)))
        for c_out in RESNET_WIDTHS[1:]:
            stages.append(nn.Sequential(block(c_in, c_out, 2), block(c_out, c_out, 1)))
            c_in = c_out
        super().__init__(OrderedDict(stem=stem, stages=stages, head=head))


def resnet_stem(activation: nn.Module) -> nn.Module:
    """7×7 of stride 2 → BN → activation → 3×3 max pooling of stride 2."""
    conv = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
    pool = nn.MaxPool2d(3, stride=2, padding=1)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(64), activation=activation, pool=pool))


def classifier(num_classes: int, before: nn.Module | None = None, norm: nn.Module | None = None) -> nn.Module:
    """Global average pooling → linear.

    Args:
        num_classes: Number of outputs.
        before: Module before the pooling.
        norm: Module between the 512 pooled features and the linear layer.
    """
    parts = {"before": before, "pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "norm": norm}
    given = [(name, part) for name, part in parts.items() if part is not None]
    return nn.Sequential(OrderedDict([*given, ("fc", linear(RESNET_WIDTHS[-1], num_classes))]))


def linear(features: int, num_classes: int, bias: bool = True) -> nn.Module:
    """A linear classifier; without classes the features as they are."""
    return nn.Linear(features, num_classes, bias) if num_classes else nn.Identity()


def pooled(x: Tensor) -> Tensor:
    """Mean of each channel; (N, C, H, W) to (N, C)."""
    return F.adaptive_avg_pool2d(x, 1).flatten(1)


def strided_shortcut(c_in: int, c_out: int, stride: int = 2) -> nn.Module:
    """A real-valued 1×1 with stride → BN."""
    conv = nn.Conv2d(c_in, c_out, 1, stride=stride, bias=False)
    return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(c_out)))


def projection(c_in: int, c_out: int, stride: int) -> nn.Module | None:
    """Shortcut of type B: :func:`strided_shortcut` if the width changes, else None."""
    return None if c_in == c_out else strided_shortcut(c_in, c_out, stride)


def hardtanh_resnet18(
    num_classes: int, sign: Callable[[], nn.Module], conv: Callable[[int, int, int], nn.Module]
) -> nn.Module:
    """ResNet-18 with a shortcut around every binary 3×3, hardtanh after every addition and in the stem.

    A block is two units of sign → binary 3×3 → BN → + shortcut → hardtanh. The downsampling shortcut is a real-valued
    1×1 of stride 2 with BN; stem and classifier are real-valued, with a batch norm of the pooled features before it.

    Args:
        num_classes: Number of outputs.
        sign: Function that builds a unit's sign.
        conv: Function of input channels, output channels and stride that builds a unit's convolution.
    """

    def unit(c_in: int, c_out: int, stride: int) -> nn.Module:
        return BinaryUnit(sign(), conv(c_in, c_out, stride), c_out, nn.Hardtanh(), projection(c_in, c_out, stride))

    def block(c_in: int, c_out: int, stride: int) -> nn.Module:
        return nn.Sequential(OrderedDict(first=unit(c_in, c_out, stride), second=unit(c_out, c_out, 1)))

    return ResNet18(resnet_stem(nn.Hardtanh()), block, classifier(num_classes, norm=nn.BatchNorm1d(512)))


def downsampling_shortcut(c_in: int, c_out: int) -> nn.Module:
    """2×2 average pooling → real-valued 1×1 → BN."""
    conv = nn.Conv2d(c_in, c_out, 1, bias=False)
    return nn.Sequential(OrderedDict(pool=HalvingPool(), conv=conv, bn=nn.BatchNorm2d(c_out)))


class BinaryResNet(nn.Module):
    """ResNet-18/34 with a shortcut around every binary 3×3 convolution.

    Stem, downsampling shortcuts and classifier are real-valued.

    Args:
        residual: Function that builds a unit.
        depths: Number of units in each of the four stages.
        num_classes: Number of outputs.
        padding: Padding of the stem, see :func:`bcdzoo.layers.padding.split_padding`; the units have their own.
        bn_eps: Epsilon of every batch normalization.
        stem_activation: Activation of 64 channels, after the stem's batch normalization.
        shortcut: Function of input and output channels that builds a downsampling shortcut.
        norm: Module between the 512 pooled features and the linear layer.

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
        shortcut: Callable[[int, int], nn.Module] = downsampling_shortcut,
        norm: nn.Module | None = None,
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
        for depth, c_out in zip(depths, RESNET_WIDTHS, strict=True):
            self.stages.append(stage(residual, depth, c_in, c_out, shortcut))
            c_in = c_out
        self.norm = norm or nn.Identity()
        self.fc = linear(c_in, num_classes)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = bn_eps

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(self.stem(x))
        logits: Tensor = self.fc(self.norm(F.adaptive_avg_pool2d(x, 1).flatten(1)))
        return logits


def stage(
    residual: Residual,
    depth: int,
    c_in: int,
    c_out: int,
    shortcut: Callable[[int, int], nn.Module] = downsampling_shortcut,
) -> nn.Sequential:
    """Units of one width; the first has stride 2 and a downsampling shortcut where the width changes."""
    widens = c_in != c_out
    first = residual(c_in, c_out, 2 if widens else 1, shortcut(c_in, c_out) if widens else None)
    return nn.Sequential(first, *(residual(c_out, c_out, 1, None) for _ in range(depth - 1)))


class AlexNet(nn.Module):
    """Convolutions and a classifier of the whole map.

    Args:
        convolutions: Module from images to the map before the classifier.
        classifier: Module from that map to logits; None for pooled features in place of logits.
        side: Height and width of the map that the classifier takes.

    Shape:
        (N, 3, 224, 224) to (N, num_classes), float32; without a classifier any size.
    """

    def __init__(self, convolutions: nn.Module, classifier: nn.Module | None = None, side: int = 6) -> None:
        super().__init__()
        self.convolutions = convolutions
        self.classifier = classifier
        self.side = side

    def features(self, x: Tensor) -> Tensor:
        """The map before the classifier, as larq's ``include_top=False`` gives it."""
        out: Tensor = self.convolutions(x)
        return out

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        if self.classifier is None:
            return pooled(x)
        if x.shape[2:] != (self.side, self.side):
            got = "×".join(map(str, x.shape[2:]))
            raise BcdzooError(f"an AlexNet's classifier takes a map of {self.side}×{self.side}, not {got}: use 224×224")
        logits: Tensor = self.classifier(x)
        return logits


MOBILENET_WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
"""Output channels of ReActNet-A's 13 blocks (those of MobileNet-V1)."""

MOBILENET_STEM_WIDTH = 32


class MobileNetStem(nn.Sequential):
    """Real-valued 3×3 convolution of stride 2, and BN."""

    conv: nn.Conv2d
    bn: nn.BatchNorm2d

    def __init__(self, c_out: int = MOBILENET_STEM_WIDTH) -> None:
        super().__init__(
            OrderedDict(conv=nn.Conv2d(3, c_out, 3, stride=2, padding=1, bias=False), bn=nn.BatchNorm2d(c_out))
        )


def mobilenet_blocks(
    widths: Sequence[int],
    spatial: Callable[[int, int], nn.Module],
    pointwise: Callable[[int, int], nn.Module],
) -> nn.Sequential:
    """Build the blocks of a MobileNet-V1 trunk, after the stem.

    Args:
        widths: Output channels of each block; the stride is 2 where they change, except after the stem.
        spatial: Function of channels and stride that builds the first half.
        pointwise: Function of input and output channels that builds the second half.
    """
    blocks = []
    for i, (c_in, c_out) in enumerate(zip((MOBILENET_STEM_WIDTH, *widths), widths, strict=False)):
        stride = 2 if c_in != c_out and i > 0 else 1
        halves = OrderedDict(spatial=spatial(c_in, stride), pointwise=pointwise(c_in, c_out))
        blocks.append(nn.Sequential(halves))
    return nn.Sequential(*blocks)
