"""The weights' quantizers of RBONN (Xu et al., ECCV 2022) and ReBNN (Xu et al., AAAI 2023), as in their codes."""

from typing import Any

import torch
from torch import Tensor, nn

from bcdzoo.layers.quantizers.base import WeightQuantizer
from bcdzoo.layers.quantizers.sign import sign

STEP = 0.02
"""Constant that the learned scale of a channel is multiplied by."""

SPARSE = 0.6
"""Share of a layer's channels that RBONN's recurrent term leaves alone, less a rounding."""


class _ReconstructedSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, alpha: Tensor, quantizer: "ReconstructedWeight") -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(weight, alpha)
        ctx.quantizer = quantizer
        return sign(weight), STEP * alpha.flatten()

    @staticmethod
    def backward(ctx: Any, grad_sign: Tensor, _: Tensor) -> tuple[Tensor, Tensor, None]:
        weight, alpha = ctx.saved_tensors
        gamma = ctx.quantizer.gamma
        grad = torch.where(alpha > 0, grad_sign / (STEP * alpha), 0)  # the convolution multiplied it by the scale
        step = STEP * sign(weight)
        error = weight - alpha * step
        of_weight = gamma * error + alpha * grad
        of_alpha = (grad * weight - gamma * error * step).sum(dim=(1, 2, 3), keepdim=True)
        ctx.quantizer.note(of_weight)
        return of_weight, of_alpha, None


class ReconstructedWeight(WeightQuantizer):
    """The sign of the weights, and :data:`STEP` times the magnitude of a learned scale of each output channel.

    Backward is no estimator of the sign. With g the gradient of the scaled weight, α the magnitude of the scale, and
    the reconstruction ``e = w - α·STEP·sign(w)``, the weight gets ``α·g + γ·e`` and α the channel's sum of
    ``g·w - γ·e·STEP·sign(w)``: γ weighs the loss of the reconstruction.

    Args:
        channels: Output channels.
        gamma: γ.
    """

    def __init__(self, channels: int, gamma: float) -> None:
        super().__init__()
        self.gamma = gamma
        self.scale = nn.Parameter(torch.randn(channels, 1, 1, 1))

    def note(self, gradient: Tensor) -> None:
        """Take note of the weights' gradient; nothing by default."""

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = _ReconstructedSign.apply(weight, self.scale.abs(), self)
        return found


class RecurrentWeight(ReconstructedWeight):
    """RBONN's: in training, ``w - u·G`` is quantized in place of w, with a learned u of each output channel.

    G is the weights' gradient of the update before, in the channels that :func:`backtracked` selects.

    Attributes:
        before: Gradient of the weights in the latest backward pass; no part of the state dict.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, gamma=1e-4)
        self.u = nn.Parameter(torch.full((channels, 1, 1, 1), 0.2))
        self.before: Tensor | None = None

    def note(self, gradient: Tensor) -> None:
        self.before = gradient

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        if self.training and self.before is not None:
            weight = weight - self.u * (self.before * backtracked(self.scale))
        return super().forward(weight)


def backtracked(scale: Tensor) -> Tensor:
    """1 for the channels whose weights RBONN's recurrent term changes, else 0; the shape of ``scale``.

    The paper means the channels of the smallest scales. The authors' code, and so this, compares the numbers of the
    channels, sorted by their scales, with 40 % of their count, as if these were ranks: that is another selection.
    """
    order = scale.detach().abs().argsort(dim=0)
    return (order < int(len(scale) * (1 - SPARSE))).to(scale.dtype)
