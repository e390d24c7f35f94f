"""BCDNet-A and -B and their ResNet-18 variants (Xing et al., ECCV 2022)."""

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.activation import RPReLU
from bcdzoo.layers.binary_conv import Accumulate, Quantizers, of_step
from bcdzoo.layers.dynamic import DynamicEmbedding
from bcdzoo.layers.shift import long_range, short_range
from bcdzoo.layers.unit import AveragedHeads, BinaryUnit, Duplicate, DynamicConv, HalvingPool
from bcdzoo.models.reactnet import pointwise_half, react_residual, spatial_half
from bcdzoo.models.trunks import (
    MOBILENET_STEM_WIDTH,
    MOBILENET_WIDTHS,
    BinaryResNet,
    MobileNetStem,
    Residual,
    mobilenet_blocks,
)


class MLPBlock(nn.Module):
    """Long-short-range binary MLP block (BCDNet, "Binary MLP Block").

    One RSign; three binary 1×1 branches on the map itself, its short-range and its long-range sample; their sum →
    BN → + shortcut → RPReLU. (N, C, H, W) to the same.
    """

    branches = ("local", "short", "long")
    """Names of its convolutions that see the same map."""

    def __init__(self, channels: int, quantizers: Quantizers) -> None:
        super().__init__()
        self.sign = quantizers.activation(channels)
        self.local = quantizers.conv(channels, channels, 1)
        self.short = quantizers.conv(channels, channels, 1)
        self.long = quantizers.conv(channels, channels, 1)
        self.accumulate = Accumulate()
        self.bn = nn.BatchNorm2d(channels)
        self.activation = RPReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        a = self.sign(x)
        branches = [self.local(a), self.short(short_range(a)), self.long(long_range(a))]
        out: Tensor = self.activation(self.bn(self.accumulate(branches)).add_(x))
        return out


