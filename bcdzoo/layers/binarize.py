"""The sign, forward and backward: of activations and of weights.

``sign(0) = +1`` everywhere in this zoo: a 1-bit machine has no zero. (``torch.sign`` gives 0 there, and so do most
authors' training codes; on real inputs a zero before the sign almost never occurs.)
"""

from typing import Any

import torch
from torch import Tensor


def sign(x: Tensor) -> Tensor:
    """-1 where x < 0, +1 elsewhere (also at ±0 and NaN); the shape and dtype of ``x``, no gradient."""
    return torch.sign(x).add_(0.5).sign_()  # the half lifts 0 to +1 and leaves the side of ±1: no boolean mask needed


class _ActivationSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        return grad * (2 - 2 * x.abs()).clamp_(min=0)


def sign_activation(x: Tensor) -> Tensor:
    """Sign of an activation, with Bi-Real's piecewise polynomial as its derivative.

    Backward: 2 + 2x on [-1, 0), 2 - 2x on [0, 1), 0 elsewhere (Bi-Real Net, section 3.3; BCDNet's poster, "Backward
    propagation"). The polynomial itself is never computed, so inference pays for the sign alone.

    Args:
        x: Any shape, floating point.

    Returns:
        ±1, the shape and dtype of ``x``.
    """
    result: Tensor = _ActivationSign.apply(x)
    return result


class _StraightThroughSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: float) -> Tensor:
        ctx.save_for_backward(x)
        ctx.threshold = threshold
        return sign(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        x: Tensor = ctx.saved_tensors[0]
        return grad * (x.abs() < ctx.threshold), None


def sign_straight_through(x: Tensor, threshold: float = 1.0) -> Tensor:
    """Sign with the straight-through estimator: derivative 1 inside (-threshold, threshold), 0 elsewhere (XNOR-Net).

    Args:
        x: Any shape, floating point.
        threshold: Where the gradient ends.

    Returns:
        ±1, the shape and dtype of ``x``.
    """
    result: Tensor = _StraightThroughSign.apply(x, threshold)
    return result


class _WeightSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, scale: Tensor) -> Tensor:
        ctx.save_for_backward(weight, scale)
        return sign(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        weight, scale = ctx.saved_tensors
        inside = weight.abs() <= 1
        return torch.where(inside & (scale > 0), grad / scale, 0), None


def sign_weight(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Sign of a convolution's weights and the scale of each output channel (XNOR-Net, section 3.1).

    The convolution multiplies by the scale afterwards: sums of ±1 are exact in float32, in any order, so that the same
    image gives the same bits in any batch. Backward is the straight-through estimator of ``scale * sign(weight)``
    inside [-1, 1] with the scale held constant, as in the codes of Bi-Real Net, ReActNet and BCDNet: the gradient of
    the scaled weight itself (hence the division by the scale that the product multiplied in).

    Args:
        weight: Latent weights, (c_out, c_in, k, k).

    Returns:
        ±1 of the same shape, and mean(|weight|) of each output channel, (c_out, 1, 1, 1), without gradient.
    """
    scale = weight.detach().abs().mean(dim=(1, 2, 3), keepdim=True)
    return _WeightSign.apply(weight, scale), scale
