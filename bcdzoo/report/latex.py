r"""Tables in LaTeX that fit the text of an ordinary page, for any names in them; they need the package booktabs alone.

A table is set in the largest size in which its columns fit; long text is broken, and what fits in no size goes on in a
second panel below. Widths are estimated with those of Computer Modern, LaTeX's own font, in which text is wide.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from itertools import groupby
from math import ceil
from typing import NamedTuple

from bcdzoo.text import printable
from bcdzoo.text_table import Column

_PAGE = 343.0  # points; article's text has 345
_LINES = 44  # of a float's rows; more are continued in another
_MARK = 3.0  # points that a mark needs besides the gap behind it
_NARROW = 60.0  # points that a column of text keeps


class _Size(NamedTuple):
    command: str
    scale: float  # of widths in 10 points
    gap: float  # between two columns, in points


_SIZES = (_Size("footnotesize", 0.855, 6.0), _Size("scriptsize", 0.8, 4.0))

_CMR10 = {
    277: "!',.:;<[]_`il", 305: "fj", 333: "- ", 361: "I", 388: "()t", 391: "r", 394: "s", 444: "cez", 472: ">?",
    500: '"$*/0123456789\\^ago{}~–', 513: "J", 527: "kqvxy", 555: "Sbdhnpu", 611: "Z", 625: "L", 652: "F", 680: "EP",
    708: "B", 722: "CTw", 736: "R", 750: "AHNUVXY", 763: "D", 777: "&+=@KOQ≠×", 784: "G", 833: "#%m", 916: "M",
    1027: "W", 444.1: "†",
}  # fmt: skip
_WIDTH = {character: width / 100 for width, characters in _CMR10.items() for character in characters}
_UNKNOWN = 20.0  # points, of a character that may be printed as its number

_TEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "`": r"\textasciigrave{}",
    "<": "$<$", ">": "$>$", "|": "$|$", "-": "-", "–": "--", "—": "---", "…": r"\dots{}", "†": r"$^\dagger$",
    "≠": r"$\neq$", "×": r"$\times$", "·": r"$\cdot$", "±": r"$\pm$", "≤": r"$\leq$", "≥": r"$\geq$", "≈": r"$\approx$",
    "→": r"$\rightarrow$", "←": r"$\leftarrow$", "∞": r"$\infty$", "−": "$-$", "°": r"$^\circ$", "µ": r"$\mu$",
    "ß": r"\ss{}", "ø": r"\o{}", "Ø": r"\O{}", "æ": r"\ae{}", "Æ": r"\AE{}", "œ": r"\oe{}", "Œ": r"\OE{}",
    "ł": r"\l{}", "Ł": r"\L{}", "“": "``", "”": "''", "‘": "`", "’": "'",
}  # fmt: skip
_TEX |= {character: f"\\{character}" for character in "&%_#${}"}
_ACCENTS = dict(
    zip("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0323\u0327", "`'^~=u.\"rHvdc", strict=True)
)
_CAPITALS = ["Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"]


def tex(text: str) -> str:
    """A text in LaTeX. A character for which pdfLaTeX has nothing is printed as its number there."""
    out = ""
    for character in unicodedata.normalize("NFC", printable(text)):
        ligature = character in "-'" and out.endswith(("-", "'"))  # -- would be a dash
        out += ("{}" if ligature else "") + _character(character)
    return out


def _character(character: str) -> str:
    if character in _TEX or character.isascii():
        return _TEX.get(character, character)
    base, *marks = list(unicodedata.normalize("NFD", character))
    if base.isascii() and len(marks) == 1 and marks[0] in _ACCENTS:
        return f"\\{_ACCENTS[marks[0]]}{{{base}}}"
    form, *code = unicodedata.decomposition(character).split()[:2] or [""]
    if form in ("<super>", "<sub>") and chr(int(code[0], 16)).isascii():
        return f"${'^' if form == '<super>' else '_'}{{{chr(int(code[0], 16))}}}$"
    greek = re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER (\w+)", unicodedata.name(character, "")) or ["", "", ""]
    name = {"LAMDA": "lambda"}.get(greek[2], greek[2].lower())
    name = name.capitalize() if greek[1] == "CAPITAL" else name
    if name in _CAPITALS or (greek[1] == "SMALL" and name != "omicron"):
        return f"$\\{name}$"
    return rf"\ifdefined\Umathchar {character}\else{{\tiny U+{ord(character):04X}}}\fi{{}}"


def latex(
    title: str,
    columns: Sequence[Column],
    body: Sequence[Sequence[str]],
    heads: Sequence[tuple[str, str]] | None = None,
    notes: Sequence[str] = (),
) -> str:
    r"""A table as one or more floats. Columns without a value are left out, which a comment says.

    Args:
        title: Caption.
        columns: What the cells of each row are.
        body: Cells, row by row; a dash is none.
        heads: For each column the head of the group that it belongs to, and its own short one; by default its head.
        notes: A sentence or two each, below the table.
    """
    heads = heads or [("", column.head) for column in columns]
    used = [i for i in range(len(columns)) if i == 0 or any(row[i] not in ("", "–") for row in body)]
    empty = [columns[i].head for i in range(len(columns)) if i not in used]
    head = [rf"% Needs \usepackage{{booktabs}}. {tex(title)}"]
    head += [f"% Left out, because empty: {tex(', '.join(empty))}."] if empty else []
    if foreign := sorted({c for row in body for i in used for c in row[i] if r"\ifdefined" in _character(c)}):
        head += [f"% For {' '.join(foreign)} use XeLaTeX or LuaLaTeX with a font that has them."]
    kept = [[row[i] for i in used] for row in body]
    grid = _Grid([columns[i] for i in used], [heads[i] for i in used], kept)
    size, panels = _fitting(grid)
    parts = _parts(kept, panels, size)
    floats = []
    for number, part in enumerate(parts, 1):
        floats += [
            r"\begin{table}",
            rf"\caption{{{tex(title)}{' (continued)' if number > 1 else ''}}}",
            rf"\centering\{size.command}\setlength{{\tabcolsep}}{{{size.gap / 2:g}pt}}",
            "\n\\par\\medskip\n".join(_panel(grid._replace(body=part), panel, size) for panel in panels),
            *([_below(notes)] if notes and number == len(parts) else []),
            r"\end{table}",
        ]
    return "\n".join([*head, *floats])


def _parts(body: Sequence[Sequence[str]], panels: Sequence["_Panel"], size: _Size) -> list[list[Sequence[str]]]:
    """The rows of each float: as many as a page has room for."""
    parts: list[list[Sequence[str]]] = [[]]
    lines = 0.0
    for row in body:
        need = sum(
            max(ceil(1.1 * _points(row[i]) * size.scale / w) if w else 1 for i, w in zip(*panel, strict=True))
            for panel in panels
        )
        lines += need
        if parts[-1] and lines > _LINES:
            parts.append([])
            lines = need
        parts[-1].append(row)
    return parts


def _below(notes: Sequence[str]) -> str:
    pieces = [_broken(piece, _PAGE) for piece in " ".join(notes).split("`")]
    text = "".join(rf"\texttt{{{piece}}}" if number % 2 else piece for number, piece in enumerate(pieces))
    return rf"\par\smallskip\parbox{{\linewidth}}{{\scriptsize\raggedright {text}\par}}"


class _Grid(NamedTuple):
    """The columns, their heads and the cells."""

    columns: Sequence[Column]
    heads: Sequence[tuple[str, str]]
    body: Sequence[Sequence[str]]


class _Panel(NamedTuple):
    """Columns that stand side by side; a width is None where a text is not broken."""

    shown: list[int]
    widths: list[float | None]


def _fitting(grid: _Grid) -> tuple[_Size, list[_Panel]]:
    """The largest size in which all fits, or the columns' groups in panels, each behind the first column."""
    everything = list(range(len(grid.columns)))
    for size in _SIZES:
        if widths := _widths(grid, everything, size):
            return size, [_Panel(everything, widths)]
    size = _SIZES[0]
    groups = [list(group) for _, group in groupby(everything[1:], key=lambda i: grid.heads[i][0] or i)]
    groups = [part for group in groups for part in ([group] if _fits(grid, group, size) else [[i] for i in group])]
    panels: list[list[int]] = []
    for group in groups:
        if panels and _fits(grid, [*panels[-1], *group], size):
            panels[-1] += group
        else:
            panels.append(list(group))
    shown = [[0, *panel] for panel in panels]
    return size, [_Panel(panel, _widths(grid, panel, size) or [None] * len(panel)) for panel in shown]


