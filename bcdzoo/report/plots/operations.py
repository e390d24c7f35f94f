"""The three binary operations that the paper compares (its first figure), on the maps of BCDNet-A's last stages."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from torch import nn

from bcdzoo.layers.binary_conv import LowBitConv2d, Quantizers
from bcdzoo.models.bcdnet import MLPBlock, token_block
from bcdzoo.models.reactnet import spatial_half
from bcdzoo.report.plots.style import BLUE, GREEN, VERMILION, new_figure, styled

MAPS = ((7, 1024), (14, 512))
"""Side and channels of the maps."""

OPERATIONS: dict[str, Callable[[int, int], nn.Module]] = {
    "3×3 convolution": lambda channels, side: spatial_half(channels, 1, Quantizers()),
    "token-mixing MLP": lambda channels, side: token_block(channels, side, Quantizers()),
    "long-short-range MLP": lambda channels, side: MLPBlock(channels, Quantizers()),
}
_FEW = 4  # channels are enough for all directions of the samples: which positions are seen does not depend on more
_STYLES = ((BLUE, ""), (VERMILION, "////"), (GREEN, "...."))


class Operation(NamedTuple):
    """A binary operation on a map.

    Attributes:
        name: One of :data:`OPERATIONS`.
        side: Height and width of the map.
        channels: Channels of the map.
        bops: Its binary operations.
        params: Its binary weights.
        seen: Positions of the input on which the output in the middle depends, (side, side).
    """

    name: str
    side: int
    channels: int
    bops: int
    params: int
    seen: npt.NDArray[np.bool_]


def operation(name: str, side: int, channels: int) -> Operation:
    """Count an operation, and find its receptive field from its gradient."""
    with torch.device("meta"):  # counting needs shapes alone
        block = OPERATIONS[name](channels, side).eval()
        convolutions = [module for module in block.modules() if isinstance(module, LowBitConv2d)]
        bops: list[int] = []
        for conv in convolutions:
            conv.register_forward_hook(lambda conv, given, out: bops.append(conv.op_counts(given, out)["binary_mac"]))
        block(torch.zeros(1, channels, side, side))
    params = sum(conv.weight.numel() for conv in convolutions)
    return Operation(
        name, side, channels, sum(bops), params, receptive_field(OPERATIONS[name](_FEW, side).eval(), side)
    )


def receptive_field(block: nn.Module, side: int) -> npt.NDArray[np.bool_]:
    """Find the positions of the input, of ``_FEW`` channels, on which the output in the middle depends."""
    x = torch.zeros(1, _FEW, side, side, requires_grad=True)  # where the sign's surrogate has its full slope
    block(x)[0, 0, side // 2, side // 2].backward()  # of one channel, so that weights of both signs cannot cancel out
    assert x.grad is not None
    seen: npt.NDArray[np.bool_] = x.grad[0].abs().sum(0).numpy() > 0
    return seen


@styled
def operations() -> Figure:
    """Draw the binary operations, weights and receptive fields of the three."""
    found = [[operation(name, side, channels) for name in OPERATIONS] for side, channels in MAPS]
    figure, axes = new_figure(6.5, 6.6, nrows=3, ncols=6, height_ratios=(1.15, 1, 1))
    grid = axes[0, 0].get_gridspec()
    for one in axes.flat:
        one.remove()
    _bars(figure.add_subplot(grid[0, :3]), "BOPs (1e6)", [[each.bops / 1e6 for each in row] for row in found])
    _bars(
        figure.add_subplot(grid[0, 3:]), "binary weights (1e6)", [[each.params / 1e6 for each in row] for row in found]
    )
    for line, row in enumerate(found, 1):
        for column, each in enumerate(row):
            _field(figure.add_subplot(grid[line, 2 * column : 2 * column + 2]), each, _STYLES[column][0])
    handles = figure.axes[0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper center", ncols=3, fontsize=8, title="computed, of the layers of BCDNet")
    return figure


def _bars(axes: Axes, what: str, values: list[list[float]]) -> None:
    for number, (name, (color, hatch)) in enumerate(zip(OPERATIONS, _STYLES, strict=True)):
        places = [group + 0.28 * (number - 1) for group in range(len(MAPS))]
        heights = [group[number] for group in values]
        axes.bar(places, heights, 0.26, color=color, hatch=hatch, edgecolor="white", linewidth=0, label=name)
        for place, height in zip(places, heights, strict=True):
            axes.annotate(f"{height:.3g}", (place, height), (0, 2), textcoords="offset points", ha="center", fontsize=7)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.margins(y=0.18)
    axes.set_xticks(range(len(MAPS)), [f"{side}×{side}, {channels} channels" for side, channels in MAPS], fontsize=8)
    axes.set_title(what, loc="left", fontsize=9)
    axes.grid(axis="x", visible=False)


def _field(axes: Axes, each: Operation, color: str) -> None:
    axes.pcolormesh(each.seen, cmap=ListedColormap(["#f2f2f2", color]), vmin=0, vmax=1, edgecolor="white", linewidth=1)
    middle = each.side // 2 + 0.5
    axes.plot(middle, middle, color="white", marker="o", markersize=3)
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.axis("off")
    axes.set_title(f"{each.name}\nsees {each.seen.sum()} of {each.side}×{each.side} positions", fontsize=8)
