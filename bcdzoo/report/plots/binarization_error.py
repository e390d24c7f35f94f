"""How much of the weights is lost by their sign: the branches of each MLP block (the poster's last figure)."""

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.quantizers.sign import sign_weight
from bcdzoo.report.plots.style import SERIES, new_figure, styled


@styled
def binarization_error(model: nn.Module, title: str) -> Figure:
    """Draw the relative error ``‖W − α·sign(W)‖² / ‖W‖²`` of each branch over the MLP blocks.

    Args:
        model: With latent weights.
        title: Name of the weights.

    Raises:
        BcdzooError: The network has no MLP blocks, or its weights are stored as ±α, without error.
    """
    errors = branch_errors(model)
    figure, axes = new_figure(6.5, 3.4)
    places = list(range(1, len(errors) + 1))
    branches = next(iter(errors.values()))
    for branch, (color, marker) in zip(branches, SERIES, strict=False):
        axes.plot(places, [block[branch] for block in errors.values()], color=color, marker=marker, label=branch)
    axes.set_xticks(places)
    axes.set_xlabel("MLP block")
    axes.set_ylabel("‖W − α·sign(W)‖² / ‖W‖²")
    axes.set_title(title, loc="left", fontsize=9)
    axes.margins(y=0.15)
    figure.legend(title="branch", loc="outside right upper")
    return figure


def branch_errors(model: nn.Module) -> dict[str, dict[str, float]]:
    """The relative error of each MLP block's branches, by the block's path.

    Raises:
        BcdzooError: As for :func:`binarization_error`.
    """
    modules: dict[str, Any] = dict(model.named_modules())
    blocks = {path: module for path, module in modules.items() if isinstance(getattr(module, "branches", None), tuple)}
    if not blocks:
        raise BcdzooError("this network has no MLP blocks: use bcdnet-a, bcdnet-b, their R18 variants or bcdnet-tiny")
    errors = {
        path: {branch: relative_error(getattr(block, branch).weight) for branch in block.branches}
        for path, block in blocks.items()
    }
    if not any(error for block in errors.values() for error in block.values()):
        raise BcdzooError("these weights are stored as ±α, without their latent weights")
    return errors


def relative_error(weight: torch.Tensor) -> float:
    """``‖W − α·sign(W)‖² / ‖W‖²`` of latent weights, (c_out, c_in, k, k); α = mean(|W|) of each output channel."""
    latent = weight.detach().double()
    signs, alpha = sign_weight(latent)
    return float((latent - alpha * signs).square().sum() / latent.square().sum())
