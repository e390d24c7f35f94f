"""IR-Net's quantizers (Qin et al., CVPR 2020): balanced weights and the error decay estimator."""

from typing import Any

import torch
from torch import Tensor, nn

from bcdzoo.layers.quantizers.base import Scheduled, WeightQuantizer
from bcdzoo.layers.quantizers.sign import sign

T_MIN, T_MAX = 0.1, 10.0
"""Temperature at the start and the end of training."""


class _DecayingSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, t: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.t = t
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        k = max(1 / ctx.t, 1)
        return grad * (k * ctx.t * (1 - torch.tanh(ctx.t * x) ** 2)), None


def decaying_sign(x: Tensor, t: float) -> Tensor:
    """Sign with the derivative of ``k·tanh(t·x)``, k = max(1/t, 1) (IR-Net, section 3.3); ±1, the shape of ``x``."""
    result: Tensor = _DecayingSign.apply(x, t)
    return result


class _Decaying(Scheduled):
    """The estimator's temperature t: from :data:`T_MIN`, where it is nearly the identity, to :data:`T_MAX`, a step."""

    t = T_MIN

    def set_progress(self, progress: float) -> None:
        self.t = T_MIN * (T_MAX / T_MIN) ** progress


class DecayingEstimator(nn.Module, _Decaying):
    """:func:`decaying_sign` of an activation, any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return decaying_sign(x, self.t)


def standardized(weight: Tensor) -> Tensor:
    """Weights of each output channel with mean 0 and standard deviation 1 (unbiased); (c_out, c_in, k, k)."""
    centred = weight - weight.mean(dim=(1, 2, 3), keepdim=True)
    return centred / centred.std(dim=(1, 2, 3), keepdim=True)


class BalancedWeight(WeightQuantizer, _Decaying):
    """Libra parameter binarization (section 3.2): signs of standardized weights, scaled by a power of two.

    The scale of an output channel is ``2^round(log2(mean|Ŵ|))`` of its standardized weights, a bit shift; it is held
    constant in the backward pass, which goes through the standardization.
    """

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        balanced = standardized(weight)
        scale = torch.exp2(balanced.detach().abs().mean(dim=(1, 2, 3)).log2().round())
        return decaying_sign(balanced, self.t), scale
