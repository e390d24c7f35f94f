"""Fixed-point inputs, as FPGAs take them."""

from torch import Tensor, nn

from bcdzoo.layers.lowering import LevelsValue, Lowering, Value, constant
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizers.base import Levels
from bcdzoo.layers.quantizers.dorefa import round_straight_through


class FixedPointInput(nn.Module):
    """Images in [-1, 1] as integers from 0 to 2^bits - 1: ``round(x·2^(bits - 1))``, which saturates, moved up.

    The levels are those of ``x + 1``; the layer behind has the difference in its thresholds.

    Args:
        bits: Of a number.

    Shape:
        (N, C, H, W) to :class:`Levels` of one basis.
    """

    def __init__(self, bits: int = 8) -> None:
        super().__init__()
        self.offset = 2 ** (bits - 1)

    def forward(self, x: Tensor) -> Levels:
        levels = round_straight_through(x * self.offset).clamp(-self.offset, self.offset - 1) + self.offset
        return Levels(levels[None], x.new_full((1,), 1 / self.offset))

    def lower(self, plan: Lowering, x: Value) -> LevelsValue:
        low, high = -1.0, (self.offset - 1) / self.offset  # powers of two scale exactly: clip and product may swap
        steps = {"low": low, "high": high, "step": float(self.offset), "divide": 0, "offset": self.offset}
        return LevelsValue(plan.add("quantize", x=x, bits=self.offset.bit_length(), **steps), constant(1 / self.offset))

    def op_counts(self, inputs: tuple[Tensor, ...], output: Levels) -> OpCounts:
        return {}  # the image's own numbers
