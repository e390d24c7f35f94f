"""BinaryViT's quantizers (Le and Li, CVPR Workshops 2023): of a linear layer's weights, and of attention's."""

import torch
from torch import Tensor

from bcdzoo.layers.quantizers.base import WeightQuantizer
from bcdzoo.layers.quantizers.sign import scaled_sign, straight_through


class CentredSignWeight(WeightQuantizer):
    """Signs of an output channel's weights minus their mean, with the scale mean(|W|) of the weights as they are.

    Backward is the straight-through estimator inside [-1, 1] of the centred weights, through the centring.
    """

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        scale = weight.detach().abs().mean(dim=(1, 2, 3), keepdim=True)
        centred = weight - weight.mean(dim=(1, 2, 3), keepdim=True)
        return scaled_sign(centred, scale), scale.flatten()


def one_bit(x: Tensor, level: Tensor) -> Tensor:
    """1 where x is nearer to ``level`` than to 0, else 0, a tie among the latter (BiT, Liu et al., NeurIPS 2022).

    Backward: that of ``x / level``, in both, where it lies within [0, 1].

    Args:
        x: Any shape, of 0 or more.
        level: A number above 0, learned.
    """
    ratio = x / level
    inside = torch.where((ratio >= 0) & (ratio <= 1), ratio, ratio.detach().clamp(0, 1))
    return straight_through(inside.round(), inside)
