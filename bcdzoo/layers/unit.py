"""The residual unit every 1-bit network of this zoo is built of, and its parts."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.binary_conv import Accumulate
from bcdzoo.layers.dynamic import DynamicEmbedding
from bcdzoo.layers.lowering import Lowering, Value
from bcdzoo.layers.metadata import OpCounts


class BinaryUnit(nn.Module):
    """``activation(BN(inner(conv(sign(x)))) + shortcut(x))`` (Bi-Real Net, figure 2; ReActNet, figure 5).

    Args:
        sign: Binarizes the input.
        conv: Binary convolution, including its padding.
        channels: Number of output channels.
        activation: Follows the addition.
        shortcut: Module that brings the input to the output's shape.
        inner: Activation between convolution and normalization.
    """

    def __init__(
        self,
        sign: nn.Module,
        conv: nn.Module,
        channels: int,
        activation: nn.Module | None = None,
        shortcut: nn.Module | None = None,
        inner: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.sign = sign
        self.conv = conv
        self.inner = inner or nn.Identity()
        self.bn = nn.BatchNorm2d(channels)
        self.shortcut = shortcut or nn.Identity()
        self.activation = activation or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.activation(self.bn(self.inner(self.conv(self.sign(x)))).add_(self.shortcut(x)))
        return out


class HalvingPool(nn.AvgPool2d):
    """2×2 average pooling; an odd map's last row and column are averaged apart, to match a stride-2 convolution."""

    def __init__(self) -> None:
        super().__init__(2, ceil_mode=True)


class Duplicate(nn.Module):
    """Shortcut of a convolution that doubles the channels: the map twice; (N, C, H, W) to (N, 2C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, x], dim=1)


class DynamicConv(nn.Module):
    """A binary convolution with BCDNet-B's contextual embedding: ``conv(sign(x - alpha)) + beta``.

    Args:
        conv: Binary convolution.
        embedding: Computes alpha and beta from the image; it also binarizes, so the unit's own sign is the identity.
    """

    def __init__(self, conv: nn.Module, embedding: DynamicEmbedding) -> None:
        super().__init__()
        self.embedding = embedding
        self.conv = conv
        self.accumulate = Accumulate()

    def forward(self, x: Tensor) -> Tensor:
        binary, beta = self.embedding(x)
        out: Tensor = self.accumulate([self.conv(binary), beta])
        return out


class AveragedHeads(nn.Module):
    """Two linear classifiers, the second trained by distillation, whose logits are averaged (BCDNet's released code).

    The average of two linear maps is one linear map, so one is computed: that of the mean weights. The dagger
    convention counts this one, the full convention both.

    Args:
        c_in: Features.
        num_classes: Number of outputs.

    Shape:
        (N, c_in) to (N, num_classes), float32.
    """

    def __init__(self, c_in: int, num_classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(c_in, num_classes)
        self.fc_dist = nn.Linear(c_in, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, (self.fc.weight + self.fc_dist.weight) / 2, (self.fc.bias + self.fc_dist.bias) / 2)

    def lower(self, plan: Lowering, x: Value) -> Value:
        weight, bias = (self.fc.weight + self.fc_dist.weight) / 2, (self.fc.bias + self.fc_dist.bias) / 2
        return plan.add("linear", x=x, weight=weight, bias=bias)

    def separately(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the classifier that learns the labels, and of that which imitates a teacher."""
        return self.fc(features), self.fc_dist(features)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        macs = output.numel() * self.fc.in_features
        return {"mac": macs, "distillation_head_mac": macs}
