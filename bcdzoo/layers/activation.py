"""ReActNet's activation (ReActNet, section 4.2)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.lowering import Lowering, Value
from bcdzoo.layers.metadata import OpCounts


class RPReLU(nn.Module):
    """``PReLU(x + shift_in) + shift_out``; both shifts and the slope are learnable per channel; (N, C, H, W)."""

    shifts = ("shift_in", "shift_out")

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift_in = nn.Parameter(torch.zeros(channels))
        self.slope = nn.Parameter(torch.full((channels,), 0.25))
        self.shift_out = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.prelu(x + self.shift_in[:, None, None], self.slope).add_(self.shift_out[:, None, None])

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add("prelu", x=x, slope=self.slope, shift_in=self.shift_in, shift_out=self.shift_out)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"rprelu": output.numel()}
