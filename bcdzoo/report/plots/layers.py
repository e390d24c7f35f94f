"""Where a network's operations are: binary and real-valued ones, unit by unit."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from bcdzoo.ops.conventions import MACS_AGAIN
from bcdzoo.ops.count import LayerOps, OpsReport
from bcdzoo.report.plots.style import BLUE, ORANGE, VERMILION, new_figure, styled
from bcdzoo.text import printable

_MULTIPLIES = ("mac", *MACS_AGAIN, "distillation_head_mac")


@styled
def layers(report: OpsReport) -> Figure:
    """Draw a counted network as stacked bars, one for each unit: a convolution with its neighbours.

    One unit, OPs: BOPs/64 (or the convention's number for 64), FLOPs of real-valued multiply-accumulates,
    and the other FLOPs of the report's convention.

    Args:
        report: Result of :func:`bcdzoo.count_ops`.
    """
    units = by_unit(report.layers)
    cost = report.rules
    binary = [sum(layer.bops for layer in unit) / cost.bops_per_op for unit in units.values()]
    multiplies = [
        cost.flops({kind: sum(layer.counts.get(kind, 0) for layer in unit) for kind in _MULTIPLIES})
        for unit in units.values()
    ]
    others = [sum(layer.flops for layer in unit) - macs for unit, macs in zip(units.values(), multiplies, strict=True)]
    parts: list[tuple[str, Sequence[float], str, str]] = [
        (cost.price, binary, BLUE, ""),
        (f"{cost.real}: real-valued multiply-accumulates", multiplies, VERMILION, "////"),
        (f"{cost.real}: other operations", others, ORANGE, "...."),
    ]
    figure, axes = new_figure(6.5, 1.4 + 0.17 * len(units))
    places, left = list(range(len(units))), [0.0] * len(units)
    for label, values, color, hatch in parts:
        if not any(values):
            continue
        share = 100 * sum(values) / report.ops
        axes.barh(
            places,
            [value / 1e6 for value in values],
            left=[value / 1e6 for value in left],
            color=color,
            hatch=hatch,
            edgecolor="white",
            linewidth=0,
            height=0.75,
            label=f"{label} ({share:.1f} %)",
        )
        left = [before + value for before, value in zip(left, values, strict=True)]
    axes.set_yticks(places, list(units), fontsize=7)
    axes.set_ylim(len(units) - 0.4, -0.6)
    axes.set_xlim(0, 1.03 * max(left) / 1e6)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{cost.total} (1e6) of one image, computed, {report.convention} convention")
    figure.legend(loc="outside upper left", ncols=1, fontsize=8, title=_title(report), alignment="left")
    return figure


def _title(report: OpsReport) -> str:
    totals = ", ".join(f"{short} {name}" for name, short in report.shorts(places=2))
    return f"{printable(report.model, 50)} at {report.input_size}×{report.input_size}: {totals}"


def by_unit(records: list[LayerOps]) -> dict[str, list[LayerOps]]:
    """Layers by the module that they are parts of: the parent of a layer that multiplies, and all that is inside it.

    A layer at the top of the network is a unit of its own. What belongs to none is ``(rest)``, the last, if it has
    operations.
    """
    units: dict[str, list[LayerOps]] = {}
    for layer in records:
        if layer.w_bits is not None:
            path = layer.name.rpartition(".")[0] or layer.name
            if not any(_inside(path, unit) for unit in units):
                units[path] = []
    # a unit inside another one that came later is part of it
    units = {path: [] for path in units if not any(path != other and _inside(path, other) for other in units)}
    rest: list[LayerOps] = []
    for layer in records:
        owner = next((path for path in units if _inside(layer.name, path)), None)
        (rest if owner is None else units[owner]).append(layer)
    if any(layer.bops or layer.flops for layer in rest):
        units["(rest)"] = rest
    return units


def _inside(path: str, unit: str) -> bool:
    return path == unit or path.startswith(unit + ".")
