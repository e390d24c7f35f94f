"""ReBNN on ResNet-18 (Xu et al., AAAI 2023): RBONN's frame and weights, without the recurrent term."""

from functools import partial

from torch import nn

from bcdzoo.layers.quantizers.rbonn import ReconstructedWeight
from bcdzoo.models.rbonn import reconstructed_resnet18


def rebnn_r18(num_classes: int = 1000) -> nn.Module:
    """ReBNN on ReActNet's ResNet-18.

    Its code computes γ from a channel's largest gradient and the share of its weights that changed sign, and clips it
    to [1e-5, 2e-4] by two ReLUs that give 2e-4 whatever it is. So γ is 2e-4 here.
    """
    return reconstructed_resnet18(num_classes, partial(ReconstructedWeight, gamma=2e-4))
