"""Names beside points: each in the nearest place that is free of other names and of points."""

from collections.abc import Sequence
from itertools import pairwise, product
from math import cos, pi, sin
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

_DISTANCES = (
    7,
    9,
    12,
    16,
    22,
    30,
    40,
    52,
    66,
    82,
    100,
    120,
    145,
    175,
    210,
    250,
)  # from a label to its point, in points (1/72 inch)
_DIRECTIONS = [2 * pi * turn / 24 for turn in range(24)]
_MARKER = 6  # half the side of a marker and the air around it, in points
_LINE_COST = 6  # cost of every 5 points of line under a label, or of label under its leader, in points of distance
_LEADER_FROM = 16  # nearer labels need no leader line
_NEAR = 60  # points that are nearer than this crowd each other
_SIZE = 8  # font size in points

Array = npt.NDArray[np.float64]


class Label(NamedTuple):
    """A name, and its point in the data's own coordinates."""

    text: str
    x: float
    y: float
    color: str


def place_labels(axes: Axes, labels: Sequence[Label]) -> None:
    """Write names beside their points; rather off the lines, and with a thin line to a point that is far.

    Those of crowded points have the choice of the places.

    Args:
        axes: Axes that are finished except for the labels.
        labels: Names and points.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.draw_without_rendering()  # the axes' place in the figure is known from now on
    point = figure.dpi / 72
    lines = [np.asarray(axes.transData.transform(line.get_xydata())) for line in axes.lines]
    half = _MARKER * point
    taken = [Bbox([(x - half, y - half), (x + half, y + half)]) for line in lines for x, y in line]
    dots = np.concatenate([_dots(line, 5 * point) for line in lines if line.size])
    places = np.asarray([axes.transData.transform((label.x, label.y)) for label in labels]).reshape(-1, 2)
    crowds = [int((np.hypot(*(places - at).T) < _NEAR * point).sum()) for at in places]
    written: list[Bbox] = []
    for _, at, label in sorted(zip(crowds, places, labels, strict=True), key=lambda one: -one[0]):
        probe = axes.text(label.x, label.y, label.text, fontsize=_SIZE)
        size = np.asarray(probe.get_window_extent().size)
        probe.remove()
        distance, center = _place(at, size, point, axes.bbox, taken, written, dots)
        written.append(Bbox([center - size / 2, center + size / 2]))
        taken.append(written[-1])
        if distance >= _LEADER_FROM:
            dots = np.concatenate([dots, _dots(np.stack([at, center]), 5 * point)])
        axes.annotate(
            label.text,
            (label.x, label.y),
            tuple((center - at) / point),
            textcoords="offset points",
            color=label.color,
            fontsize=_SIZE,
            ha="center",
            va="center",
            in_layout=False,
            arrowprops={"arrowstyle": "-", "color": label.color, "lw": 0.4, "shrinkA": 0, "shrinkB": 3}
            if distance >= _LEADER_FROM
            else None,
        )


def _dots(line: Array, step: float) -> Array:
    """Points along a line, in pixels, (n, 2)."""
    pieces = [line[:1]]
    for start, end in pairwise(line):
        pieces.append(np.linspace(start, end, 2 + int(np.hypot(*(end - start)) / step)))
    return np.concatenate(pieces)


def _place(
    at: Array,
    size: Array,
    point: float,
    inside: Bbox,
    taken: Sequence[Bbox],
    written: Sequence[Bbox],
    dots: Array,
) -> tuple[float, Array]:
    """Distance in points and center in pixels of the best free place; right above the point where none is free."""
    best = (float("inf"), _DISTANCES[0], at + np.array([0, size[1]]))
    for distance, direction in product(_DISTANCES, _DIRECTIONS):
        if distance > best[0]:
            break
        center = at + (distance * point + size / 2) * (cos(direction), sin(direction))
        box = Bbox([center - size / 2, center + size / 2])
        free = box.count_overlaps(taken) == 0 and inside.containsx(box.x0) and inside.containsx(box.x1)
        if free and inside.containsy(box.y0) and inside.containsy(box.y1):
            cost = distance + _LINE_COST * box.count_contains(dots)
            if distance >= _LEADER_FROM and cost < best[0]:
                leader = _dots(np.stack([at, center]), 5 * point)
                cost += _LINE_COST * sum(other.count_contains(leader) for other in written)
            if cost < best[0]:
                best = (cost, distance, center)
    return best[1], best[2]
