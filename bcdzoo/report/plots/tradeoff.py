"""The trade-off between convolutional and MLP blocks: BCDNet-A's family, 14/0 to 9/15 (the poster's figure)."""

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from bcdzoo.evaluation.stats import wilson
from bcdzoo.ops.conventions import find_convention
from bcdzoo.ops.count import OpsReport, count_ops
from bcdzoo.report.counts import forms_of
from bcdzoo.report.digitised import digitised
from bcdzoo.report.plots.labels import Label, place_labels
from bcdzoo.report.plots.style import BLUE, DIGITISED, ORANGE, SKY, VERMILION, new_figure, styled
from bcdzoo.report.tables import best_of, is_strict, own_form, rows

MODEL = "bcdnet-a"
GROUPS = range(6)
"""Groups of the MLP stage; each has three MLP blocks and takes the place of one of ReActNet-A's 13 blocks."""

_OWN = forms_of(MODEL)[0]["mlp_groups"]
_STEPS = ((2, "1/1", BLUE), (1, "32/1", VERMILION))
"""Steps of training, the bits of their weights and activations, and their colours."""


@styled
def tradeoff(results: Sequence[dict[str, Any]], convention: str = "full") -> Figure:
    """Draw the accuracies of the family's members, as far as they are known, and their operations.

    Published in numbers is BCDNet-A's (11/9) alone; those of all members are digitised from the poster's figure;
    measured ones are evaluations of weights that were built with ``mlp_groups``.

    Args:
        results: Evaluation runs (:func:`bcdzoo.evaluation.store.read_results`).
        convention: Counting convention, as for :func:`bcdzoo.count_ops`.
    """
    rules = find_convention(convention)
    reports = [count_ops(MODEL, rules, mlp_groups=groups) for groups in GROUPS]
    figure, (top1, top5, lower) = new_figure(6.5, 7.5, nrows=3, sharex=True, height_ratios=(3, 3, 2.4))
    bottom = [0.0] * len(reports)
    for label, values, color, hatch in _parts(reports):
        lower.bar(GROUPS, values, 0.6, bottom, color=color, hatch=hatch, edgecolor="white", linewidth=0, label=label)
        bottom = [before + value for before, value in zip(bottom, values, strict=True)]
    for groups, height in zip(GROUPS, bottom, strict=True):
        lower.annotate(f"{height:.3f}", (groups, height), (0, 2), textcoords="offset points", ha="center", fontsize=8)
    lower.set_xticks(GROUPS, digitised()["tradeoff"]["blocks"])
    lower.set_xlabel("convolutional blocks, the stem among them / MLP blocks")
    lower.set_ylabel(f"{rules.total} (1e{rules.power}), computed,\n{rules.name} convention")
    lower.grid(axis="x", visible=False)
    lower.set_ylim(0, 1.15 * max(bottom))
    figure.legend(*lower.get_legend_handles_labels(), loc="outside lower center", ncols=3, fontsize=8)
    measured = {step: measured_members(results, step) for step, _, _ in _STEPS}
    what = "filled, with its 95 % interval: measured" if any(measured.values()) else "nothing measured yet"
    top1.set_title(f"×: digitised from the poster; open: published (BCDNet-A's alone); {what}", loc="left", fontsize=8)
    labels = [_draw_accuracies(axes, top, measured) for axes, top in ((top1, "top1"), (top5, "top5"))]
    for axes, names in zip((top1, top5), labels, strict=True):
        place_labels(axes, names)  # once all is laid out
    return figure


def _parts(reports: list[OpsReport]) -> list[tuple[str, list[float], str, str]]:
    def binary(report: OpsReport, mlp: bool) -> float:
        bops = sum(layer.bops for layer in report.layers if layer.name.startswith("mlp.") == mlp)
        return bops / rules.bops_per_op / unit

    rules = reports[0].rules
    unit = float(10**rules.power)
    return [
        (f"{rules.price}, convolutional blocks", [binary(report, mlp=False) for report in reports], BLUE, ""),
        (f"{rules.price}, MLP stage", [binary(report, mlp=True) for report in reports], SKY, "////"),
        (rules.real, [report.flops / unit for report in reports], ORANGE, "...."),
    ]


def _draw_accuracies(axes: Any, top: str, measured: dict[int, dict[int, dict[str, Any]]]) -> list[Label]:
    """Draw the accuracies of one kind, and return the labels that they need."""
    labels = []
    for step, bits, color in _STEPS:
        values = digitised()["tradeoff"][top][bits]
        axes.plot(GROUPS, values, color=color, **DIGITISED)
        labels.append(Label(f"W/A {bits}", GROUPS[1], values[1], color))
        for groups, result in measured[step].items():
            low, high = wilson(result["hits"][top], result["n"])
            errors = [[result[top] - low], [high - result[top]]]
            axes.errorbar(
                groups, result[top], errors, color=color, marker="s", markersize=5, capsize=2, linestyle="none"
            )
            labels.append(Label(f"{result[top]:.1f}", groups, result[top], color))
    published = next(row[top] for row in rows((1,), ()) if row["model"] == MODEL)
    ring: Any = {
        "marker": "o",
        "markersize": 9,
        "markerfacecolor": "none",
        "zorder": 5,
    }  # the others stay visible in it
    axes.plot([_OWN], [float(published)], color=BLUE, linestyle="none", **ring)
    labels.append(Label(f"{published} published", _OWN, float(published), BLUE))
    axes.set_ylabel(f"ImageNet {'top-1' if top == 'top1' else 'top-5'} (%)")
    axes.margins(y=0.2)
    return labels


def measured_members(results: Sequence[dict[str, Any]], step: int = 2) -> dict[int, dict[str, Any]]:
    """The strict ImageNet run on the most images of each member, by its groups; the latest of equals."""
    runs = (result for result in results if result["model"] == MODEL and result["dataset"] == "imagenet")
    runs = (result for result in runs if result.get("build", {}).get("step", 2) == step)
    members = (result for result in runs if is_strict(result) and own_form(result, "mlp_groups", "step"))
    return best_of(members, lambda result: result.get("build", {}).get("mlp_groups", _OWN))
