"""Tables: fitted to a terminal, or as Markdown. What a command prints in columns is printed here."""

import os
import re
import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bcdzoo.text import printable

_GAP = "  "
_NARROWEST = 12  # characters that a shortened or folded column keeps
_COLOUR = re.compile("\x1b\\[[0-9]*m")  # of `bold`


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        head: Its heading.
        right: Whether it is aligned to the right, as numbers are.
        rank: 0 if it is always shown; where there is no room, the columns of the highest rank go first.
        fold: Whether its cells may go on in the next line, where there is no room for them in one.
        name: What it is called away from its neighbours, if its heading does not say so.
    """

    head: str
    right: bool = False
    rank: int = 0
    fold: bool = False
    name: str = ""


def table(columns: Sequence[Column], rows: Sequence[Sequence[str]], style: str, width: int | None = None) -> str:
    """Rows as a table.

    Args:
        columns: What the cells of each row are.
        rows: The cells.
        style: "text", which fits the terminal, or "markdown".
        width: Characters of a line of text; None for the terminal's.
    """
    body = [[printable(cell) for cell in row] for row in rows]
    return _markdown(columns, body) if style == "markdown" else _fitted(columns, body, width or terminal_width())


def terminal_width() -> int:
    """Characters in a line of the terminal; ``COLUMNS`` sets it, and without either it is 80."""
    return max(shutil.get_terminal_size().columns, 20)


def default_style() -> str:
    """How tables are printed if nobody says: for a reader on a terminal, as Markdown elsewhere."""
    return "text" if sys.stdout.isatty() else "markdown"


def folded(text: str) -> str:
    """Lines folded to the terminal's width; those that fit stay as they are."""
    width = terminal_width()
    lines = (
        [line] if columns_wide(line) <= width else textwrap.wrap(line, width, break_on_hyphens=False)
        for line in text.splitlines()
    )
    return "\n".join(part for parts in lines for part in parts)


def facts(text: str, indent: int) -> str:
    """Lines of a name and what is said of it, on a terminal folded to its width; elsewhere as they are.

    Args:
        text: The lines.
        indent: Where what is said begins.
    """
    if not sys.stdout.isatty():
        return text
    width = terminal_width()
    lines = (
        textwrap.fill(line, width, subsequent_indent=" " * indent, break_on_hyphens=False, drop_whitespace=True)
        for line in text.splitlines()
    )
    return "\n".join(lines)


def bold(text: str) -> str:
    """A text that stands out on a terminal that shows colours; ``NO_COLOR`` and ``TERM=dumb`` are heeded."""
    return f"\x1b[1m{text}\x1b[0m" if _in_colour() else text


def columns_wide(text: str) -> int:
    """Columns of a terminal that a text takes: two for an East Asian character, none for a combining one or colour."""
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in _COLOUR.sub("", text)
    )


def _in_colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def _markdown(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> str:
    heads, *escaped = ([cell.replace("|", r"\|") for cell in row] for row in ([c.head for c in columns], *rows))
    named = [replace(column, head=head) for column, head in zip(columns, heads, strict=True)]
    widths = [max(wide, len(head) + 2) for head, wide in zip(heads, _widths(named, escaped), strict=True)]
    rules = ["-" * width + (":" if column.right else "-") for column, width in zip(columns, widths, strict=True)]
    head, *body = (f"| {_aligned(row, columns, widths, ' | ')} |" for row in (heads, *escaped))
    return "\n".join([head, "|" + "|".join(f"-{rule}" for rule in rules) + "|", *body])


def _fitted(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int) -> str:
    shown = list(range(len(columns)))
    widths = _widths(columns, rows)
    dropped = []
    while (need := _total([_least(columns[i], widths[i]) for i in shown])) > width:
        if not (rank := max(columns[i].rank for i in shown)):
            break
        last = max(i for i in shown if columns[i].rank == rank)
        shown.remove(last)
        dropped.append(last)
    kept = [columns[i] for i in shown]
    widths = [widths[i] for i in shown]
    body = [[row[i] for i in shown] for row in rows]
    if need > width or _total(widths) > width:
        widths = _narrowed(kept, widths, width)
    lines = [bold(_aligned([column.head for column in kept], kept, widths, _GAP).rstrip())]
    for row in body:
        cells = [_lines(cell, column, wide) for cell, column, wide in zip(row, kept, widths, strict=True)]
        for number in range(max(map(len, cells), default=0)):
            line = [cell[number] if number < len(cell) else "" for cell in cells]
            lines.append(_aligned(line, kept, widths, _GAP).rstrip())
    if dropped:
        names = ", ".join(dict.fromkeys(columns[i].name or columns[i].head for i in sorted(dropped)))
        note = f"(no room for {names}: a wider terminal or --format markdown shows all)"
        lines += ["", *textwrap.wrap(note, width, break_on_hyphens=False)]
    return "\n".join(lines)


def _widths(columns: Sequence[Column], rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(columns_wide(text) for text in (c.head, *(row[i] for row in rows))) for i, c in enumerate(columns)]


def _least(column: Column, width: int) -> int:
    """The narrowest that a column is useful: folded or shortened text is, a shortened number is not."""
    return min(width, 2 * _NARROWEST) if column.fold else width


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _narrowed(columns: Sequence[Column], widths: Sequence[int], width: int) -> list[int]:
    """Widths that fit: columns that fold give way first, then the widest of text."""
    narrow = list(widths)
    while (excess := _total(narrow) - width) > 0:
        folding = [i for i, column in enumerate(columns) if column.fold and narrow[i] > 2 * _NARROWEST]
        texts = [i for i, column in enumerate(columns) if not column.right and narrow[i] > _NARROWEST]
        if not (candidates := folding or texts):
            break
        widest = max(candidates, key=lambda i: narrow[i])
        least = 2 * _NARROWEST if folding else _NARROWEST
        narrow[widest] = max(narrow[widest] - excess, least)
    return narrow


def _lines(cell: str, column: Column, width: int) -> list[str]:
    if columns_wide(cell) <= width:
        return [cell]
    room = max(width * len(cell) // columns_wide(cell), 2)  # in characters, which may be two columns wide
    if column.fold:
        return textwrap.wrap(cell, room, break_on_hyphens=False)
    half = (room - 1) // 2
    return [f"{cell[:half]}…{cell[len(cell) - (room - 1 - half) :]}"]


def _aligned(cells: Sequence[str], columns: Sequence[Column], widths: Sequence[int], gap: str) -> str:
    padded = []
    for cell, column, width in zip(cells, columns, widths, strict=True):
        space = " " * (width - columns_wide(cell))
        padded.append(space + cell if column.right else cell + space)
    return gap.join(padded)
