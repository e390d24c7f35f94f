"""Top-1 accuracy over operations: the paper's first figure, under any convention."""

import fnmatch
from collections.abc import Iterable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.stats import wilson
from bcdzoo.report.plots.labels import Label, place_labels
from bcdzoo.report.plots.style import SERIES, new_figure, styled
from bcdzoo.report.sheets import Row
from bcdzoo.report.tables import IMAGENET, UNITS, rows

FAMILIES = ("meliusnet-*", "reactnet-?", "bcdnet-?")
"""Those of the paper's figure."""


@styled
def accuracy_ops(
    results: Iterable[dict[str, Any]], patterns: Sequence[str] = FAMILIES, convention: str = "full"
) -> Figure:
    """Draw networks by their counted operations (1e8) and their accuracy (percent), published and measured.

    Args:
        results: Evaluation runs (:func:`bcdzoo.evaluation.store.read_results`).
        patterns: Names of networks, as shell patterns; networks of one family are joined by a line.
        convention: "full" or "dagger".

    Raises:
        BcdzooError: No network that matches has an accuracy on ImageNet.
    """
    families = _families(rows(IMAGENET, results), patterns)
    if not families:
        raise BcdzooError(f"no network with an accuracy on ImageNet matches {' '.join(patterns)}: see `bcdzoo list`")
    key = "computed_ops" + "_dagger" * (convention == "dagger")
    figure, axes = new_figure(height=4 + 0.12 * max(0, sum(map(len, families)) - 8))
    labels: list[Label] = []
    for number, members in enumerate(families):
        color, marker = SERIES[number % len(SERIES)]
        members = sorted(members, key=lambda row: row[key])
        points = [(row[key] / float(UNITS["ops"]), float(row["top1"])) for row in members if row["top1"] is not None]
        if points:
            axes.plot(*zip(*points, strict=True), color=color, marker=marker, markerfacecolor="white")
        measured = [row for row in members if row["measured_top1"] is not None]
        _draw_measured(axes, measured, key, color, marker)
        for row in members:
            y = float(row["top1"] if row["top1"] is not None else row["measured_top1"])
            labels.append(Label(row["method"], row[key] / float(UNITS["ops"]), y, color))
    axes.set_xlabel(f"OPs (1e8) = FLOPs + BOPs/64, {convention} convention")
    axes.set_ylabel("ImageNet top-1 (%)")
    axes.margins(x=0.12, y=0.12)
    axes.set_title(_title(families), loc="left", fontsize=9)
    place_labels(axes, labels)
    return figure


def _families(table_rows: Iterable[Row], patterns: Sequence[str]) -> list[list[Row]]:
    """Rows with operations and an accuracy, one of each network; together those of one design on one trunk."""
    families: dict[tuple[str, bool], dict[str, Row]] = {}
    for row in table_rows:
        name: str = row["model"]
        known = row["computed_ops"] is not None and (row["top1"] is not None or row["measured_top1"] is not None)
        if known and any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            families.setdefault((name.partition("-")[0], "-r18" in name), {}).setdefault(name, row)
    return [list(members.values()) for members in families.values()]


def _draw_measured(axes: Axes, members: Sequence[Row], key: str, color: str, marker: str) -> None:
    for row in members:
        low, high = wilson(round(row["measured_top1"] * row["measured_n"] / 100), row["measured_n"])
        top1 = row["measured_top1"]
        errors = [[top1 - low], [high - top1]]
        place = row[key] / float(UNITS["ops"])
        axes.errorbar(place, top1, errors, color=color, marker=marker, markersize=5, capsize=2, linestyle="none")


def _title(families: list[list[Row]]) -> str:
    measured = any(row["measured_top1"] is not None for members in families for row in members)
    return "open: published; " + (
        "filled, with its 95 % interval: measured by bcdzoo" if measured else "nothing measured by bcdzoo yet"
    )
