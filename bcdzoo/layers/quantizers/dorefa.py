"""Uniform quantizers of several bits: DoReFa-Net's of weights and activations, and PACT's of activations."""

from typing import Any

import torch
from torch import Tensor, nn

from bcdzoo.layers.lowering import LevelsValue, Lowering, Value, constant
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizers.base import Levels, WeightQuantizer
from bcdzoo.layers.quantizers.sign import sign


class _Round(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.round()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def round_straight_through(x: Tensor) -> Tensor:
    """Nearest integer, halves to even, with derivative 1; the shape and dtype of ``x``."""
    result: Tensor = _Round.apply(x)
    return result


class DoReFaWeight(WeightQuantizer):
    """``2·quantize_k(tanh(W) / (2·max|tanh(W)|) + 1/2) - 1`` (DoReFa-Net, equation 9); the maximum is the layer's.

    The levels are the odd integers from -n to n, n = 2^k - 1, and the scale is 1/n. Backward: rounding has derivative
    1, all else its own, the maximum too.

    Args:
        bits: Number k of bits, 2 or more.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.w_bits = bits

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        n = 2**self.w_bits - 1
        squashed = torch.tanh(weight)
        unit = squashed / (2 * squashed.abs().max()) + 0.5
        levels = 2 * round_straight_through(unit * n) - n
        return levels, levels.new_full((len(weight),), 1 / n)


class _IdentitySign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(scale)
        return sign(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (scale,) = ctx.saved_tensors
        return torch.where(scale > 0, grad / scale, 0), None  # the convolution multiplied its gradient by the scale


class DoReFaSign(WeightQuantizer):
    """``sign(W)·mean(|W|)``, 1-bit weights with one scale for the layer (DoReFa-Net, equation 7).

    Backward: the gradient of the scaled weight, the scale held constant.
    """

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        scale = weight.detach().abs().mean()
        return _IdentitySign.apply(weight, scale), scale.expand(len(weight))


class DoReFaActivation(nn.Module):
    """``quantize_k(clip(x, 0, 1))`` (DoReFa-Net, section 2.4): levels 0 to 2^k - 1.

    Backward: 1 inside of [0, 1], 0 outside.

    Args:
        bits: Number k of bits.

    Shape:
        (N, C, H, W) to :class:`Levels` of one basis.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.steps = 2**bits - 1

    def forward(self, x: Tensor) -> Levels:
        levels = round_straight_through(x.clamp(0, 1) * self.steps)
        return Levels(levels[None], x.new_full((1,), 1 / self.steps))

    def lower(self, plan: Lowering, x: Value) -> LevelsValue:
        steps = {"low": 0.0, "high": 1.0, "step": float(self.steps), "divide": 0, "offset": 0}
        levels = plan.add("quantize", x=x, bits=self.steps.bit_length(), **steps)
        return LevelsValue(levels, constant(1 / self.steps))

    def op_counts(self, inputs: tuple[Tensor, ...], output: Levels) -> OpCounts:
        return {"activation": output.values.numel()}


class PactActivation(nn.Module):
    """``clip(x, 0, clip)`` rounded to 2^k - 1 equal steps, with a learned clip (Choi et al., PACT, 2018).

    Backward: for x, 1 inside of [0, clip] and 0 outside; for the clip, 1 where x reaches it and 0 elsewhere.

    Args:
        bits: Number k of bits.

    Shape:
        (N, C, H, W) to :class:`Levels` of one basis.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.steps = 2**bits - 1
        self.clip = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Levels:
        step = self.clip.detach() / self.steps
        levels = round_straight_through(torch.minimum(x.clamp(min=0), self.clip) / step)
        return Levels(levels[None], step.reshape(1))

    def lower(self, plan: Lowering, x: Value) -> LevelsValue:
        step = self.clip.detach() / self.steps
        steps = {"low": 0.0, "high": float(self.clip), "step": float(step), "divide": 1, "offset": 0}
        return LevelsValue(plan.add("quantize", x=x, bits=self.steps.bit_length(), **steps), step.reshape(1))

    def op_counts(self, inputs: tuple[Tensor, ...], output: Levels) -> OpCounts:
        return {"activation": output.values.numel()}
