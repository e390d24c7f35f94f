"""The plainest pair of 1-bit quantizers: the sign, and the straight-through estimator inside a threshold; no scale.

As in the codes of Real-to-Binary Net (threshold 1) and MeliusNet (1.3). Where batch normalization follows, or a gate, a
scale of the weights would be absorbed.
"""

import torch
from torch import Tensor, nn

from bcdzoo.layers.binarize import sign_straight_through
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizer import WeightQuantizer


class ClippedSign(nn.Module):
    """``sign(x)``, any shape; derivative 1 inside (-threshold, threshold) and 0 elsewhere."""

    def __init__(self, threshold: float = 1.0) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        return sign_straight_through(x, self.threshold)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"sign": output.numel()}


class ClippedSignWeight(WeightQuantizer):
    """The sign of the weights with the scale 1, and the derivative of :class:`ClippedSign`."""

    def __init__(self, threshold: float = 1.0) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return sign_straight_through(weight, self.threshold), torch.ones_like(weight[:, 0, 0, 0])
