"""The table of ImageNet's other networks, as one would print it: by backbone, then by accuracy, one number a column.

What is published of their operations stays in ``--format json`` and ``--columns``. No torch, no pandas.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from bcdzoo.ops.conventions import FULL, Convention
from bcdzoo.registry import REGISTRY
from bcdzoo.report import sheets
from bcdzoo.report.counts import counts
from bcdzoo.report.sheets import Row, Sheet
from bcdzoo.report.tables import (
    COMBINED,
    DIFFERS,
    OWN,
    TITLES,
    Field,
    counts_note,
    fields,
    published_figures,
    sources,
    units_note,
)
from bcdzoo.text_table import Column
from bcdzoo.weights.manifest import load_manifest

OTHER, MINE = "other", "your own"
_STATES = {"package": "shipped", "manual": "by hand"}


def with_facts(rows: Iterable[Row]) -> list[Row]:
    """The rows with ``backbone``, ``year``, ``params`` and ``weights``; None where nothing is known."""
    return [row | _facts(row) for row in rows]


def _facts(row: Row) -> Row:
    model = row["model"]
    named = {entry["model"]: entry.get("backbone") for entry in published_figures()["beyond"]}
    backbone = MINE if row["table"] == OWN else named.get(model) or _of_name(model)
    if model not in REGISTRY:
        return {"backbone": backbone, "year": None, "params": None, "weights": None}
    years = re.findall(r"\b(?:19|20)\d\d\b", REGISTRY[model].paper)
    known = load_manifest().of(model)
    return {
        "backbone": backbone,
        "year": int(years[-1]) if years else None,
        "params": counts()[model]["params"] if model in counts() else None,
        "weights": _STATES.get(known[0].source, "public") if known else "missing",
    }


def _of_name(model: str) -> str:
    """The backbone that a network's name ends in, where no entry says it."""
    found = re.search(r"-(?:r|resnet-?)(\d+)(?:-|$)", model)
    return f"ResNet-{found[1]}" if found else OTHER


def by_backbone(rows: Iterable[Row]) -> list[Row]:
    """The rows grouped by backbone, in the order of names and depths, and by top-1 within each, unknown ones last."""

    def place(row: Row) -> tuple[Any, ...]:
        last = (OTHER, MINE).index(row["backbone"]) + 1 if row["backbone"] in (OTHER, MINE) else 0
        name = [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", row["backbone"])]
        top1 = row["top1"] if row["top1"] is not None else row["measured_top1"]
        return (last, name, top1 is None, top1 or 0)

    return sorted(rows, key=place)


def beyond_fields(convention: Convention | None) -> dict[str, Field]:
    """Every column that can be chosen, by the key that the rows have for it."""
    found = fields(convention)
    facts = {
        "backbone": Field(Column("Backbone"), _of("backbone"), short="Backbone"),
        "year": Field(Column("Year", right=True), _of("year"), short="Year"),
        "params": Field(Column("Params (1e6)", right=True), _params, short="Params"),
        "weights": Field(Column("Weights"), _of("weights"), short="Weights"),
    }
    return found | facts


def _of(key: str) -> Callable[[Row], str]:
    return lambda row: "–" if row[key] is None else str(row[key])


def _params(row: Row) -> str:
    return "–" if row["params"] is None else f"{row['params'] / 1e6:.2f}"


def _bits(row: Row) -> str:
    """The bits of each kind of low-bit layer."""
    known = REGISTRY.get(row["model"])
    return ", ".join(map(str, known.bits)) if known and row["wa"] == "mixed" else row["wa"] or "–"


def _shown(convention: Convention | None, style: str, timed: bool) -> list[Field]:
    """The columns if nobody chooses, with the times if there are any.

    On a terminal those of a high rank may be missing. A page in LaTeX has no room for two conventions in one column,
    and has the first, nor for times.
    """
    known = beyond_fields(convention)

    def ranked(key: str, rank: int, head: str = "") -> Field:
        column = known[key].column
        return known[key]._replace(column=replace(column, rank=rank, head=head or column.head, name=head))

    if convention is None and style != "latex":
        counted = [
            COMBINED[f"computed_{what}"]._replace(column=Column(head, right=True, rank=rank))
            for what, head, rank in (("bops", "BOPs (1e9)", 3), ("flops", "FLOPs (1e8)", 5), ("ops", "OPs (1e8)", 2))
        ]
    else:
        counted = [ranked("computed_bops", 3, "BOPs (1e9)"), ranked("computed_flops", 5), ranked("computed_ops", 2)]
    called = (convention or FULL).called.values()
    counted = [field._replace(group="", short=name) for field, name in zip(counted, called, strict=True)]
    return [
        ranked("backbone", 0),
        known["method"],
        ranked("year", 4),
        known["wa"]._replace(column=Column("W/A", rank=3), cell=_bits),
        ranked("params", 4),
        *counted,
        known["top1"]._replace(group="", short="Top-1"),
        ranked("measured_top1", 6, "measured")._replace(group="", short="measured"),
        *([ranked("measured_ms", 4)._replace(group="", short="ms")] if timed else []),
        ranked("weights", 1),
    ]


_NOTE = (
    "Top-1: published, by the networks' own authors or those of their weights; measured: the run of `bcdzoo eval` on "
    "the most images. Weights: public (`bcdzoo fetch`), shipped with this package, by hand (their host wants a "
    "browser) or missing."
)


def _in_groups(shown: list[Field], body: list[list[str]], style: str) -> tuple[list[Field], list[list[str]]]:
    """The name of a group, the first column, once: at its first row, or on a line of its own where a page is narrow."""
    lines, above = [], ""
    for name, *cells in body:
        if style != "latex":
            lines.append(["" if name == above else name, *cells])
        else:
            lines += [[f"{name}:"] + [""] * (len(cells) - 1)] * (name != above) + [cells]
        above = name
    return (shown[1:] if style == "latex" else shown), lines


def render(
    rows: Sequence[Row],
    style: str,
    columns: Sequence[str] | None,
    convention: Convention | None,
    notes: Sequence[str] = (),
) -> str:
    """The rows as text.

    Args:
        rows: Rows from :func:`with_facts`, in the order in which they are shown.
        style: One of :data:`bcdzoo.report.sheets.STYLES`.
        columns: Some of :func:`beyond_fields`; None for those of a printed table.
        convention: Counting convention of the rows, as for :func:`bcdzoo.report.tables.rows`.
        notes: More notes.
    """
    known = beyond_fields(convention)
    shown = (
        [known[key] for key in columns]
        if columns
        else _shown(convention, style, any(row["measured_ms"] for row in rows))
    )
    body = [[field.cell(row) for field in shown] for row in rows]
    if not columns:
        shown, body = _in_groups(shown, body, style)
    heads = [(field.group, field.short or field.column.head) for field in shown]
    differs = [DIFFERS] * any(" ≠" in cell for line in body for cell in line)
    of = FULL if style == "latex" and convention is None and not columns else convention
    said = [_NOTE, counts_note(of, ", ".join((of or FULL).called.values())), *differs, *sources(rows), *notes]
    footnotes = [f"Params in 1e6, {units_note(convention or FULL)}.", *said]
    sheet = Sheet(TITLES["beyond"], [field.column for field in shown], body, heads, footnotes)
    records = [{key: row[key] for key in columns} for row in rows] if columns else rows
    return sheets.render([sheet], said, records, style)
