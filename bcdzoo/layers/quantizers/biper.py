"""BiPer's weights (Vargas et al., CVPR 2024): a square wave of the latent weights, and a sine in its place backward."""

import math

import torch
from torch import Tensor, nn

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.quantizers.base import WeightQuantizer
from bcdzoo.layers.quantizers.sign import sign_straight_through

FREQUENCY = 20.0
"""ω of the commands in the authors' README; their evaluation takes 30 if nothing is said."""


class WaveWeight(WeightQuantizer):
    """``sign(sin(ω·w))`` with a learned scale; the gradient is that of ``sin(ω·w)``.

    Args:
        c_out: Output channels of the convolution.
        frequency: ω, which is no weight: what reads a file must be told.
        step: 1 for the sine in place of its sign, real-valued weights on binary activations (the authors' stage 1).

    Raises:
        BcdzooError: The frequency is not a positive number, or there is no such step.
    """

    def __init__(self, c_out: int, frequency: float = FREQUENCY, step: int = 2) -> None:
        super().__init__()
        if not 0 < frequency < math.inf:
            raise BcdzooError(f"freq must be a positive number, not {frequency!r}")
        if step not in (1, 2):
            raise BcdzooError(f"step must be 1 (real-valued weights) or 2 (binary weights), not {step!r}")
        self.frequency, self.w_bits = frequency, 32 if step == 1 else 1
        self.alpha = nn.Parameter(torch.rand(c_out, 1, 1))

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        wave = (self.frequency * weight).sin()
        return wave if self.w_bits == 32 else sign_straight_through(wave, math.inf), self.alpha.flatten()

    def extra_repr(self) -> str:
        return f"frequency={self.frequency:g}"
