"""A&B BNN's quantizers (Ma et al., CVPR 2024): no batch normalization, hence standardized weights and a masked sign."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from bcdzoo.layers.lowering import Lowering, Value
from bcdzoo.layers.quantizers.base import WeightQuantizer
from bcdzoo.layers.quantizers.sign import RSign, sign, sign_weight

_EPSILON = 1e-5
_STEEPNESS = 3.0


def standardized(weight: Tensor) -> Tensor:
    """Weights of each output channel with mean 0 and variance 1 / fan-in; (c_out, c_in, k, k)."""
    deviation, mean = torch.std_mean(weight, dim=(1, 2, 3), keepdim=True, unbiased=False)
    return (weight - mean) / (deviation + _EPSILON) / math.sqrt(weight[0].numel())


class StandardizedWeight(WeightQuantizer):
    """Standardized weights, real-valued, with a learned gain: those of training step 1.

    Args:
        c_out: Output channels of the convolution.
        factor: Factor of the convolution's output.
    """

    w_bits = 32

    def __init__(self, c_out: int, factor: float = 1.0) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(c_out, 1, 1, 1))
        self.factor = factor

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return standardized(weight), self.gain.flatten() * self.factor


class StandardizedSignWeight(StandardizedWeight):
    """Their signs and mean(|W|), as in ReActNet, with the same gain."""

    w_bits = 1

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        signs, scale = sign_weight(standardized(weight))
        return signs, scale.flatten() * self.gain.flatten() * self.factor


class _SigmoidSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        rising = torch.sigmoid(_STEEPNESS * x)
        return grad * (2 * _STEEPNESS * rising * (1 - rising))


def sigmoid_sign(x: Tensor) -> Tensor:
    """Sign with the derivative of ``2·sigmoid(3x)``; ±1, the shape of ``x``."""
    result: Tensor = _SigmoidSign.apply(x)
    return result


class MaskedSign(RSign):
    """``sign(beta·x + bias)``: the mask beta brings the map's variance to 1, and does nothing to a sign.

    So it only scales the gradient, and the thresholds, which are ``-bias / beta``; (N, C, H, W).

    Args:
        channels: C.
        variance: Variance of the map that is expected.
    """

    def __init__(self, channels: int, variance: float) -> None:
        super().__init__(channels, sigmoid_sign)
        self.beta = 1 / math.sqrt(variance)

    def forward(self, x: Tensor) -> Tensor:
        return self.estimator((x + (self.bias / self.beta)[:, None, None]) * self.beta)

    def lower(self, plan: Lowering, x: Value) -> Value:
        return plan.add("binarize", x=x, threshold=-(self.bias / self.beta))
