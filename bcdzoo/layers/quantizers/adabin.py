"""AdaBin's weight quantizer (Tu et al., ECCV 2022)."""

import torch
from torch import Tensor

from bcdzoo.layers.quantizers.base import Scheduled, WeightQuantizer
from bcdzoo.layers.quantizers.irnet import decaying_sign

T_MIN, T_MAX = 1e-3, 10.0
"""Temperature at the start and the end of training, with equal ratios between."""


class CentredWeight(WeightQuantizer, Scheduled):
    """The signs of centred weights, scaled by the standard deviation of each output channel, plus their mean.

    Equations 8 and 9 of the paper; the mean is a second basis, of +1 alone. Backward: as IR-Net's sign, of the centred
    weights in units of the standard deviation, and through mean and deviation.
    """

    bases = 2
    t = T_MIN

    def set_progress(self, progress: float) -> None:
        self.t = T_MIN * (T_MAX / T_MIN) ** progress

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        mean = weight.mean(dim=(1, 2, 3), keepdim=True)
        centred = weight - mean
        scale = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        signs = decaying_sign(centred / scale, self.t)
        return torch.cat([signs, torch.ones_like(signs)]), torch.cat([scale, mean]).flatten()