class BCDNet(nn.Module):
    """Stem, convolutional blocks, MLP stage and two averaged classifiers; (N, 3, H, W) to (N, num_classes), float32."""

    def __init__(
        self,
        blocks: nn.Sequential,
        mlp: nn.Sequential,
        num_classes: int,
        channels: int = MOBILENET_WIDTHS[-1],
        stem_width: int = MOBILENET_STEM_WIDTH,
    ) -> None:
        super().__init__()
        self.stem = MobileNetStem(stem_width)
        self.blocks = blocks
        self.mlp = mlp
        self.head = AveragedHeads(channels, num_classes)

    def features(self, x: Tensor) -> Tensor:
        """What both classifiers see; (N, 3, H, W) to (N, channels)."""
        return F.adaptive_avg_pool2d(self.mlp(self.blocks(self.stem(x))), 1).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits

    def separate_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of the classifier that learns the labels, and of that which imitates a teacher."""
        return self.head.separately(self.features(x))


def mlp_group(channels: int, quantizers: Quantizers) -> nn.Sequential:
    """Three MLP blocks and a point-wise block: the operations of one convolutional block of 1024 channels at 7×7."""
    blocks = (MLPBlock(channels, quantizers) for _ in range(3))
    return nn.Sequential(*blocks, pointwise_half(channels, channels, quantizers))


def tradeoff_widths(mlp_groups: int) -> tuple[int, ...]:
    """Widths of the convolutional blocks left when some made room for groups of the MLP stage.

    The trade-off figure's conv/MLP blocks 14/0, 13/3, 12/6, 11/9 (BCDNet-A), 10/12 and 9/15 (the stem counts as one)
    are 0 to 5 groups. Every group has the BOPs of the block it replaces. Reconstruction: first one block of 1024
    channels goes, then blocks of 512; the printed members do not say which.

    Raises:
        BcdzooError: Not 0 to 5 groups.
    """
    if mlp_groups not in range(6):
        raise BcdzooError(f"mlp_groups must be 0 to 5 (the figure's 14/0 to 9/15 blocks), not {mlp_groups!r}")
    widths = list(MOBILENET_WIDTHS)
    for width in (1024, 512, 512, 512, 512)[:mlp_groups]:
        widths.remove(width)
    return tuple(widths)


def bcdnet_a(num_classes: int = 1000, step: int = 2, mlp_groups: int = 3) -> nn.Module:
    """BCDNet-A: ReActNet-A with its last three same-cost blocks replaced by nine MLP blocks and three point-wise ones.

    Args:
        num_classes: Number of outputs.
        step: Training step: 2, or 1 for the form with real-valued weights.
        mlp_groups: 3, or 0 to 5 for the trade-off figure's family (:func:`tradeoff_widths`).
    """
    quantizers = of_step(step)
    blocks = mobilenet_blocks(
        tradeoff_widths(mlp_groups),
        partial(spatial_half, quantizers=quantizers),
        partial(pointwise_half, quantizers=quantizers),
    )
    return BCDNet(blocks, _mlp_stage(mlp_groups, quantizers), num_classes)


def bcdnet_b(
    num_classes: int = 1000,
    step: int = 2,
    mlp_groups: int = 3,
    reduction: int = 4,
    dynamic_pointwise: bool = True,
) -> nn.Module:
    """BCDNet-B: BCDNet-A with contextual dynamic embeddings in its convolutional blocks (reconstruction).

    Args:
        num_classes: Number of outputs.
        step: Training step: 2, or 1 for the form with real-valued weights.
        mlp_groups: As in :func:`bcdnet_a`.
        reduction: Reduction r of the embeddings.
        dynamic_pointwise: Whether the 1×1 convolutions have embeddings too, not the 3×3 ones alone.
    """
    quantizers = of_step(step)

    def pointwise(c_in: int, c_out: int) -> nn.Module:
        if not dynamic_pointwise:
            return pointwise_half(c_in, c_out, quantizers)
        shortcut = Duplicate() if c_out == 2 * c_in else None
        return _dynamic_unit(c_in, c_out, 1, 1, shortcut, quantizers, reduction)

    def spatial(channels: int, stride: int) -> nn.Module:
        shortcut = HalvingPool() if stride == 2 else None
        return _dynamic_unit(channels, channels, 3, stride, shortcut, quantizers, reduction)

    blocks = mobilenet_blocks(tradeoff_widths(mlp_groups), spatial, pointwise)
    return BCDNet(blocks, _mlp_stage(mlp_groups, quantizers), num_classes)


def _mlp_stage(groups: int, quantizers: Quantizers) -> nn.Sequential:
    return nn.Sequential(*(mlp_group(MOBILENET_WIDTHS[-1], quantizers) for _ in range(groups)))


def _dynamic_unit(
    c_in: int,
    c_out: int,
    kernel_size: int,
    stride: int,
    shortcut: nn.Module | None,
    quantizers: Quantizers,
    reduction: int,
) -> nn.Module:
    """A unit whose threshold and offset come from the image: the embedding binarizes, RSign's place is empty."""
    conv = DynamicConv(quantizers.conv(c_in, c_out, kernel_size, stride), DynamicEmbedding(c_in, c_out, reduction))
    return BinaryUnit(nn.Identity(), conv, c_out, RPReLU(c_out), shortcut)


def bcdnet_a_r18(num_classes: int = 1000, step: int = 2) -> nn.Module:
    """BCDNet-A on ResNet-18 (reconstruction; nothing of it was published).

    ReActNet-R18 in which nine MLP blocks replace the last three binary 3×3 convolutions of stage 4: the BOPs are equal.
    """
    quantizers = of_step(step)
    return _with_mlp_blocks(partial(react_residual, quantizers=quantizers), quantizers, num_classes)


def bcdnet_b_r18(num_classes: int = 1000, step: int = 2, reduction: int = 4) -> nn.Module:
    """BCDNet-B on ResNet-18 (reconstruction): BCDNet-A's, with dynamic embeddings in its binary convolutions."""
    quantizers = of_step(step)

    def residual(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
        return _dynamic_unit(c_in, c_out, 3, stride, shortcut, quantizers, reduction)

    return _with_mlp_blocks(residual, quantizers, num_classes)


def _with_mlp_blocks(residual: Residual, quantizers: Quantizers, num_classes: int) -> nn.Module:
    net = BinaryResNet(residual, (4, 4, 4, 1), num_classes)
    net.stages.append(nn.Sequential(*(MLPBlock(512, quantizers) for _ in range(9))))
    return net
