"""Common style of the figures: colours for the colour-blind, sizes, and writing to files."""

import io
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from bcdzoo.errors import BcdzooError
from bcdzoo.files import atomic_write

# Okabe and Ito's palette, distinguishable with any colour vision; markers and hatches differ too, for print.
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY, BLACK = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#000000",
)  # fmt: skip
_COLORS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
_MARKERS = "os^DvPX"
SERIES = tuple((color, _MARKERS[(i + turn) % 7]) for turn in range(7) for i, color in enumerate(_COLORS))
"""Colour and marker of the first, second, … series; no two have both in common."""

DIGITISED: Any = {"marker": "x", "markersize": 5, "linestyle": ":", "linewidth": 1}
"""How numbers are drawn that were read off a figure; published ones are open, computed and measured ones filled."""

SUFFIXES = (".png", ".svg", ".pdf")

_PARAMETERS: Any = {  # matplotlib types every key
    "font.size": 9,
    "lines.linewidth": 1.2,
    "lines.markersize": 6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "text.parse_math": False,  # a $ in a name is a $
    "legend.frameon": False,
    "svg.fonttype": "none",  # text stays text: it can be searched and read aloud
    "svg.hashsalt": "bcdzoo",  # the same figure gives the same bytes
    "pdf.fonttype": 42,
}


styled = matplotlib.rc_context(_PARAMETERS)
"""Decorates a function that draws."""


def new_figure(width: float = 6.5, height: float = 4.0, **grid: Any) -> tuple[Figure, Any]:
    """A figure and its axes (an array of them where ``grid`` asks for several).

    Args:
        width: Width in inches; a page's text has 6.5.
        height: Height in inches.
        **grid: Arguments of ``Figure.subplots``.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(**grid)


def save(figure: Figure, path: Path) -> None:
    """Write a figure, whole or not at all, in the format of the path's suffix.

    Raises:
        BcdzooError: The suffix is not in :data:`SUFFIXES`.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise BcdzooError(f"{path}: a figure's file ends in {', '.join(SUFFIXES)}")
    content = render(figure, path.suffix.lower())
    with atomic_write(path) as temporary:
        temporary.write_bytes(content)


@styled
def render(figure: Figure, suffix: str) -> bytes:
    """A figure as a file's bytes; no date is in them."""
    undated: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}
    out = io.BytesIO()
    figure.savefig(out, format=suffix[1:], dpi=200, metadata=undated[suffix])
    return out.getvalue()
