"""ReCU's quantizers (Xu et al., ICCV 2021): weights whose largest values are clamped, so that they keep learning."""

import math

import torch
from torch import Tensor, nn

from bcdzoo.layers.quantizers.base import Scheduled, WeightQuantizer
from bcdzoo.layers.quantizers.sign import sign_activation, sign_straight_through

TAU_MIN, TAU_MAX = 0.85, 0.99
"""The quantile beyond which weights are clamped, at the start and the end of training."""

_DEVIATION = 2 * math.sqrt(2)  # of the standardized weights
_EPSILON = 1e-5


class RectifiedWeight(WeightQuantizer, Scheduled):
    """Signs of standardized weights that are clamped at the quantiles τ and 1 - τ, with a learned scale.

    The quantiles are those of a Laplace distribution as wide as a layer's weights. They are constant in the backward
    pass, which is the identity inside of them and nothing beyond, and goes through the standardization. Clamping
    changes no sign.

    Args:
        c_out: Output channels of the convolution.
    """

    tau = TAU_MIN

    def __init__(self, c_out: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.rand(c_out, 1, 1))

    def set_progress(self, progress: float) -> None:
        self.tau = TAU_MIN + (TAU_MAX - TAU_MIN) * math.expm1(progress) / math.expm1(1)

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        centred = weight - weight.mean(dim=(1, 2, 3), keepdim=True)
        deviation = (centred.var(dim=(1, 2, 3), keepdim=True) + _EPSILON).sqrt()
        x = centred / (deviation / _DEVIATION)
        quantile = -math.log(2 - 2 * self.tau) * x.detach().abs().mean()
        return sign_straight_through(x.clamp(-quantile, quantile), math.inf), self.alpha.flatten()


class ScaledEstimator(nn.Module):
    """The sign of activations, with Bi-Real's gradient of each image's map in units of its standard deviation."""

    def forward(self, x: Tensor) -> Tensor:
        if self.training:  # a positive factor does not change the sign
            x = x / (x.var(dim=(1, 2, 3), keepdim=True) + _EPSILON).sqrt()
        return sign_activation(x)
