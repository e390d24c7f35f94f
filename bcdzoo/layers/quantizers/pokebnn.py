"""PokeBNN's quantizers (Zhang et al., CVPR 2022), which are AQT's: everything is clipped to a bound and then rounded.

The bound of a weight is the largest of its output channel. That of a 1-bit activation is fixed; those of the others are
an average of each input channel's largest magnitudes, taken once in training and kept from then on. Rounding has the
derivative 1, clipping its own, and no gradient goes through a bound.
"""

import torch
from torch import Tensor, nn

from bcdzoo.layers.lowering import Lowering, Value, constant
from bcdzoo.layers.quantizers.base import Scheduled, WeightQuantizer
from bcdzoo.layers.quantizers.sign import sign, straight_through

BOUND = 3.0
"""Bound of 1-bit activations, which are half of it in magnitude."""

WEIGHTS_FROM = 50 / 800
"""Share of training before which weights are not quantized: 50 of 800 epochs."""

BOUNDS_FROM = 7500 / 124_800
"""Share of training after which the bounds are taken: 7,500 updates of 8,192 images."""

_TINY = 2.0**-23  # float32's epsilon, which keeps the authors from dividing by 0; in float64 too
_INSIDE = 1 - 2.0**-7  # of a bound, for what has one bit: the authors' "epsilon", so that the largest is rounded down
_HALF = (BOUND + _TINY) / 2
_RATE = 0.1  # of the averages of largest magnitudes


def _clip(x: Tensor, low: float, high: float) -> Tensor:
    """A clip whose derivative is 1/2 where x is one of the two bounds, as it is in JAX."""
    return torch.minimum(torch.maximum(x, x.new_tensor(low)), x.new_tensor(high))


def _floor(x: Tensor) -> Tensor:
    return straight_through(x.detach().floor(), x)


def bounded_sign(x: Tensor) -> Tensor:
    """±1 for ± half of :data:`BOUND`, with the gradient of a clip to :data:`BOUND`; any shape."""
    if not torch.is_grad_enabled():
        return sign(x)
    limit = 2 * _HALF * _INSIDE
    return straight_through(sign(x.detach()), x.clamp(-limit, limit) / _HALF)


class BoundedWeight(WeightQuantizer, Scheduled):
    """Weights in steps that reach the largest of their output channel; a 1-bit one is ± half of it.

    In training they are real-valued before :data:`WEIGHTS_FROM`. The scale of 1-bit weights contains that of the 1-bit
    activations that they meet (:func:`bounded_sign`).

    Args:
        bits: Bits of a weight.
    """

    def __init__(self, bits: int = 1) -> None:
        super().__init__()
        self.w_bits = bits
        self.set_progress(1)

    def set_progress(self, progress: float) -> None:
        self.is_due = progress >= WEIGHTS_FROM

    def latent(self, shape: tuple[int, int, int, int]) -> Tensor:
        deviation = (shape[1] * shape[2] * shape[3]) ** -0.5 / 0.87962566103423978  # of a normal one cut at 2, Flax's
        return nn.init.trunc_normal_(torch.empty(shape), 0, deviation, -2 * deviation, 2 * deviation)

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        of_activations = _HALF if self.w_bits == 1 else 1.0
        if self.training and not self.is_due:
            return weight, weight.new_full((len(weight),), of_activations)
        bound = weight.detach().abs().amax((1, 2, 3), keepdim=True) + _TINY
        if self.w_bits == 1:
            inside = torch.maximum(torch.minimum(weight, bound * _INSIDE), -bound * _INSIDE)
            levels = straight_through(sign(weight.detach()), inside / (bound / 2))
            return levels, bound.flatten() / 2 * of_activations
        n = 2.0 ** (self.w_bits - 1) - 1
        return _floor(_clip(weight * (n / bound), -n, n) + 0.5), bound.flatten() / n


class BoundedActivation(nn.Module, Scheduled):
    """Activations in steps that reach a bound of each channel; real-valued until these bounds are known.

    Signed ones are rounded to the nearest of -n to n steps, n = 2^(bits - 1) - 1; positive ones rounded down to one of
    2^bits steps from 0. In training the largest and smallest number of each channel that is not 0 are averaged,
    beginning at 0; after :data:`BOUNDS_FROM` the larger magnitude of the two averages becomes the bound, once.

    Args:
        channels: C.
        bits: Bits of an activation.
        positive: Whether they are not negative.

    Shape:
        (N, C, H, W) to the same, real-valued.
    """

    smallest: Tensor
    largest: Tensor
    bound: Tensor

    def __init__(self, channels: int, bits: int, positive: bool = False) -> None:
        super().__init__()
        self.bits, self.positive = bits, positive
        self.register_buffer("smallest", torch.zeros(channels))
        self.register_buffer("largest", torch.zeros(channels))
        self.register_buffer("bound", torch.full((channels,), -1.0))  # -1, as the authors have it: not known yet
        self.set_progress(0)

    def set_progress(self, progress: float) -> None:
        self.is_due = progress >= BOUNDS_FROM

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self._look_at(x.detach())
        scale = self._scale()[:, None, None]
        return torch.where((self.bound == -1).all(), x, self._levels(x * scale) * (1 / scale))

    def _scale(self) -> Tensor:
        steps = 2.0**self.bits if self.positive else 2.0 ** (self.bits - 1) - 1
        return steps / (self.bound + _TINY)

    def _levels(self, x: Tensor) -> Tensor:
        if self.positive:
            return _clip(_floor(x), 0, 2.0**self.bits - 1)
        n = 2.0 ** (self.bits - 1) - 1
        return _floor(_clip(x, -n, n) + 0.5)

    def _look_at(self, x: Tensor) -> None:
        for average, side in ((self.largest, 1), (self.smallest, -1)):
            of_batch = side * torch.where(x == 0, -torch.inf, side * x).amax((0, 2, 3))
            average += torch.where(of_batch.isfinite(), _RATE * (of_batch - average), 0)
        if self.is_due:
            bound = torch.maximum(self.largest.abs(), self.smallest.abs())
            self.bound.copy_(torch.where((self.bound == -1).all(), bound, self.bound))

    def lower(self, plan: Lowering, x: Value) -> Value:
        if bool((self.bound == -1).all()):
            return x
        scale, none = self._scale(), torch.zeros_like(self.bound)
        x = plan.add("scale_shift", x=x, alpha=scale, beta=none)
        if self.positive:
            x = plan.add("clip", x=_lower_floor(plan, x), low=0.0, high=2.0**self.bits - 1)
        else:
            n = 2.0 ** (self.bits - 1) - 1
            x = plan.add("clip", x=x, low=-n, high=n)
            x = _lower_floor(plan, plan.add("scale_shift", x=x, alpha=constant(1.0), beta=constant(0.5)))
        return plan.add("scale_shift", x=x, alpha=1 / scale, beta=none)


def _lower_floor(plan: Lowering, x: Value) -> Value:
    """Operations for the floor, exactly: a nearest whole number, and one less where that is too large."""
    one, nothing, large = constant(1.0), constant(0.0), constant(1.5 * 2.0**23)  # beside which floats are whole
    nearest = plan.add("scale_shift", x=plan.add("scale_shift", x=x, alpha=one, beta=large), alpha=one, beta=-large)
    rest = plan.add("subtract", a=x, b=nearest)
    steep = plan.add("scale_shift", x=rest, alpha=constant(2.0**127), beta=nothing)
    return plan.add("add", a=nearest, b=plan.add("clip", x=steep, low=-1.0, high=0.0))
