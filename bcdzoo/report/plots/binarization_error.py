"""How much of the weights is lost by their sign: the branches of each MLP block (the poster's last figure)."""

from typing import Any

import torch
from matplotlib.figure import Figure
from torch import nn

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.quantizers.sign import sign_weight
from bcdzoo.report.digitised import digitised
from bcdzoo.report.plots.style import DIGITISED, SERIES, new_figure, styled
from bcdzoo.text import printable


@styled
def binarization_error(model: nn.Module, title: str, poster: bool = False) -> Figure:
    """Draw the relative error ``‖W − α·sign(W)‖² / ‖W‖²`` of each branch over the MLP blocks.

    Args:
        model: With latent weights.
        title: Name of the weights.
        poster: Whether to draw the poster's bars beside it, which are of BCDNet-A; what they are the error of, it does
            not say.

    Raises:
        BcdzooError: The network has no MLP blocks, or its weights are stored as ±α, without error.
    """
    errors = branch_errors(model)
    figure, axes = new_figure(6.5, 3.7)
    for branch, (color, marker) in zip(("local", "short", "long"), SERIES, strict=False):
        values = [(place, block[branch]) for place, block in enumerate(errors.values(), 1) if branch in block]
        if values:
            axes.plot(*zip(*values, strict=True), color=color, marker=marker, label=branch)
        if poster:
            bars = digitised()["binarization_error"]["branches"][branch]
            axes.plot(range(1, 1 + len(bars)), bars, color=color, label=f"{branch}, poster", **DIGITISED)
    most = max(len(errors), *(len(line.get_xdata()) for line in axes.lines))
    axes.set_xticks(range(1, 1 + most))
    axes.set_xlabel("MLP block")
    axes.set_ylabel("‖W − α·sign(W)‖² / ‖W‖², α = mean(|W|)")
    note = "\n×: digitised from the poster, which does not define its error" if poster else ""
    axes.set_title(f"filled: computed from {printable(title, 70)}{note}", loc="left", fontsize=9)
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
