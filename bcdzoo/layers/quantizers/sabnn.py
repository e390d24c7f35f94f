"""SA-BNN's sign of weights: gradients with a coefficient for each binary state (Liu et al., AAAI 2021).

Fact: a weight of state -1 and one of state +1 have independent gradient coefficients, which suppresses frequent flips
of sign (the paper's abstract). Reconstruction, no code and no formula of it being public: the coefficients are two
learned numbers per layer that start at 1, where the layer is Bi-Real's; they are the slopes of the function whose
derivative the backward pass takes, ``q(w) = tau_plus·w`` on [0, 1] and ``tau_minus·w`` on [-1, 0), constant outside. So
a weight's gradient is its state's coefficient times that of the straight-through estimator, and the coefficients have
gradients too.
"""

import torch
from torch import Tensor, nn

from bcdzoo.layers.quantizers.base import WeightQuantizer
from bcdzoo.layers.quantizers.sign import sign, straight_through


class StateAwareSignWeight(WeightQuantizer):
    """Sign of the weights with the state-aware gradient, and mean(|W|) of each output channel, held constant.

    As in :func:`bcdzoo.layers.quantizers.sign.sign_weight` it is the gradient of the scaled weight: hence the
    division by the scale that the convolution multiplies in afterwards.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tau_plus = nn.Parameter(torch.ones(()))
        self.tau_minus = nn.Parameter(torch.ones(()))

    def forward(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        scale = weight.detach().abs().mean(dim=(1, 2, 3), keepdim=True)
        slope = torch.where(weight >= 0, self.tau_plus, self.tau_minus)
        surrogate = slope * weight.clamp(-1, 1) / scale.clamp(min=torch.finfo(scale.dtype).tiny)
        return straight_through(sign(weight.detach()), surrogate), scale.flatten()
