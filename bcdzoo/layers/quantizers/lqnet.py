"""LQ-Net's quantizers (Zhang et al., ECCV 2018): levels are sums of a learned basis, ``Σ v_i·b_i``.

The basis is no parameter. In training every forward pass solves for the basis that fits best what it has just encoded
(the paper's QEM algorithm, one step), and the basis is the moving average of these solutions, with the bias of its
start taken out: the first solution replaces the initial basis.
"""

from typing import Any

import torch
from torch import Tensor, nn

from bcdzoo.layers.lowering import LevelsValue, Lowering, Value
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizers.base import Levels, WeightQuantizer
from bcdzoo.layers.quantizers.sign import sign

MOMENTUM = 0.9
REGULARIZATION = 1e-4
"""Pulls the solution towards the old basis, which alone determines bits that were never used."""

QUARTILE = 0.6745
"""Third quartile of the normal distribution, from which the bases start."""


class _MovingBasis(nn.Module):
    """Holds the basis and the number of its updates."""

    basis: Tensor
    updates: Tensor

    def _start(self, basis: Tensor) -> None:
        self.register_buffer("basis", basis)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def _move(self, solution: Tensor) -> None:
        self.updates += 1
        rate = (1 - MOMENTUM) / (1 - MOMENTUM**self.updates)
        self.basis += rate.to(solution.dtype) * (solution - self.basis)


class _StraightThroughBasisSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, basis: Tensor) -> Tensor:
        ctx.save_for_backward(basis)
        return sign(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (basis,) = ctx.saved_tensors
        return grad / basis[:, None, None, None], None


class LearnedBasisWeight(WeightQuantizer, _MovingBasis):
    """1-bit weights: ±v, one v for each output channel.

    Backward is the straight-through estimator of ``v·sign(W)``, without a range.

    Args:
        shape: Shape of the kernel, (c_out, c_in, k, k).
    """

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        super().__init__()
        c_out, _, k, _ = shape
        self._start(torch.full((c_out,), QUARTILE * (2 / (k * k * c_out)) ** 0.5))

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        basis = self.basis.clone()  # the update must not change what is saved for the backward pass
        if self.training:
            self._update(weight.detach().flatten(1))
        return _StraightThroughBasisSign.apply(weight, basis), basis

    def _update(self, weight: Tensor) -> None:
        self._move((weight.abs().sum(1) + REGULARIZATION * self.basis) / (weight.shape[1] + REGULARIZATION))


class _Encode(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, basis: Tensor) -> Tensor:
        ctx.save_for_backward(x, basis)
        return encode(x, basis)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x, basis = ctx.saved_tensors
        # The gradient of bit i is v_i times that of the level: the level's by projection on the basis.
        of_level = torch.einsum("b...,b->...", grad, basis) / basis.square().sum()
        return of_level * (x <= basis.sum()), None


def encode(x: Tensor, basis: Tensor) -> Tensor:
    """Bits of the level nearest to each element; between two levels the lower one.

    Args:
        x: Any shape.
        basis: Basis v, (K,).

    Returns:
        0 or 1, (K, ...): ``Σ v_i·bit_i`` is the nearest level.
    """
    k = len(basis)
    codes = (torch.arange(2**k, device=x.device)[:, None] >> torch.arange(k, device=x.device)) & 1
    levels, order = (codes.to(x.dtype) @ basis).sort()
    index = torch.zeros_like(x, dtype=torch.long)
    for threshold in (levels[1:] + levels[:-1]) / 2:
        index += x > threshold
    return codes.to(x.dtype)[order][index].movedim(-1, 0)


class LearnedBasisActivation(_MovingBasis):
    """Activations of K bits on the basis v: the nearest of the 2^K sums of some of the v_i.

    Backward: 1 up to the largest level, 0 above it.

    Args:
        bits: K.

    Shape:
        (N, C, H, W) to :class:`Levels` of K bases, each a bit.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self._start(QUARTILE * 2 / (2**bits - 1) * 2.0 ** torch.arange(bits))

    def forward(self, x: Tensor) -> Levels:
        basis = self.basis.clone()
        bits = _Encode.apply(x, basis)
        if self.training:
            self._update(x.detach().flatten(), bits.detach().flatten(1))
        return Levels(bits, basis)

    def _update(self, x: Tensor, bits: Tensor) -> None:
        moments = bits @ bits.t() + REGULARIZATION * torch.eye(len(bits), dtype=x.dtype, device=x.device)
        self._move(torch.linalg.solve(moments, bits @ x + REGULARIZATION * self.basis))

    def lower(self, plan: Lowering, x: Value) -> LevelsValue:
        return LevelsValue(plan.add("encode", x=x, basis=self.basis), self.basis)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Levels) -> OpCounts:
        return {"activation": inputs[0].numel()}
