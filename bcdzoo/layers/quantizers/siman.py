"""SiMaN's weights (Lin et al., TPAMI 2022): +1 where a weight's magnitude is above its channel's median, else -1."""

import torch
from torch import Tensor, nn

from bcdzoo.layers.quantizers.base import Scheduled, WeightQuantizer

CLIPPED = 15.0
"""Percentage of a layer's smallest, and of its largest, magnitudes that are clipped at the start of training."""

_EPSILON = 1e-5


class MagnitudeWeight(WeightQuantizer, Scheduled):
    """Whether standardized weights are large, as ±1, with a learned scale; their signs have no effect on the output.

    The paper has {0, 1} where the authors' code, and this, has ±1. What is large is found in training, at every batch,
    and kept in ``B``; evaluation reads it there, because the last step of the optimizer moves the weights once more.
    In training the latent weights themselves are centred, and their magnitudes clipped at two percentiles of the
    layer, which reach the extremes at its end. Backward is the identity to the standardized weights' magnitudes.

    Args:
        shape: Shape of the kernel, (c_out, c_in, k, k).
    """

    B: Tensor
    clipped = CLIPPED

    def __init__(self, shape: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.empty(shape[0], 1, 1))
        self.register_buffer("B", torch.empty(shape))

    def set_progress(self, progress: float) -> None:
        self.clipped = CLIPPED * (1 - progress)

    def latent(self, shape: tuple[int, int, int, int]) -> Tensor:
        weight = super().latent(shape)
        self.alpha.data.copy_(weight.abs().mean(dim=(1, 2, 3)).reshape(-1, 1, 1))
        self.B.copy_(_large(_magnitudes(weight)))
        return weight

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            weight.data.copy_(_clipped(weight.detach(), self.clipped / 100))
        magnitudes = _magnitudes(weight)
        if self.training:
            self.B.copy_(_large(magnitudes.detach()))
        return magnitudes - magnitudes.detach() + (2 * self.B - 1), self.alpha.flatten()


def _centred(weight: Tensor) -> Tensor:
    return weight - weight.mean(dim=(1, 2, 3), keepdim=True)


def _clipped(weight: Tensor, share: float) -> Tensor:
    centred = _centred(weight)
    magnitudes = centred.abs()
    low, high = torch.quantile(magnitudes.flatten(), magnitudes.new_tensor([share, 1 - share]))
    return magnitudes.clamp(low, high) * centred.sign()


def _magnitudes(weight: Tensor) -> Tensor:
    centred = _centred(weight)
    return (centred / (centred.var(dim=(1, 2, 3), keepdim=True) + _EPSILON).sqrt()).abs()


def _large(magnitudes: Tensor) -> Tensor:
    """1 above the median of each output channel (the lower one of two), else 0."""
    median = magnitudes.flatten(1).median(dim=1).values
    return (magnitudes > median[:, None, None, None]).to(magnitudes.dtype)
