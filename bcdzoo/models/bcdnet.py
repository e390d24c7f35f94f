"""BCDNet-A and -B, their ResNet-18 variants, and the operations that the paper compares (Xing et al., ECCV 2022)."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain

from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.activation import RPReLU
from bcdzoo.layers.binary_conv import Accumulate, Quantizers, of_step
from bcdzoo.layers.dynamic import DynamicEmbedding
from bcdzoo.layers.shift import long_range, short_range
from bcdzoo.layers.tokens import TokenMixing
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
from bcdzoo.text import printable

BRANCHES: dict[str, Callable[[Tensor], Tensor]] = {"local": lambda a: a, "short": short_range, "long": long_range}
"""Branches of an MLP block, and what each sees of the map."""
ALL_BRANCHES = ",".join(BRANCHES)

MIXINGS = ("mlp", "token", "conv")
"""The binary operations that the paper compares (its figure 1, c, b and a), which mix the positions of a map."""

_SIDE = 7  # of the maps of the MLP stage, at the networks' own input sizes


class MLPBlock(nn.Module):
    """Long-short-range binary MLP block (BCDNet, "Binary MLP Block").

    One RSign; three binary 1×1 branches on the map itself, its short-range and its long-range sample; their sum →
    BN → + shortcut → RPReLU. (N, C, H, W) to the same.

    Args:
        channels: Number of channels.
        quantizers: Quantizers of its branches.
        branches: Names of its convolutions that see the same map: some of :data:`BRANCHES`.
    """

    def __init__(self, channels: int, quantizers: Quantizers, branches: Sequence[str] = tuple(BRANCHES)) -> None:
        super().__init__()
        self.branches = tuple(branches)
        self.sign = quantizers.activation(channels)
        for branch in self.branches:
            self.add_module(branch, quantizers.conv(channels, channels, 1))
        self.accumulate = Accumulate()
        self.bn = nn.BatchNorm2d(channels)
        self.activation = RPReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        a = self.sign(x)
        branches = [getattr(self, branch)(BRANCHES[branch](a)) for branch in self.branches]
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
        self.head = AveragedHeads(channels, num_classes) if num_classes else nn.Identity()

    def features(self, x: Tensor) -> Tensor:
        """What both classifiers see; (N, 3, H, W) to (N, channels)."""
        return F.adaptive_avg_pool2d(self.mlp(self.blocks(self.stem(x))), 1).flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits

    def separate_logits(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Of the classifier that learns the labels, and of that which imitates a teacher."""
        assert isinstance(self.head, AveragedHeads)
        return self.head.separately(self.features(x))


def mixing_blocks(channels: int, quantizers: Quantizers, mixing: str, branches: str) -> list[nn.Module]:
    """What mixes the positions of a map where the paper has three MLP blocks.

    A 3×3 convolution has the binary operations of three blocks of three branches. Token mixing has far fewer; what
    the paper says of its own is that it is MLP-Mixer's. Here (reconstruction) a block has one layer, RSign before it
    and BN, shortcut and RPReLU after it, as an MLP block has.

    Args:
        channels: Number of channels.
        quantizers: Quantizers of the operation.
        mixing: One of :data:`MIXINGS`: three MLP blocks, three token-mixing blocks, or one 3×3 convolution.
        branches: Some of :data:`BRANCHES`, separated by commas; those of each MLP block.

    Raises:
        BcdzooError: Unknown mixing or branches, or branches of what has none.
    """
    if mixing not in MIXINGS:
        raise BcdzooError(f"mixing must be one of {', '.join(MIXINGS)}, not {printable(repr(mixing), 60)}")
    chosen = [branch.strip() for branch in branches.split(",")]
    if set(chosen) - BRANCHES.keys() or len(set(chosen)) < len(chosen):
        raise BcdzooError(f"branches must be some of {ALL_BRANCHES}, each once, not {printable(repr(branches), 60)}")
    if mixing != "mlp" and len(chosen) < len(BRANCHES):
        raise BcdzooError(f"branches={printable(branches, 60)} is of MLP blocks, which mixing={mixing} has none of")
    if mixing == "conv":
        return [spatial_half(channels, 1, quantizers)]
    if mixing == "token":
        return [token_block(channels, _SIDE, quantizers) for _ in range(3)]
    return [MLPBlock(channels, quantizers, [name for name in BRANCHES if name in chosen]) for _ in range(3)]


def token_block(channels: int, side: int, quantizers: Quantizers) -> nn.Module:
    """RSign → binary token mixing → BN → + shortcut → RPReLU; (N, channels, side, side) to the same."""
    sign, mixing = quantizers.activation(channels), TokenMixing(side, quantizers)
    return BinaryUnit(sign, mixing, channels, RPReLU(channels))