def _fits(grid: _Grid, shown: Sequence[int], size: _Size) -> bool:
    return _widths(grid, [0, *shown], size) is not None


def _widths(grid: _Grid, shown: Sequence[int], size: _Size) -> list[float | None] | None:
    """The width of each column that must be broken, None for the others; None for all if they do not fit."""
    columns, heads, body = grid
    wide = [max(_points(text) for text in (heads[i][1], *(row[i] for row in body))) * size.scale for i in shown]
    wide = [w + _MARK * _is_marked(body, i) for i, w in zip(shown, wide, strict=True)]
    for name, group in groupby(range(len(shown)), key=lambda place: heads[shown[place]][0]):
        places = list(group)
        missing = _points(name) * size.scale - sum(wide[p] for p in places) - size.gap * (len(places) - 1)
        wide[places[-1]] += max(missing, 0)  # a group's head may be wider than its columns
    least = [w if columns[i].right else min(w, _NARROW) for i, w in zip(shown, wide, strict=True)]
    room = _PAGE - size.gap * (len(shown) - 1) - sum(least)
    if room < 0:
        return None
    wanted = sum(wide) - sum(least)
    share = min(room / wanted, 1) if wanted else 1
    broken = [low + share * (w - low) for w, low in zip(wide, least, strict=True)]
    return [b if b < w - 0.01 else None for b, w in zip(broken, wide, strict=True)]


