"""Top-1 accuracy over operations: the paper's first figure, under any convention."""

import fnmatch
from collections import Counter
from collections.abc import Iterable, Sequence
from decimal import Decimal
from itertools import cycle
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.stats import wilson
from bcdzoo.ops.conventions import DAGGER, Convention, find_convention, is_of_papers
from bcdzoo.report.plots.labels import Label, place_labels
from bcdzoo.report.plots.style import BLACK, SERIES, new_figure, styled
from bcdzoo.report.sheets import Row
from bcdzoo.report.tables import IMAGENET, rows
from bcdzoo.text import printable

FAMILIES = ("meliusnet-*", "reactnet-?", "bcdnet-?")
"""Those of the paper's figure."""

_MOST = 200
_WIDE = 8  # from this ratio of operations on, the axis is logarithmic


@styled
def accuracy_ops(
    results: Iterable[dict[str, Any]],
    patterns: Sequence[str] = FAMILIES,
    convention: str | Convention = "full",
    own: Sequence[Row] = (),
) -> Figure:
    """Draw networks by their operations and their accuracy (percent), published and measured.

    Args:
        results: Evaluation runs (:func:`bcdzoo.evaluation.store.read_results`).
        patterns: Names of networks, as shell patterns; networks of one family are joined by a line.
        convention: Counting convention, as for :func:`bcdzoo.count_ops`.
        own: Rows of one's own under it (:func:`row_convention`), drawn as stars; those of :func:`undrawn` are not.

    Raises:
        BcdzooError: No network that matches has an accuracy on ImageNet, or there are too many rows.
    """
    rules = find_convention(convention)
    families = _families(rows(IMAGENET, results, row_convention(rules)), patterns)
    if not families:
        raise BcdzooError(f"no network with an accuracy on ImageNet matches {' '.join(patterns)}: see `bcdzoo list`")
    if len(own) > _MOST:
        raise BcdzooError(f"{len(own)} rows of your own are more than a figure has room to name: at most {_MOST}")
    drawn = [row for row in own if not _lacks(row, rules)]
    everyone = [*(row for members in families for row in members), *drawn]
    more = max(0, len(everyone) - 30)
    figure, axes = new_figure(6.5 + 0.08 * min(more, 60), 4 + 0.12 * max(0, len(everyone) - 8))
    for (color, marker), members in zip(cycle(SERIES), families, strict=False):
        _draw(axes, members, rules, color, marker, 6)
    for row in drawn:
        _draw(axes, [row], rules, BLACK, "*", 10)
    places = [_place(row, rules) for row in everyone]
    axes.margins(x=0.12, y=0.12)
    if wide := max(places) > _WIDE * min(places):
        axes.set_xscale("log")
        axes.xaxis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator(), major_formatter="{x:g}")
    total, _, parts = rules.formula.partition(" = ")
    about = f"{total} (1e{rules.power}) = {parts}, {rules.name} convention"
    axes.set_xlabel(printable(about, 150) + ", logarithmic" * wide)
    axes.set_ylabel("ImageNet top-1 (%)")
    axes.set_title(_title(everyone, rules, bool(drawn)), loc="left", fontsize=9)
    colors = [color for (color, _), members in zip(cycle(SERIES), families, strict=False) for _ in members]
    place_labels(axes, _labels(everyone, colors + [BLACK] * len(drawn), rules))
    return figure


def row_convention(rules: Convention) -> Convention | None:
    """The convention of the rows that a figure is drawn of: those of the papers' two have both."""
    return None if is_of_papers(rules) else rules


def undrawn(own: Sequence[Row], convention: str | Convention = "full") -> list[str]:
    """Say of each of one's own rows that has no place in the figure what it lacks, in a sentence."""
    rules = find_convention(convention)
    lacks = [(row["method"], _lacks(row, rules)) for row in own]
    return [f"{printable(method, 100)} is not in the figure: {what}" for method, what in lacks if what]


def _lacks(row: Row, rules: Convention) -> str:
    if row["top1"] is None and row["measured_top1"] is None:
        return "no accuracy of it is published or measured (`bcdzoo eval` measures it)"
    return "" if _place(row, rules) else f"no operations of the {rules.name} convention are counted or published"


def _place(row: Row, rules: Convention) -> float:
    """A row's operations in the convention's unit, counted, or else as published; 0 where unknown."""
    key = "ops" + "_dagger" * (rules == DAGGER)
    counted = row[f"computed_{key}"]
    if counted is not None:
        return float(counted / Decimal(10**rules.power))
    return float(row[key] or 0) if is_of_papers(rules) else 0.0


def _families(table_rows: Iterable[Row], patterns: Sequence[str]) -> list[list[Row]]:
    """Rows with operations and an accuracy, one of each network; together those of one design on one trunk."""
    families: dict[tuple[str, bool], dict[str, Row]] = {}
    for row in table_rows:
        name: str = row["model"]
        known = row["computed_ops"] is not None and (row["top1"] is not None or row["measured_top1"] is not None)
        if known and any(fnmatch.fnmatch(name, pattern) for pattern in patterns):
            families.setdefault((name.partition("-")[0], "-r18" in name), {}).setdefault(name, row)
    return [list(members.values()) for members in families.values()]


def _draw(axes: Axes, members: Sequence[Row], rules: Convention, color: str, marker: str, size: int) -> None:
    members = sorted(members, key=lambda row: _place(row, rules))
    points = [(_place(row, rules), float(row["top1"])) for row in members if row["top1"] is not None]
    if points:
        axes.plot(*zip(*points, strict=True), color=color, marker=marker, markerfacecolor="white", markersize=size)
    for row in members:
        if (top1 := row["measured_top1"]) is not None:
            low, high = wilson(round(top1 * row["measured_n"] / 100), row["measured_n"])
            errors, place = [[top1 - low], [high - top1]], _place(row, rules)
            style: Any = {"color": color, "marker": marker, "markersize": size - 1, "linestyle": "none"}
            axes.errorbar(place, top1, errors, capsize=2, **style)


def _labels(drawn: Sequence[Row], colors: Sequence[str], rules: Convention) -> list[Label]:
    """A label for each row: its name, with its bits where others bear it too."""
    bearers = Counter(row["method"] for row in drawn)
    labels = []
    for row, color in zip(drawn, colors, strict=True):
        bits = f" {row['wa']}" if bearers[row["method"]] > 1 and row["wa"] else ""
        counted = "" if row["computed_ops"] is not None else ", OPs published"
        top1 = row["top1"] if row["top1"] is not None else row["measured_top1"]
        labels.append(Label(printable(row["method"], 40) + bits + counted, _place(row, rules), float(top1), color))
    return labels


def _title(drawn: Sequence[Row], rules: Convention, own: bool) -> str:
    measured = any(row["measured_top1"] is not None for row in drawn)
    filled = "filled, with its 95 % interval: measured" if measured else "nothing measured yet"
    return (
        f"{printable(rules.total)}: computed; top-1: open: published; {filled}"
        + "\nstars: your own, on ImageNet unless other data are named" * own
    )
