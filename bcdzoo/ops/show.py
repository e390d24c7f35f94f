"""Format counts of operations: one network layer by layer, or a line for each of several counts."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bcdzoo.ops.count import LayerOps, OpsReport
from bcdzoo.text import printable
from bcdzoo.text_table import Column, folded, table

_COLUMNS = ("name", "type", "w_bits", "a_bits", "output_shape", "bops", "flops", "params")
_KEYS = (*_COLUMNS, "observed", "counts")

_TOTALS = ("model", "convention", "input_size", "bops", "flops", "ops", "params", "unsupported")


def show(report: OpsReport, style: str, per_layer: bool) -> str:
    """Format a report as "text" or "markdown" (with totals), "csv" (layers, or totals) or "json" (raw integers)."""
    if style == "json":
        return json.dumps(_as_json(report, per_layer), indent=1)
    if style == "csv":
        return _as_csv(_COLUMNS, map(_fields, report.layers)) if per_layer else _as_csv(_TOTALS, [_totals(report)])
    numbers = report.rules.totals(report.counts).values()
    totals = [(name, f"{number:,}", short) for number, (name, short) in zip(numbers, report.shorts(), strict=True)]
    totals.append(("parameters", f"{report.params:,}", f"{report.params / 1e6:.2f}e6"))
    parts = [_layers(report, style)] if per_layer else []
    names, counts, shorts = (max(map(len, column)) for column in zip(*totals, strict=True))
    parts.append("\n".join(f"{name:<{names}}  {count:>{counts}}  {short:>{shorts}}" for name, count, short in totals))
    size, rules = report.input_size, report.rules
    name = printable(report.model, 100)
    parts.append(f"{name}, one image of 3×{size}×{size}. {rules.formula}.\n{rules.line}.")
    parts += [f"Note: {warning}." for warning in report.warnings]
    if report.unsupported:
        parts.append("Not counted, unknown to the counter: " + "; ".join(report.unsupported))
    return _joined(parts, style)


def show_several(reports: Sequence[OpsReport], style: str, per_layer: bool) -> str:
    """Format several reports as :func:`show` does, a line of totals for each; before them their layers if asked for."""
    if style == "json":
        return json.dumps([_as_json(report, per_layer) for report in reports], indent=1)
    if style == "csv" and per_layer:
        of_which = _TOTALS[:3]
        layers = [[*_totals(report)[:3], *_fields(layer)] for report in reports for layer in report.layers]
        return _as_csv((*of_which, *_COLUMNS), layers)
    if style == "csv":
        return _as_csv(_TOTALS, map(_totals, reports))
    parts = []
    if per_layer:
        for report in reports:
            size = f"3×{report.input_size}×{report.input_size}"
            parts += [f"{printable(report.model, 100)}, {size}, {report.convention}", _layers(report, style)]
    rows = [
        [report.model, str(report.input_size), report.convention]
        + [f"{number:,}" for number in (report.bops, report.flops, report.ops, report.params)]
        for report in reports
    ]
    rules = {report.convention: report.rules for report in reports}
    called = [tuple(one.called.values()) for one in rules.values()]
    names = [" or ".join(dict.fromkeys(column)) for column in zip(*called, strict=True)]
    columns = [
        Column("network", fold=True),
        Column("image", right=True),
        Column("convention"),
        *(Column(name, right=True) for name in names),
        Column("parameters", right=True, rank=1),
    ]
    parts.append(table(columns, rows, style))
    parts += [f"{one.line}. {one.formula}." for one in rules.values()]
    parts += dict.fromkeys(
        f"Note: {printable(report.model, 100)}: {warning}." for report in reports for warning in report.warnings
    )
    parts += dict.fromkeys(
        f"Not counted in {printable(report.model, 100)}, unknown to the counter: {'; '.join(report.unsupported)}"
        for report in reports
        if report.unsupported
    )
    return _joined(parts, style)


def _joined(parts: list[str], style: str) -> str:
    if style == "text":
        parts = [folded(part) for part in parts]
    return "\n\n".join(parts)


def _layers(report: OpsReport, style: str) -> str:
    columns = (
        Column("layer"),
        Column("type", rank=1),
        Column("W", right=True),
        Column("A", right=True),
        Column("output", right=True, rank=2),
        Column("BOPs", right=True),
        Column(report.rules.real, right=True),
        Column("parameters", right=True, rank=3),
    )
    return table(columns, [[_cell(layer, column) for column in _COLUMNS] for layer in report.layers], style)


def _cell(layer: LayerOps, column: str) -> str:
    value = getattr(layer, column)
    if column == "output_shape":
        return "×".join(map(str, value))
    if column in ("name", "type"):
        return printable(value or "(network)", 100)
    if column in ("w_bits", "a_bits") and value is not None:
        return f"{value}*" if layer.observed else str(value)
    return "" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def _as_json(report: OpsReport, per_layer: bool) -> dict[str, object]:
    layers = [{key: value for key, value in asdict(layer).items() if key in _KEYS} for layer in report.layers]
    return {
        "model": report.model,
        "convention": report.convention,
        "input_size": report.input_size,
        "bops": report.bops,
        "flops": report.flops,
        "ops": report.ops,
        "params": report.params,
        "unsupported": report.unsupported,
        "observed": report.observed or None,
        "warnings": report.warnings,
        "layers": layers if per_layer else [],
    }


def _fields(layer: LayerOps) -> list[str]:
    return [_cell(layer, column).replace(",", "") for column in _COLUMNS]


def _totals(report: OpsReport) -> list[Any]:
    return [*(getattr(report, key) for key in _TOTALS[:-1]), "; ".join(report.unsupported)]


def _as_csv(header: Sequence[str], rows: Any) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return out.getvalue().rstrip("\n")