def _is_marked(body: Sequence[Sequence[str]], i: int) -> bool:
    return any(row[i].endswith(" ≠") for row in body)


def _points(text: str) -> float:
    """Width of a text in Computer Modern of 10 points; a mark of difference hangs over."""
    return sum(_WIDTH.get(character, _UNKNOWN) for character in text.removesuffix(" ≠"))


def _panel(grid: _Grid, panel: _Panel, size: _Size) -> str:
    columns, heads, body = grid
    shown = panel.shown
    kinds = [
        (f"p{{{width:.1f}pt}}" if width else "r" if columns[i].right else "l")
        + rf"@{{\hspace{{{size.gap + _MARK:g}pt}}}}" * (_is_marked(body, i) and i != shown[-1])
        for i, width in zip(shown, panel.widths, strict=True)
    ]
    spans = [(name, len(list(group))) for name, group in groupby(shown, key=lambda i: heads[i][0])]
    upper, rules, start = [], [], 1
    for name, span in spans:
        left, right = "@{}" * (start == 1), "@{}" * (start + span > len(shown))
        upper += [rf"\multicolumn{{{span}}}{{{left}c{right}}}{{{tex(name)}}}"] if name else [""] * span
        rules += [rf"\cmidrule(lr){{{start}-{start + span - 1}}}"] if name else []
        start += span

    end = r" \tabularnewline" if panel.widths[-1] else r" \\"  # \raggedright has a \\ of its own

    def line(cells: Sequence[str]) -> list[str]:
        rooms = [width and width / size.scale for width in panel.widths]
        return [_cell(cell, room) for cell, room in zip(cells, rooms, strict=True)]

    return "\n".join(
        [
            rf"\begin{{tabular}}{{@{{}}{''.join(kinds)}@{{}}}}",
            r"\toprule",
            *([" & ".join(upper) + r" \\", " ".join(rules)] if rules else []),
            " & ".join(line([heads[i][1] for i in shown])) + end,
            r"\midrule",
            *(" & ".join(line([row[i] for i in shown])) + end for row in body),
            r"\bottomrule",
            r"\end{tabular}",
        ]
    )


def _cell(text: str, room: float | None) -> str:
    if room:
        return rf"\raggedright\hspace{{0pt}}{_broken(text, room)}"
    bare = text.removesuffix(" ≠")
    out = tex(bare)
    if out[:1] in ("[", "*"):  # behind the end of a row they would belong to it
        out = f"{{{out[0]}}}{out[1:]}"
    return out + (r"\rlap{$^{\neq}$}" if bare != text else "")


def _broken(text: str, room: float) -> str:
    """A text whose words may be broken where they are wider than there is room, in points."""
    return " ".join(r"\allowbreak{}".join(map(tex, _pieces(word, room))) for word in text.split(" "))


def _pieces(word: str, room: float) -> Iterable[str]:
    return re.findall(r"[^-_.:/=,]{1,6}[-_.:/=,]*|[-_.:/=,]+", word) if _points(word) > room else [word]
