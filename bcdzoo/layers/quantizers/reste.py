"""ReSTE's sign (Wu et al., ICCV 2023): the gradient of a power function that approaches the sign in training."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from bcdzoo.layers.quantizers.base import Scheduled, WeightQuantizer
from bcdzoo.layers.quantizers.sign import sign

O_END = 3.0
"""Power o at the end of training; it starts at 1, where the function is the identity."""

LIMIT, NEAR = 1.5, 0.1
"""Magnitudes t, beyond which there is no gradient, and m, below which it is that of a line through 0 and m."""


class _PowerSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, o: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.o = o
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        magnitude = x.abs()
        slope = magnitude.clamp(min=NEAR).pow(1 / ctx.o - 1) / ctx.o
        slope = torch.where(magnitude <= NEAR, NEAR ** (1 / ctx.o) / NEAR, slope)
        return grad * torch.where(magnitude <= LIMIT, slope, 0), None


def power_sign(x: Tensor, o: float) -> Tensor:
    """Sign with the derivative of ``sign(x)·|x|^(1/o)`` (ReSTE, section 3.3); ±1, the shape of ``x``.

    The derivative is infinite at 0: for |x| up to :data:`NEAR` it is the slope of the line to that point. Beyond
    :data:`LIMIT` it is 0.

    Args:
        x: Any shape, floating point.
        o: Power; 1 is the straight-through estimator.
    """
    result: Tensor = _PowerSign.apply(x, o)
    return result


class _Rectified(Scheduled):
    """The estimator's power o, from 1 to :data:`O_END` along a quarter of a cosine."""

    o = 1.0

    def set_progress(self, progress: float) -> None:
        self.o = 1 + (O_END - 1) * (1 - math.cos(progress * math.pi / 2))


class PowerEstimator(nn.Module, _Rectified):
    """:func:`power_sign` of an activation, any shape."""

    def forward(self, x: Tensor) -> Tensor:
        return power_sign(x, self.o)


class PowerSignWeight(WeightQuantizer, _Rectified):
    """The sign of the weights and one scale, mean(|W|) of the whole layer, through which the gradient goes too."""

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return power_sign(weight, self.o), weight.abs().mean().expand(len(weight))
