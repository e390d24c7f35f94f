"""Real-to-Binary Net on ResNet-18 (Martinez et al., ICLR 2020).

Block order and gate are those of larq's implementation, to which the authors' README points. What
makes the network accurate is its training, in stages from a real-valued teacher by attention matching, of which nothing
remains in the final network. Step 1 is the stage with binary activations and real-valued weights.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.binary_conv import Quantizers, of_step
from bcdzoo.layers.lowering import Lowering, Value
from bcdzoo.layers.quantizers.sign import ClippedSignWeight, clipped_sign
from bcdzoo.models.trunks import BinaryResNet

REDUCTION = 8


class ChannelGate(nn.Module):
    """Data-driven scale of each output channel of a binary convolution (section 4.3; figure 1, right).

    ``sigmoid(W2·relu(W1·GAP(a)))`` of the convolution's input before its binarization; no biases.

    Args:
        c_in: Channels of the convolution's input.
        c_out: Channels of the convolution's output.
        hidden: Entries between W1 and W2; c_in / 8 if omitted.

    Shape:
        (N, c_in, H, W) to (N, c_out, 1, 1), in (0, 1).
    """

    def __init__(self, c_in: int, c_out: int, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or c_in // REDUCTION
        self.reduce = nn.Linear(c_in, hidden, bias=False)
        self.expand = nn.Linear(hidden, c_out, bias=False)

    def forward(self, a: Tensor) -> Tensor:
        if self.training or torch.compiler.is_compiling():  # a graph per image would take minutes to compile
            context = F.relu(self.reduce(F.adaptive_avg_pool2d(a, 1).flatten(1)))
            scale: Tensor = self.expand(context).sigmoid()
        else:  # double precision, so that later signs do not depend on the number of images summed at once
            means = torch.cat([F.adaptive_avg_pool2d(image.double(), 1) for image in a.split(1)]).flatten(1)
            context = F.relu(F.linear(means, self.reduce.weight.double()))
            scale = F.linear(context, self.expand.weight.double()).sigmoid().to(a.dtype)
        return scale[:, :, None, None]

    def lower(self, plan: Lowering, a: Value) -> Value:
        weights = {"first": self.reduce.weight, "second": self.expand.weight}
        return plan.add("context", x=a, **weights, hidden="relu", output="sigmoid")


class GatedUnit(nn.Module):
    """``PReLU(conv(sign(BN(x))) · gate(BN(x))) + shortcut(x)`` (half of the block in figure 1, left).

    Args:
        c_in: Input channels.
        c_out: Output channels.
        stride: Stride of the binary 3×3.
        shortcut: Module that brings the input to the output's shape.
        quantizers: Quantizers of the weights.
        padding: Word in :data:`bcdzoo.layers.padding.PADDINGS`.

    Shape:
        (N, c_in, H, W) to (N, c_out, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        stride: int,
        shortcut: nn.Module | None,
        quantizers: Quantizers,
        padding: str,
    ) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(c_in)
        self.sign = clipped_sign()
        self.conv = quantizers.conv(c_in, c_out, 3, stride, padding=padding)
        self.gate = ChannelGate(c_in, c_out)
        self.activation = nn.PReLU(c_out)
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        a = self.bn(x)
        scaled = self.conv(self.sign(a)) * self.gate(a)
        out: Tensor = self.activation(scaled) + self.shortcut(x)
        return out


def real_to_binary_r18(
    num_classes: int = 1000, step: int = 2, padding: str = "symmetric", bn_eps: float = 1e-5
) -> nn.Module:
    """Real-to-Binary Net.

    Args:
        num_classes: Number of outputs.
        step: Training step: 2, or 1 for the form with real-valued weights.
        padding: "symmetric" (reconstruction: the ResNet the paper starts from), or "tensorflow" for larq's weights.
        bn_eps: Epsilon of batch normalization; 1e-3 in Keras, and so in larq.
    """
    quantizers = of_step(step, ClippedSignWeight)
    return BinaryResNet(
        lambda c_in, c_out, stride, shortcut: GatedUnit(c_in, c_out, stride, shortcut, quantizers, padding),
        (4, 4, 4, 4),
        num_classes,
        padding,
        bn_eps,
        stem_activation=nn.PReLU(64),
    )
