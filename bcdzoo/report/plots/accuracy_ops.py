"""Top-1 accuracy over operations: the paper's first figure, under any convention."""

import fnmatch
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.stats import wilson
from bcdzoo.report.plots.labels import Label, place_labels
from bcdzoo.report.plots.style import BLACK, SERIES, new_figure, styled
from bcdzoo.report.sheets import Row
from bcdzoo.report.tables import IMAGENET, UNITS, rows
from bcdzoo.text import printable

FAMILIES = ("meliusnet-*", "reactnet-?", "bcdnet-?")
"""Those of the paper's figure."""

_MOST = 200
_WIDE = 8  # from this ratio of operations on, the axis is logarithmic


@styled
def accuracy_ops(
    results: Iterable[dict[str, Any]],
    patterns: Sequence[str] = FAMILIES,
    convention: str = "full",
    own: Sequence[Row] = (),
) -> Figure:
    """Draw networks by their operations (1e8) and their accuracy (percent), published and measured.

    Args:
        results: Evaluation runs (:func:`bcdzoo.evaluation.store.read_results`).
        patterns: Names of networks, as shell patterns; networks of one family are joined by a line.
        convention: "full" or "dagger".
        own: Rows of one's own (:mod:`bcdzoo.report.own_rows`), drawn as stars; those of :func:`undrawn` are not.

    Raises:
        BcdzooError: No network that matches has an accuracy on ImageNet, or there are too many rows.
    """
    families = _families(rows(IMAGENET, results), patterns)
    if not families:
        raise BcdzooError(f"no network with an accuracy on ImageNet matches {' '.join(patterns)}: see `bcdzoo list`")
    if len(own) > _MOST:
        raise BcdzooError(f"{len(own)} rows of your own are more than a figure has room to name: at most {_MOST}")
    drawn = [row for row in own if not _lacks(row, convention)]
    everyone = [*(row for members in families for row in members), *drawn]
    figure, axes = new_figure(height=4 + 0.12 * max(0, len(everyone) - 8))
    for (color, marker), members in zip(cycle(SERIES), families, strict=False):
        _draw(axes, members, convention, color, marker, 6)
    for row in drawn:
        _draw(axes, [row], convention, BLACK, "*", 10)
    places = [_place(row, convention) for row in everyone]
    axes.margins(x=0.12, y=0.12)
    if wide := max(places) > _WIDE * min(places):
        axes.set_xscale("log")
        axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator(), major_formatter="{x:g}")
    axes.set_xlabel(f"OPs (1e8) = FLOPs + BOPs/64, {convention} convention{', logarithmic' if wide else ''}")
    axes.set_ylabel("ImageNet top-1 (%)")
    axes.set_title(_title(everyone, bool(drawn)), loc="left", fontsize=9)
    colors = [color for (color, _), members in zip(cycle(SERIES), families, strict=False) for _ in members]
    place_labels(axes, _labels(everyone, colors + [BLACK] * len(drawn), convention))
    return figure


def undrawn(own: Sequence[Row], convention: str = "full") -> list[str]:
    """Say of each of one's own rows that has no place in the figure what it lacks, in a sentence."""
    lacks = [(row["method"], _lacks(row, convention)) for row in own]
    return [f"{printable(method, 100)} is not in the figure: {what}" for method, what in lacks if what]


def _lacks(row: Row, convention: str) -> str:
    if row["top1"] is None and row["measured_top1"] is None:
        return "no accuracy of it is published or measured (`bcdzoo eval` measures it)"
    return "" if _place(row, convention) else f"no operations of the {convention} convention are counted or published"


def _place(row: Row, convention: str) -> float:
    """A row's operations in 1e8, counted, or else as published; 0 where unknown."""
    key = "ops" + "_dagger" * (convention == "dagger")
    counted = row[f"computed_{key}"]
    return float(counted / UNITS["ops"] if counted is not None else row[key] or 0)


def _families(table_rows: Iterable[Row], patterns: Sequence[str]) -> list[list[Row]]:
    """Rows with operations and an accuracy, one of each network; together those of one design on one trunk."""
    families: dict[tuple[str, bool], dict[str, Row]] = {}
    for row in table_rows:
        name: str = row["model"]
        known = row["computed_ops"] is not None and (row["top1"] is not None or row["measured_top1"] is not None)
        if known and any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            families.setdefault((name.partition("-")[0], "-r18" in name), {}).setdefault(name, row)
    return [list(members.values()) for members in families.values()]


def _draw(axes: Axes, members: Sequence[Row], convention: str, color: str, marker: str, size: int) -> None:
    members = sorted(members, key=lambda row: _place(row, convention))
    points = [(_place(row, convention), float(row["top1"])) for row in members if row["top1"] is not None]
    if points:
        axes.plot(*zip(*points, strict=True), color=color, marker=marker, markerfacecolor="white", markersize=size)
    for row in members:
        if (top1 := row["measured_top1"]) is not None:
            low, high = wilson(round(top1 * row["measured_n"] / 100), row["measured_n"])
            errors, place = [[top1 - low], [high - top1]], _place(row, convention)
            style: Any = {"color": color, "marker": marker, "markersize": size - 1, "linestyle": "none"}
            axes.errorbar(place, top1, errors, capsize=2, **style)


def _labels(drawn: Sequence[Row], colors: Sequence[str], convention: str) -> list[Label]:
    """A label for each row: its name, with its bits where others bear it too."""
    bearers = Counter(row["method"] for row in drawn)
    labels = []
    for row, color in zip(drawn, colors, strict=True):
        bits = f" {row['wa']}" if bearers[row["method"]] > 1 and row["wa"] else ""
        counted = "" if row["computed_ops"] is not None else ", OPs published"
        top1 = row["top1"] if row["top1"] is not None else row["measured_top1"]
        labels.append(Label(printable(row["method"], 40) + bits + counted, _place(row, convention), float(top1), color))
    return labels


def _title(drawn: Sequence[Row], own: bool) -> str:
    measured = any(row["measured_top1"] is not None for row in drawn)
    filled = "filled, with its 95 % interval: measured" if measured else "nothing measured yet"
    return (
        f"OPs: computed; top-1: open: published; {filled}"
        + "\nstars: your own, on ImageNet unless other data are named" * own
    )
