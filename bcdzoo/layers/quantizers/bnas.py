"""BNAS' quantizer of weights (Kim et al., ECCV 2020): XNOR-Net's, with a gradient of its own."""

from typing import Any

import torch
from torch import Tensor

from bcdzoo.layers.quantizers.base import WeightQuantizer
from bcdzoo.layers.quantizers.sign import sign


class _RescaledSign(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> tuple[Tensor, Tensor]:
        clipped = (weight - weight.mean(dim=1, keepdim=True)).clamp(-1, 1)
        signs, scale = sign(clipped), clipped.abs().mean(dim=(1, 2, 3), keepdim=True)
        ctx.save_for_backward(signs, scale)
        ctx.mark_non_differentiable(scale)
        return signs, scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> Tensor:
        signs, scale = ctx.saved_tensors
        n, c_in = signs[0].numel(), signs.shape[1]
        of_scaled = torch.where(scale > 0, grad / scale, 0)  # the convolution multiplied its gradient by the scale
        of_scale = (of_scaled * signs).mean(dim=(1, 2, 3), keepdim=True)
        of_weight: Tensor = (scale * of_scaled + of_scale * signs) * (n * (1 - 1 / c_in))
        return of_weight


class RescaledXnorWeight(WeightQuantizer):
    """Sign and mean(|W|) of each output channel, of weights centred over the input channels and clipped to [-1, 1].

    Backward is the derivative of the scaled sign, that of the scale among it, times n·(1 - 1/c_in), n being the weights
    of an output channel. Clipped weights learn as well: in the authors' code they are replaced by what they are clipped
    to before every use, and centring is that factor.
    """

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        signs, scale = _RescaledSign.apply(weight)
        return signs, scale.flatten()
