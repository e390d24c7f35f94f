"""RBNN's quantizers (Lin et al., NeurIPS 2020): weights rotated towards their signs."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bcdzoo.layers.lowering import Lowering, Value
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizers.base import Scheduled, WeightQuantizer
from bcdzoo.layers.quantizers.irnet import standardized
from bcdzoo.layers.quantizers.sign import sign

T_MIN, T_MAX = 0.01, 10.0
"""Range of the gradient's steepness t (the authors' options Tmin and Tmax)."""


class _TriangleSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, k: float, t: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.k, ctx.t = k, t
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return grad * (ctx.k * (math.sqrt(2) * ctx.t - ctx.t**2 * x.abs())).clamp(min=0), None, None


def triangle_sign(x: Tensor, k: float, t: float) -> Tensor:
    """Sign with the derivative ``k·max(√2·t - t²|x|, 0)`` (RBNN, section 3.4).

    Args:
        x: Any shape, floating point.
        k: Height of the approximated step.
        t: Steepness.

    Returns:
        ±1, the shape and dtype of ``x``.
    """
    result: Tensor = _TriangleSign.apply(x, k, t)
    return result


class _Steepening(Scheduled):
    """t grows from :data:`T_MIN` to :data:`T_MAX` in equal ratios."""

    t = T_MIN

    def set_progress(self, progress: float) -> None:
        self.t = T_MIN * (T_MAX / T_MIN) ** progress


class SteepeningEstimator(nn.Module, _Steepening):
    """Sign of each image's map in units of its standard deviation; :func:`triangle_sign` with k = 1 and t ≥ 1."""

    def forward(self, x: Tensor) -> Tensor:
        if torch.is_grad_enabled():  # a positive factor does not change the sign
            x = x / x.std(dim=(1, 2, 3), keepdim=True)
        return triangle_sign(x, 1.0, max(self.t, 1.0))


class CentredSign(nn.Module):
    """Sign of each image's map without its mean over channels and positions: ``sign(x - mean(x))``.

    RBNN's paper does not have the mean; the authors' ImageNet code does, in evaluation too, as does SiMaN's.

    Args:
        estimator: Builder of what computes it and its gradient; RBNN's if omitted.

    Shape:
        (N, C, H, W) to ±1 of the same.
    """

    def __init__(self, estimator: Callable[[], nn.Module] = SteepeningEstimator) -> None:
        super().__init__()
        self.estimator = estimator()

    def forward(self, x: Tensor) -> Tensor:
        # the mean is a threshold: double precision makes it independent of the number of images summed at once
        signs: Tensor = self.estimator(x - x.mean(dim=(1, 2, 3), keepdim=True, dtype=torch.float64).to(x.dtype))
        return signs

    def lower(self, plan: Lowering, x: Value) -> Value:
        mean = plan.add("mean", x=x, axes=(0, 1, 2), double=1)
        return plan.add("binarize", x=x, threshold=mean)  # x - mean rounds to 0 only where it is 0

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"sign": output.numel(), "global_pool": output.numel()}


class RotatedWeight(WeightQuantizer, _Steepening):
    """Signs of standardized weights that are turned towards a rotation of themselves (sections 3.2 and 3.3).

    A channel's n standardized weights are seen as an a×b matrix X, whose rotation is ``R1ᵀ·X·R2`` (a Kronecker product
    instead of an n×n matrix). The signs are of ``Ŵ + |sin(rotate)|·(rotated - Ŵ)``, ``rotate`` being a learned angle
    and ``alpha`` the learned scale of each output channel. :meth:`start_epoch` learns R1 and R2.

    Backward is :func:`triangle_sign` with k = max(1/t, 1), through the rotation too. (The authors' code cuts the
    gradient there, so that its weights get ``1 - |sin(rotate)|`` of it, which is nothing at the initial angle π/2.)

    Args:
        shape: Shape of the kernel, (c_out, c_in, k, k).
    """

    R1: Tensor
    R2: Tensor

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        super().__init__()
        c_out, n = shape[0], shape[1] * shape[2] * shape[3]
        self.a = next(a for a in range(math.isqrt(n), 0, -1) if n % a == 0)
        self.alpha = nn.Parameter(torch.empty(c_out, 1, 1))
        self.rotate = nn.Parameter(torch.full((c_out, 1, 1, 1), math.pi / 2))
        self.register_buffer("R1", _random_rotation(self.a))
        self.register_buffer("R2", _random_rotation(n // self.a))

    def latent(self, shape: tuple[int, int, int, int]) -> Tensor:
        weight = super().latent(shape)
        self.alpha.data.copy_(weight.abs().mean(dim=(1, 2, 3)).reshape(-1, 1, 1))
        return weight

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        x = standardized(weight)
        rotated = (self.R1.t() @ self._matrices(x) @ self.R2).view_as(x)
        turned = x + self.rotate.sin().abs() * (rotated - x)
        return triangle_sign(turned, max(1 / self.t, 1.0), self.t), self.alpha.flatten()

    def _matrices(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), self.a, -1)  # channels-last weights have another order

    def start_epoch(self, weight: Tensor) -> None:
        self.update_rotation(weight)

    @torch.no_grad()
    def update_rotation(self, weight: Tensor, rounds: int = 3) -> None:
        """Turn R1 and R2 so that the rotated weights come closer to their signs, by alternating optimization.

        The paper's algorithm: the signs B, then R1, then R2, each the best one for the other two, three times. The
        authors do it at the first batch of every epoch.

        Args:
            weight: Latent weights of the convolution.
            rounds: Number of rounds.
        """
        x = self._matrices(standardized(weight))
        for _ in range(rounds):
            b = sign(self.R1.t() @ x @ self.R2)
            self.R1.copy_(_nearest_rotation(torch.einsum("oik,jk,olj->li", b, self.R2, x)))
            self.R2.copy_(_nearest_rotation(torch.einsum("oij,ik,okl->jl", x, self.R1, b)))


def _random_rotation(n: int) -> Tensor:
    rotation = torch.empty(n, n)
    return rotation if rotation.is_meta else nn.init.orthogonal_(rotation)


def _nearest_rotation(matrix: Tensor) -> Tensor:
    """The orthogonal R with the largest trace(Rᵀ·matrix)."""
    u, _, vh = torch.linalg.svd(matrix)
    rotation: Tensor = u @ vh
    return rotation
