"""The sign, forward and backward: of activations and of weights.

``sign(0) = +1`` everywhere in this zoo: a 1-bit machine has no zero. (``torch.sign`` gives 0 there, and so do most
authors' training codes; on real inputs a zero before the sign almost never occurs.)
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from bcdzoo.layers.lowering import Lowering, Value, constant
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizers.base import WeightQuantizer

Estimator = Callable[[Tensor], Tensor]
"""±1 forward, the derivative of something smoother backward; any shape."""


def sign(x: Tensor) -> Tensor:
    """-1 where x < 0, +1 elsewhere (also at ±0 and NaN); the shape and dtype of ``x``, no gradient."""
    return torch.sign(x).add_(0.5).sign_()  # 0.5 maps 0 to +1 and keeps ±1, without a boolean mask


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """``value``, exactly, with the gradient of ``surrogate``.

    Args:
        value: Result of the forward pass; its own gradient is ignored.
        surrogate: Finite differentiable function of the same inputs, with the same shape.

    Returns:
        The shape and dtype of ``value``.
    """
    return value.detach() + (surrogate - surrogate.detach())


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
    propagation"). The polynomial itself is never computed, so inference only computes the sign.

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
        threshold: Magnitude at which the gradient ends.

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
    return scaled_sign(weight, scale), scale


def scaled_sign(weight: Tensor, scale: Tensor) -> Tensor:
    """Sign of weights whose sums are scaled afterwards; backward as in :func:`sign_weight`.

    Args:
        weight: Any shape.
        scale: Scale, which broadcasts to it.
    """
    result: Tensor = _WeightSign.apply(weight, scale)
    return result


class Sign(nn.Module):
    """``sign(x)``, any shape.

    Args:
        estimator: Computes it and its gradient; Bi-Real's polynomial if omitted.
    """

    bias: Tensor | None

    def __init__(self, estimator: Estimator = sign_activation) -> None:
        super().__init__()
        self.estimator = estimator
        self.register_parameter("bias", None)

    def forward(self, x: Tensor) -> Tensor:
        return self.estimator(x)

    def lower(self, plan: Lowering, x: Value) -> Value:
        # x + bias rounds to 0 only where it is 0: the comparison with -bias is exact
        return plan.add("binarize", x=x, threshold=constant(0.0) if self.bias is None else -self.bias)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"sign": output.numel()}


class RSign(Sign):
    """``sign(x + bias)`` with one learnable bias per channel (ReActNet, section 4.2); (N, C, H, W).

    Args:
        channels: C.
        estimator: As in :class:`Sign`.
    """

    bias: Tensor
    shifts = ("bias",)
    """Parameters that move a whole channel: some recipes decay them like weights."""

    def __init__(self, channels: int, estimator: Estimator = sign_activation) -> None:
        super().__init__(estimator)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return self.estimator(x + self.bias[:, None, None])


def clipped_sign(threshold: float = 1.0) -> Sign:
    """A sign with the straight-through estimator inside (-threshold, threshold)."""
    return Sign(partial(sign_straight_through, threshold=threshold))


class SignWeight(WeightQuantizer):
    """The sign and mean(|W|) of each output channel (:func:`sign_weight`)."""

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        signs, scale = sign_weight(weight)
        return signs, scale.flatten()


class ClippedSignWeight(WeightQuantizer):
    """The sign of the weights with the scale 1, and the derivative of :func:`clipped_sign`.

    As in the codes of Real-to-Binary Net (threshold 1) and MeliusNet (1.3): batch normalization or a gate behind the
    convolution absorbs a scale.
    """

    def __init__(self, threshold: float = 1.0) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return sign_straight_through(weight, self.threshold), torch.ones_like(weight[:, 0, 0, 0])
