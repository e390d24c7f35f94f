"""Fixed-point inputs, as FPGAs take them."""

from torch import Tensor, nn

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

    def op_counts(self, inputs: tuple[Tensor, ...], output: Levels) -> OpCounts:
        return {}  # the image's own numbers
