"""BinaryViT (Le and Li, CVPR Workshops 2023), shaped as the authors' code: transformer blocks in a pyramid of maps.

Tokens are the pixels of maps, and a linear layer of tokens is a 1×1 convolution. Queries, keys, values, projections and
both layers of the perceptron are 1-bit, and so are attention's two products. Real-valued are the first patch embedding
and the classifier, and in the second form the other three patch embeddings.
"""

from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise

from torch import Tensor, nn

from bcdzoo.layers.activation import SubtractingRPReLU
from bcdzoo.layers.attention import Affine, BinaryAttention, ChannelPool, PositionEmbedding, Repeat, Upsample
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.quantizers.binaryvit import CentredSignWeight
from bcdzoo.layers.quantizers.sign import RSign
from bcdzoo.layers.unit import BinaryUnit
from bcdzoo.models.trunks import linear, pooled

WIDTHS = (64, 128, 256, 512)
DEPTHS = (3, 4, 8, 4)
HIDDEN = (512, 1024, 1024, 2048)
"""Channels between the two layers of the perceptron."""

REDUCTIONS = (8, 4, 1, 1)
"""How many times smaller, in height and width, the map of keys and values is."""

HEADS = (1, 2, 4, 8)
"""Attention heads, of 64 channels each."""

SIDES = (56, 28, 14, 7)
"""Height and width of each stage's map."""


def binary_linear(c_in: int, c_out: int, shortcut: nn.Module | None = None) -> BinaryUnit:
    """Sign with a shift → 1-bit linear layer of each pixel → BN → + shortcut → RPReLU; (N, c_in, H, W)."""
    conv = LowBitConv2d(c_in, c_out, 1, quantizer=CentredSignWeight())
    return BinaryUnit(RSign(c_in), conv, c_out, SubtractingRPReLU(c_out), shortcut)


class SelfAttention(nn.Module):
    """Attention → BN → + queries + keys + values → RPReLU; (N, channels, H, W) to the same.

    Args:
        channels: Channels.
        heads: Attention heads.
        reduction: Keys and values are computed from a map that is so many times smaller.
    """

    def __init__(self, channels: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (binary_linear(channels, channels) for _ in range(3))
        self.reduce: nn.Module = nn.Identity()
        self.upsample: nn.Module = nn.Identity()
        if reduction > 1:
            layers = OrderedDict(pool=nn.AvgPool2d(reduction), unit=binary_linear(channels, channels))
            self.reduce, self.upsample = nn.Sequential(layers), Upsample(reduction)
        self.attention = BinaryAttention(channels, heads)
        self.bn = nn.BatchNorm2d(channels)
        self.activation = SubtractingRPReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        query, reduced = self.query(x), self.reduce(x)
        key, value = self.key(reduced), self.value(reduced)
        context = self.bn(self.attention(query, key, value))
        out: Tensor = self.activation(context + query + self.upsample(key + value))
        return out


class Block(nn.Module):
    """A transformer block: attention, and a perceptron beside means of rows and columns of each pixel's neighbours.

    Args:
        channels: Channels.
        hidden: Channels between the perceptron's layers.
        heads: Attention heads.
        reduction: As of :class:`SelfAttention`.

    Shape:
        (N, channels, H, W) to the same.
    """

    def __init__(self, channels: int, hidden: int, heads: int, reduction: int) -> None:
        super().__init__()
        ratio = hidden // channels
        self.norm_attention = nn.BatchNorm2d(channels)
        self.attend = SelfAttention(channels, heads, reduction)
        self.project = nn.Sequential(binary_linear(channels, channels), Affine(channels, 0.1))
        self.norm_mlp = nn.BatchNorm2d(channels)
        self.mlp = nn.Sequential(
            binary_linear(channels, hidden, Repeat(ratio)),
            binary_linear(hidden, channels, ChannelPool(ratio)),
            Affine(channels, 0.1),
        )
        windows = (3, 1), (1, 3), (5, 1), (1, 5)
        self.means = nn.ModuleList(
            nn.Sequential(nn.AvgPool2d((rows, columns), 1, (rows // 2, columns // 2)), Affine(channels, 0.0))
            for rows, columns in windows
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.project(self.attend(self.norm_attention(x))) + x
        normalized = self.norm_mlp(x)
        out: Tensor = self.mlp(normalized) + x
        for mean in self.means:
            out = out + mean(normalized)
        return out


class PatchEmbedding(nn.Sequential):
    """Layers that turn patches of a map into its pixels, or those of an image."""


def binary_embedding(c_in: int, c_out: int) -> nn.Module:
    """BN → sign → 1-bit 2×2 of stride 2 → BN → + 2×2 means, twice → RPReLU."""
    conv = LowBitConv2d(c_in, c_out, 2, 2, padding=0)
    shortcut = nn.Sequential(nn.AvgPool2d(2), Repeat(c_out // c_in))
    unit = BinaryUnit(RSign(c_in), conv, c_out, SubtractingRPReLU(c_out), shortcut)
    return PatchEmbedding(OrderedDict(norm=nn.BatchNorm2d(c_in), unit=unit))


def real_embedding(c_in: int, c_out: int) -> nn.Module:
    """BN → real-valued 2×2 of stride 2 → BN."""
    conv = nn.Conv2d(c_in, c_out, 2, 2, bias=False)
    return PatchEmbedding(OrderedDict(norm=nn.BatchNorm2d(c_in), conv=conv, bn=nn.BatchNorm2d(c_out)))


class BinaryViT(nn.Module):
    """Four stages of patch embedding, positions and blocks; BN, global average pooling and a linear classifier.

    Args:
        embedding: Builds a patch embedding, from input and output channels; of all stages but the first.
        num_classes: Number of outputs.

    Shape:
        (N, 3, 224, 224) to (N, num_classes), float32.
    """

    def __init__(self, embedding: Callable[[int, int], nn.Module], num_classes: int) -> None:
        super().__init__()
        patches: list[nn.Module] = [
            PatchEmbedding(OrderedDict(conv=nn.Conv2d(3, WIDTHS[0], 4, 4), bn=nn.BatchNorm2d(WIDTHS[0]))),
            *(embedding(c_in, c_out) for c_in, c_out in pairwise(WIDTHS)),
        ]
        self.stages = nn.Sequential()
        for patch, width, depth, hidden, heads, reduction, side in zip(
            patches, WIDTHS, DEPTHS, HIDDEN, HEADS, REDUCTIONS, SIDES, strict=True
        ):
            blocks = nn.Sequential(*(Block(width, hidden, heads, reduction) for _ in range(depth)))
            layers = OrderedDict(patch=patch, position=PositionEmbedding(width, side), blocks=blocks)
            self.stages.append(nn.Sequential(layers))
        self.bn = nn.BatchNorm2d(WIDTHS[-1])
        self.fc = linear(WIDTHS[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(pooled(self.bn(self.stages(x))))
        return out


def binaryvit(num_classes: int = 1000) -> nn.Module:
    """BinaryViT; all that follows the first patch embedding is 1-bit, but for the classifier."""
    return BinaryViT(binary_embedding, num_classes)


def binaryvit_real_embeddings(num_classes: int = 1000) -> nn.Module:
    """The same with real-valued patch embeddings, the authors' ``--some-fp``."""
    return BinaryViT(real_embedding, num_classes)
