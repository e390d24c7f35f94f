"""ReActNet's activation (ReActNet, section 4.2), and those of A&B BNN, BinaryViT and PokeBNN."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.lowering import Lowering, Value
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizers.sign import straight_through


class RPReLU(nn.Module):
    """``PReLU(x + shift_in) + shift_out``; both shifts and the slope are learnable per channel; (N, C, H, W)."""

    slope: nn.Parameter | None
    shifts = ("shift_in", "shift_out")

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift_in = nn.Parameter(torch.zeros(channels))
        self.slope = nn.Parameter(torch.full((channels,), 0.25))
        self.shift_out = nn.Parameter(torch.zeros(channels))

    def slopes(self) -> Tensor:
        """Slope of each channel below 0."""
        assert self.slope is not None
        return self.slope

    def offset(self) -> Tensor:
        """What is added to each channel first."""
        return self.shift_in

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x + self.offset()[:, None, None], self.slopes()).add_(self.shift_out[:, None, None])

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add("prelu", x=x, slope=self.slopes(), shift_in=self.offset(), shift_out=self.shift_out)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"rprelu": output.numel()}


class PowerRPReLU(RPReLU):
    """The same with slopes ``2^round(exponent)``, which shift bits; the rounding has the derivative 1 (A&B BNN)."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.slope = None
        self.exponent = nn.Parameter(torch.full((channels,), -3.0))

    def slopes(self) -> Tensor:
        return torch.exp2(straight_through(self.exponent.round(), self.exponent))


class SubtractingRPReLU(RPReLU):
    """``PReLU(x - shift_in) + shift_out``, as BinaryViT's files have it."""

    def offset(self) -> Tensor:
        return -self.shift_in


class DPReLU(nn.Module):
    """``slope·(x - bias_x) - bias_y`` with one slope below and one from there on (PokeBNN); (N, C, H, W).

    Args:
        channels: C; all four numbers are learned for each channel.
    """

    shifts = ("bias_x", "bias_y")

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias_x = nn.Parameter(torch.zeros(channels))
        self.bias_y = nn.Parameter(torch.zeros(channels))
        self.slope = nn.Parameter(torch.full((channels,), 0.25))
        self.positive = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x - self.bias_x[:, None, None]
        slope = torch.where(x >= 0, self.positive[:, None, None], self.slope[:, None, None])
        return slope * x - self.bias_y[:, None, None]

    def lower(self, plan: Lowering, x: Value) -> Value:
        shifts = {"shift_in": -self.bias_x, "shift_out": -self.bias_y}
        return plan.add("prelu", x=x, slope=self.slope, positive=self.positive, **shifts)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"rprelu": output.numel()}
