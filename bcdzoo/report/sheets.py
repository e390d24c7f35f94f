"""Tables of text and the notes under them, in the formats that ``bcdzoo table`` prints. No torch, no pandas."""

import csv
import html
import io
import json
import textwrap
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from tabulate import tabulate

from bcdzoo.report.latex import latex
from bcdzoo.text_table import Column, bold, table, terminal_width

Row = dict[str, Any]


class Sheet(NamedTuple):
    """One table.

    Attributes:
        title: Title above it.
        columns: Columns; numbers are aligned to the right.
        body: Cells, row by row.
        heads: Of the columns in LaTeX: of the group, and the column's own.
        footnotes: Notes under it in LaTeX, instead of those of all tables.
    """

    title: str
    columns: Sequence[Column]
    body: list[list[str]]
    heads: Sequence[tuple[str, str]] | None = None
    footnotes: Sequence[str] | None = None


def render(sheets: Sequence[Sheet], notes: Sequence[str], records: Sequence[Row], style: str) -> str:
    """Tables as text.

    Args:
        sheets: What is printed for readers.
        notes: A sentence or two each, under it.
        records: What is printed for programs, all with the same keys: ``Decimal`` keeps its digits, None is unknown.
        style: "text" (fits the terminal), "markdown", "latex" (booktabs), "csv", "json" or "html".
    """
    if style in _OF_RECORDS:
        return _OF_RECORDS[style](records)
    return _OF_SHEETS[style](sheets, notes)


def _markdown(sheets: Sequence[Sheet], notes: Sequence[str]) -> str:
    parts = [f"### {sheet.title}\n\n{table(sheet.columns, sheet.body, 'markdown')}" for sheet in sheets]
    return "\n\n".join([*parts, "\n".join(f"- {line}" for line in notes)])


def _text(sheets: Sequence[Sheet], notes: Sequence[str]) -> str:
    parts = [f"{bold(sheet.title)}\n\n{table(sheet.columns, sheet.body, 'text')}" for sheet in sheets]
    width = terminal_width()
    return "\n\n".join([*parts, "\n".join(textwrap.fill(line, width, subsequent_indent="  ") for line in notes)])


def _html(sheets: Sequence[Sheet], notes: Sequence[str]) -> str:
    parts = [
        f"<h3>{html.escape(sheet.title)}</h3>\n"
        + str(tabulate(sheet.body, [c.head for c in sheet.columns], "html", disable_numparse=True))
        for sheet in sheets
    ]
    items = "\n".join(f"<li>{html.escape(line, quote=False)}</li>" for line in notes)
    return "\n".join([*parts, f"<ul>\n{items}\n</ul>"])


def _latex(sheets: Sequence[Sheet], notes: Sequence[str]) -> str:
    return "\n\n".join(
        latex(
            sheet.title, sheet.columns, sheet.body, sheet.heads, notes if sheet.footnotes is None else sheet.footnotes
        )
        for sheet in sheets
    )


def _json(records: Sequence[Row]) -> str:
    return json.dumps([{key: plain(value) for key, value in row.items()} for row in records], indent=1)


def plain(value: Any) -> Any:
    """A ``Decimal`` as the number that JSON has; anything else as it is."""
    if not isinstance(value, Decimal):
        return value
    return int(value) if value == value.to_integral_value() and "." not in str(value) else float(value)


def _csv(records: Sequence[Row]) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)  # Decimals print with their own digits; None is an empty cell
    return out.getvalue().rstrip("\n")


_OF_SHEETS: dict[str, Callable[[Sequence[Sheet], Sequence[str]], str]] = {
    "text": _text,
    "markdown": _markdown,
    "latex": _latex,
    "html": _html,
}
_OF_RECORDS: dict[str, Callable[[Sequence[Row]], str]] = {"csv": _csv, "json": _json}
STYLES = (*_OF_SHEETS, *_OF_RECORDS)
