"""Networks with constants as after training."""

import torch
from torch import nn

from bcdzoo.layers.quantizers.pokebnn import BoundedActivation


def unsettle(network: nn.Module, seed: int) -> nn.Module:
    """Constants as after training, none of them 0 or 1, some negative."""
    draw = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(generator=draw)
            module.running_var.uniform_(0.2, 3, generator=draw)
        if isinstance(module, BoundedActivation):
            module.bound.uniform_(0.5, 3, generator=draw)
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn(parameter.shape, generator=draw) * 0.7)
    return network.eval()