def mlp_group(
    channels: int, quantizers: Quantizers, mixing: str = "mlp", branches: str = ALL_BRANCHES
) -> nn.Sequential:
    """Three MLP blocks and a point-wise block: the operations of one convolutional block of 1024 channels at 7×7.

    The arguments are those of :func:`mixing_blocks`.
    """
    blocks = mixing_blocks(channels, quantizers, mixing, branches)
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


def bcdnet_a(
    num_classes: int = 1000, step: int = 2, mlp_groups: int = 3, mixing: str = "mlp", branches: str = ALL_BRANCHES
) -> nn.Module:
    """BCDNet-A: ReActNet-A with its last three same-cost blocks replaced by nine MLP blocks and three point-wise ones.

    Args:
        num_classes: Number of outputs.
        step: Training step: 2, or 1 for the form with real-valued weights.
        mlp_groups: 3, or 0 to 5 for the trade-off figure's family (:func:`tradeoff_widths`).
        mixing: "mlp", or "token" or "conv" for the operations that the paper compares (:func:`mixing_blocks`).
        branches: Those of each MLP block, such as "local,short".
    """
    quantizers = of_step(step)
    blocks = mobilenet_blocks(
        tradeoff_widths(mlp_groups),
        partial(spatial_half, quantizers=quantizers),
        partial(pointwise_half, quantizers=quantizers),
    )
    return BCDNet(blocks, _mlp_stage(mlp_groups, quantizers, mixing, branches), num_classes)


def bcdnet_b(
    num_classes: int = 1000,
    step: int = 2,
    mlp_groups: int = 3,
    reduction: int = 4,
    dynamic_pointwise: bool = True,
    mixing: str = "mlp",
    branches: str = ALL_BRANCHES,
) -> nn.Module:
    """BCDNet-B: BCDNet-A with contextual dynamic embeddings in its convolutional blocks (reconstruction).

    Args:
        num_classes: Number of outputs.
        step: Training step: 2, or 1 for the form with real-valued weights.
        mlp_groups: As in :func:`bcdnet_a`.
        reduction: Reduction r of the embeddings.
        dynamic_pointwise: Whether the 1×1 convolutions have embeddings too, not the 3×3 ones alone.
        mixing: As in :func:`bcdnet_a`; the MLP stage has no embeddings, whatever it mixes by.
        branches: As in :func:`bcdnet_a`.
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
    return BCDNet(blocks, _mlp_stage(mlp_groups, quantizers, mixing, branches), num_classes)


def _mlp_stage(groups: int, quantizers: Quantizers, mixing: str, branches: str) -> nn.Sequential:
    if groups == 0 and (mixing, branches) != ("mlp", ALL_BRANCHES):
        raise BcdzooError("mlp_groups=0 has no MLP stage: mixing and branches would change nothing")
    return nn.Sequential(*(mlp_group(MOBILENET_WIDTHS[-1], quantizers, mixing, branches) for _ in range(groups)))


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


def bcdnet_a_r18(
    num_classes: int = 1000, step: int = 2, mixing: str = "mlp", branches: str = ALL_BRANCHES
) -> nn.Module:
    """BCDNet-A on ResNet-18 (reconstruction; nothing of it was published).

    ReActNet-R18 in which nine MLP blocks replace the last three binary 3×3 convolutions of stage 4: the BOPs are equal.

    Args:
        num_classes: Number of outputs.
        step: As in :func:`bcdnet_a`, like the others.
        mixing: "conv" is ReActNet-R18 itself.
        branches: Those of each MLP block.
    """
    quantizers = of_step(step)
    return _with_mlp_blocks(partial(react_residual, quantizers=quantizers), quantizers, num_classes, mixing, branches)


def bcdnet_b_r18(
    num_classes: int = 1000,
    step: int = 2,
    reduction: int = 4,
    mixing: str = "mlp",
    branches: str = ALL_BRANCHES,
) -> nn.Module:
    """BCDNet-B on ResNet-18 (reconstruction): BCDNet-A's, with dynamic embeddings in its binary convolutions."""
    quantizers = of_step(step)

    def residual(c_in: int, c_out: int, stride: int, shortcut: nn.Module | None) -> nn.Module:
        return _dynamic_unit(c_in, c_out, 3, stride, shortcut, quantizers, reduction)

    return _with_mlp_blocks(residual, quantizers, num_classes, mixing, branches)


def _with_mlp_blocks(
    residual: Residual, quantizers: Quantizers, num_classes: int, mixing: str, branches: str
) -> nn.Module:
    net = BinaryResNet(residual, (4, 4, 4, 1), num_classes)
    thrice = (mixing_blocks(512, quantizers, mixing, branches) for _ in range(3))
    net.stages.append(nn.Sequential(*chain.from_iterable(thrice)))
    return net
