"""The clock beside the formula: accuracy over measured time, and measured time over counted operations."""

import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from bcdzoo.errors import BcdzooError
from bcdzoo.report.plots.labels import Label, place_labels
from bcdzoo.report.plots.style import BLACK, BLUE, GREEN, ORANGE, VERMILION, new_figure, styled
from bcdzoo.report.sheets import Row
from bcdzoo.report.speeds import Speed, Speeds, require
from bcdzoo.report.tables import IMAGENET, UNITS, rows

_STYLES = {
    "bits": ("binary", BLUE, "o"),
    "int8": ("int8", VERMILION, "s"),
    "bfloat16": ("bfloat16", ORANGE, "D"),
    "float32": ("float32", GREEN, "^"),
}
"""Of each number format: how it is called, its colour and its marker."""


class Point(NamedTuple):
    """A network in one number format.

    Attributes:
        row: Its row of the tables.
        speed: Its fastest way.
    """

    row: Row
    speed: Speed


@styled
def accuracy_speed(
    benchmarks: Sequence[dict[str, Any]], batch_size: int = 1, threads: int | None = None, clock: str = "wall"
) -> Figure:
    """Draw networks by the measured milliseconds of an image and their published accuracy on ImageNet.

    Of each number format that was measured of a network the fastest backend is drawn.

    Args:
        benchmarks: Stored benchmarks (:func:`bcdzoo.bench.store.read_benchmarks`).
        batch_size: Images at once.
        threads: Number of threads; None for those of the latest benchmark.
        clock: "wall", or "processor" for the time that the processor worked, all threads together.

    Raises:
        BcdzooError: No benchmark fits, or none of a network with a published accuracy.
    """
    speeds = require(benchmarks, batch_size, threads, clock)
    points = [point for point in _points(speeds) if point.row["top1"] is not None]
    if not points:
        raise BcdzooError("no network with a published accuracy on ImageNet is among the stored benchmarks")
    figure, axes = _new_figure(points)
    _draw(axes, [(point, point.speed.ms, float(point.row["top1"])) for point in points])
    axes.set_xscale("log")
    axes.set_xlabel("milliseconds per image, measured, logarithmic")
    axes.set_ylabel("ImageNet top-1 (%), published")
    axes.set_title(
        _wrapped(f"measured: {speeds.conditions}. In int8 and bfloat16 the published accuracy is not kept exactly."),
        loc="left",
        fontsize=8,
    )
    _finish(axes, [(point, point.speed.ms, float(point.row["top1"])) for point in points])
    return figure


@styled
def speed_ops(
    benchmarks: Sequence[dict[str, Any]], batch_size: int = 1, threads: int | None = None, clock: str = "wall"
) -> Figure:
    """Draw the measured milliseconds of networks over their counted operations, with what OPs promise.

    If OPs = FLOPs + BOPs/64 told the time, all networks would lie on one line through the real-valued ones: the lines
    drawn go through the real-valued network with the most operations, one for each number format.

    Args:
        benchmarks: Stored benchmarks (:func:`bcdzoo.bench.store.read_benchmarks`).
        batch_size: Images at once.
        threads: Number of threads; None for those of the latest benchmark.
        clock: "wall", or "processor" for the time that the processor worked, all threads together.

    Raises:
        BcdzooError: No benchmark fits, or none of a network that was counted.
    """
    speeds = require(benchmarks, batch_size, threads, clock)
    points = [point for point in _points(speeds) if point.row["computed_ops"]]
    if not points:
        raise BcdzooError("no network whose operations are counted is among the stored benchmarks")
    figure, axes = _new_figure(points)
    placed = [(point, _ops(point), point.speed.ms) for point in points]
    _draw(axes, placed)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.margins(x=0.15, y=0.15)
    xs = np.array([min(x for _, x, _ in placed) / 1.3, max(x for _, x, _ in placed) * 1.3])
    promises = list(_promises(placed))
    for precision, name, x, y in promises:
        label, color, _ = _STYLES[precision]
        axes.plot(xs, xs * y / x, color=color, linestyle="--", linewidth=0.9, label=f"as {name} in {label}, by OPs")
    axes.set_xlabel("OPs (1e8) = FLOPs + BOPs/64, computed, full convention, logarithmic")
    axes.set_ylabel("milliseconds per image, measured")
    what = "Dashed: what OPs promise." if promises else "No real-valued network was measured to hold OPs to."
    axes.set_title(_wrapped(f"measured: {speeds.conditions}. {what}"), loc="left", fontsize=8)
    _finish(axes, placed)
    return figure


def _points(speeds: Speeds) -> list[Point]:
    found: dict[str, Row] = {}
    for row in rows(IMAGENET, ()):
        found.setdefault(row["model"], row)
    points = []
    for model, row in found.items():
        for precision in _STYLES:
            if _is_real(row) == (precision == "bits"):
                continue  # a binary network in floats is what its bits replace
            if speed := speeds.fastest(model, precision=precision):
                points.append(Point(row, speed))
    return points


def _is_real(row: Row) -> bool:
    return bool(row["computed_bops"] == 0)


def _ops(point: Point) -> float:
    return float(point.row["computed_ops"] / UNITS["ops"])


def _promises(placed: Sequence[tuple[Point, float, float]]) -> Any:
    """Number format, network and place of the real-valued network with the most operations, for each format."""
    for precision in _STYLES:
        if of := [each for each in placed if each[0].speed.precision == precision and _is_real(each[0].row)]:
            point, x, y = max(of, key=lambda each: each[1])
            yield precision, point.row["method"], x, y


def _new_figure(points: Sequence[Point]) -> tuple[Figure, Axes]:
    return new_figure(height=4.4 + 0.12 * max(0, len(points) - 8))


def _draw(axes: Axes, placed: Sequence[tuple[Point, float, float]]) -> None:
    for precision, (name, color, marker) in _STYLES.items():
        of = [(x, y) for point, x, y in placed if point.speed.precision == precision]
        if of:
            style: Any = {"color": color, "marker": marker, "linestyle": "none"}
            axes.plot(*zip(*of, strict=True), label=name, **style)
    axes.margins(x=0.12, y=0.12)


def _finish(axes: Axes, placed: Sequence[tuple[Point, float, float]]) -> None:
    for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        if scale == "log":
            axis.set(major_locator=LogLocator(subs=(1, 2, 5)), minor_locator=NullLocator(), major_formatter="{x:g}")
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize=8)
    several = {point.row["model"] for point, *_ in placed if point.speed.precision != "bits"}
    labels = []
    for point, x, y in placed:
        _, color, _ = _STYLES[point.speed.precision]
        format = f" {point.speed.precision}" if point.row["model"] in several else ""
        labels.append(Label(point.row["method"] + format, x, y, color if format else BLACK))
    place_labels(axes, labels)


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 85, break_on_hyphens=False)
