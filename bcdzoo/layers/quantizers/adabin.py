"""AdaBin's weight quantizer (Tu et al., ECCV 2022)."""

from torch import Tensor

from bcdzoo.layers.quantizers.base import WeightQuantizer
from bcdzoo.layers.quantizers.irnet import decaying_sign

_TEMPERATURE = 0.1


class CentredWeight(WeightQuantizer):
    """The signs of centred weights, scaled by the standard deviation of each output channel (equations 8 and 9).

    The mean itself is added by the convolution. Backward: as IR-Net's sign at its first temperature, of the centred
    weights in units of the standard deviation, and through the standard deviation.
    """

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        centred = weight - weight.mean(dim=(1, 2, 3), keepdim=True)
        scale = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
        return decaying_sign(centred / scale, _TEMPERATURE), scale.flatten()
