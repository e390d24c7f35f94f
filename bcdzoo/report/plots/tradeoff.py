"""The trade-off between convolutional and MLP blocks: BCDNet-A's family, 14/0 to 9/15 (the poster's figure)."""

from collections.abc import Iterable
from typing import Any

from matplotlib.figure import Figure

from bcdzoo.evaluation.stats import wilson
from bcdzoo.ops.count import OpsReport, count_ops
from bcdzoo.report.counts import forms_of
from bcdzoo.report.plots.style import BLACK, BLUE, SKY, VERMILION, new_figure, styled
from bcdzoo.report.tables import best_of, is_strict, own_form, rows

MODEL = "bcdnet-a"
GROUPS = range(6)
"""Groups of the MLP stage; each has three MLP blocks and takes the place of one of ReActNet-A's 13 blocks."""

_OWN = forms_of(MODEL)[0]["mlp_groups"]


@styled
def tradeoff(results: Iterable[dict[str, Any]], convention: str = "full") -> Figure:
    """Draw the operations of the family's members, and the accuracies that are known.

    Published in numbers is BCDNet-A's (11/9) alone; measured ones are evaluations of weights that were built with
    ``mlp_groups``.

    Args:
        results: Evaluation runs (:func:`bcdzoo.evaluation.store.read_results`).
        convention: "full" or "dagger".
    """
    reports = [count_ops(MODEL, convention, mlp_groups=groups) for groups in GROUPS]
    figure, (upper, lower) = new_figure(6.5, 5.2, nrows=2, sharex=True, height_ratios=(2, 3))
    _draw_accuracies(upper, results)
    bottom = [0.0] * len(reports)
    for label, values, color, hatch in _parts(reports):
        lower.bar(GROUPS, values, 0.6, bottom, color=color, hatch=hatch, edgecolor="white", linewidth=0, label=label)
        bottom = [before + value for before, value in zip(bottom, values, strict=True)]
    for groups, height in zip(GROUPS, bottom, strict=True):
        lower.annotate(f"{height:.3f}", (groups, height), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    lower.set_xticks(GROUPS, [f"{14 - groups}/{3 * groups}" for groups in GROUPS])
    lower.set_xlabel("convolutional blocks, the stem among them / MLP blocks")
    lower.set_ylabel(f"OPs (1e8), {convention}")
    lower.grid(axis="x", visible=False)
    lower.set_ylim(0, 1.15 * max(bottom))
    figure.legend(*lower.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    return figure


def _parts(reports: list[OpsReport]) -> list[tuple[str, list[float], str, str]]:
    def binary(report: OpsReport, mlp: bool) -> float:
        return sum(layer.bops for layer in report.layers if layer.name.startswith("mlp.") == mlp) / 64e8

    return [
        ("BOPs/64, convolutional blocks", [binary(report, mlp=False) for report in reports], BLUE, ""),
        ("BOPs/64, MLP stage", [binary(report, mlp=True) for report in reports], SKY, "////"),
        ("FLOPs", [report.flops / 1e8 for report in reports], VERMILION, "...."),
    ]


def _draw_accuracies(axes: Any, results: Iterable[dict[str, Any]]) -> None:
    published = next(row["top1"] for row in rows((1,), ()) if row["model"] == MODEL)
    axes.plot([_OWN], [float(published)], color=BLUE, marker="o", markerfacecolor="white", linestyle="none")
    axes.annotate(f"{published}", (_OWN, float(published)), (6, 3), textcoords="offset points", fontsize=8)
    measured = measured_members(results)
    for groups, result in measured.items():
        low, high = wilson(result["hits"]["top1"], result["n"])
        errors = [[result["top1"] - low], [high - result["top1"]]]
        axes.errorbar(groups, result["top1"], errors, color=BLACK, marker="s", capsize=2, linestyle="none")
        axes.annotate(
            f"{result['top1']:.1f}", (groups, result["top1"]), (6, -9), textcoords="offset points", fontsize=8
        )
    axes.set_ylabel("ImageNet top-1 (%)")
    axes.margins(y=0.3)
    if not measured:
        axes.set_ylim(float(published) - 1, float(published) + 1)
    what = "filled: measured by bcdzoo" if measured else "nothing measured by bcdzoo yet"
    axes.set_title(f"open: published (only BCDNet-A's); {what}", loc="left", fontsize=9)


def measured_members(results: Iterable[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """The strict ImageNet run on the most images of each member, by its groups; the latest of equals."""
    runs = (result for result in results if result["model"] == MODEL and result["dataset"] == "imagenet")
    members = (result for result in runs if is_strict(result) and own_form(result, "mlp_groups"))
    return best_of(members, lambda result: result.get("build", {}).get("mlp_groups", _OWN))
