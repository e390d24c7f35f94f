"""SLB's quantizer (Yang et al., NeurIPS 2020): 1-bit weights searched for as a distribution over their values."""

import math

import torch
from torch import Tensor

from bcdzoo.layers.quantizers.base import Scheduled, WeightQuantizer
from bcdzoo.layers.quantizers.sign import sign

# The authors' README for ResNet-18 on ImageNet: a factor per epoch between two moments of 240 epochs.
FACTOR, EPOCHS, FIRST, LAST = 1.05, 240, 0.4, 0.9


class SearchedWeight(WeightQuantizer, Scheduled):
    """A weight is the expectation of -1 and +1 under ``softmax(temperature · logits)``; in evaluation the likelier one.

    The latent weights are the two logits of each weight, (c_out, c_in, k, k, 2). The relaxed weight is differentiable:
    there is no estimator in the backward pass. It approaches ±1 as the temperature rises; what is left of the gap is in
    the batch norms, see :func:`bcdzoo.models.slb.calibrate`. There is no scale.

    Attributes:
        temperature: 1 in the first 40 % of training, times 1.05 an epoch until 90 % of it.
    """

    temperature = 1.0

    def set_progress(self, progress: float) -> None:
        self.temperature = FACTOR ** (EPOCHS * (min(max(progress, FIRST), LAST) - FIRST))

    def latent(self, shape: tuple[int, int, int, int]) -> Tensor:
        c_out, _, k, _ = shape
        return torch.empty(*shape, 2).normal_(0, math.sqrt(2 / (c_out * k * k)))

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        if self.training:
            minus, plus = torch.softmax(self.temperature * weight, dim=-1).unbind(-1)
            values = plus - minus
        else:
            values = sign(weight[..., 1] - weight[..., 0])
        return values, values.new_ones(len(weight))
