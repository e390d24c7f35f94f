"""FDA-BNN's sign: the gradient of a sine series and of a noise adaptation module (Xu et al., NeurIPS 2021, section 2).

Within a period the sign is the square wave, whose Fourier series is ``s(t) = 4/π Σ sin((2i+1)ωt)/(2i+1)``. Forward is
the sign; backward is the derivative of the series' first terms, i = 0..n (equation 10), plus that of ``alpha·e(t)``, a
small learned network that stands for the terms left out (equations 13 to 17).

Reconstruction, since no code of the training was published: ω = 1, so that the series is the sign on (-π, π); the
vectors the noise module works on are the channels of one position, for activations and weights alike; forward is the
sign alone, as in algorithm 1 (section 2.3 can also be read as adding ``alpha·e`` there); alpha falls from 1 to 0, and
n rises from 9 to 18, in proportion to the training done.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.quantizers.base import Scheduled, WeightQuantizer
from bcdzoo.layers.quantizers.sign import sign, straight_through

TERMS = 9
"""n at the start of training; it then grows to twice as many (section 3.2)."""

REDUCTION = 64
"""k of the noise module: its hidden layer has 1/k of the channels."""

SHORTCUT = 0.1
"""a of the noise module's shortcut ``a·sin(t)``."""


def sine_series(t: Tensor, terms: int = TERMS, omega: float = 1.0) -> Tensor:
    """``4/π Σ sin((2i+1)ωt)/(2i+1)`` for i = 0..``terms`` (equation 9); any shape."""
    total = torch.zeros_like(t)
    for odd in range(1, 2 * terms + 2, 2):
        total += torch.sin(odd * omega * t) / odd
    return total * (4 / math.pi)


class _FourierSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, t: Tensor, terms: int, omega: float) -> Tensor:
        ctx.save_for_backward(t)
        ctx.terms, ctx.omega = terms, omega
        return sign(t)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (t,) = ctx.saved_tensors
        total = torch.zeros_like(t)
        for odd in range(1, 2 * ctx.terms + 2, 2):
            total += torch.cos(odd * ctx.omega * t)
        return grad * total * (4 * ctx.omega / math.pi), None, None


def fourier_sign(t: Tensor, terms: int = TERMS, omega: float = 1.0) -> Tensor:
    """Sign with the derivative of :func:`sine_series`, ``4ω/π Σ cos((2i+1)ωt)`` (equation 10).

    Args:
        t: Any shape, floating point.
        terms: Number n of terms.
        omega: ω; the series is the sign for t between -π/ω and π/ω.

    Returns:
        ±1, the shape and dtype of ``t``.
    """
    result: Tensor = _FourierSign.apply(t, terms, omega)
    return result


class NoiseAdaptation(nn.Module):
    """``e(t) = relu(t·W1)·W2 + a·sin(t)`` on the channel vectors of a map (equation 13); (N, C, H, W) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(channels // REDUCTION, 1)
        self.reduce = nn.Conv2d(channels, hidden, 1, bias=False)
        self.expand = nn.Conv2d(hidden, channels, 1, bias=False)

    def forward(self, t: Tensor) -> Tensor:
        out: Tensor = self.expand(F.relu(self.reduce(t))) + SHORTCUT * torch.sin(t)
        return out


class FourierEstimator(nn.Module, Scheduled):
    """The sign with FDA-BNN's gradient; (N, C, H, W) to ±1 of the same shape.

    In evaluation it is the sign and nothing else: the noise module shapes gradients in training only.

    Attributes:
        terms: Number n of terms of the sine series.
        alpha: Weight of the noise module's gradient.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.noise = NoiseAdaptation(channels)
        self.set_progress(0)

    def set_progress(self, progress: float) -> None:
        self.terms = TERMS + round(TERMS * progress)
        self.alpha = 1 - progress

    def forward(self, x: Tensor) -> Tensor:
        binary = fourier_sign(x, self.terms)
        if not self.training:
            return binary
        noise = self.alpha * self.noise(x)
        return binary + straight_through(torch.zeros_like(x), noise)


class FourierSignWeight(WeightQuantizer):
    """Sign of the weights with FDA-BNN's gradient, and mean(|W|) of each output channel, held constant."""

    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.sign = FourierEstimator(c_in)

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self.sign(weight), weight.detach().abs().mean(dim=(1, 2, 3))
