"""Format a count of operations."""

import csv
import io
import json
import textwrap
from dataclasses import asdict

from bcdzoo.ops.conventions import CONVENTIONS
from bcdzoo.ops.count import LayerOps, OpsReport
from bcdzoo.text import printable
from bcdzoo.text_table import Column, table, terminal_width

_COLUMNS = ("name", "type", "w_bits", "a_bits", "output_shape", "bops", "flops", "params")
_SHOWN = (
    Column("layer"),
    Column("type", rank=1),
    Column("W", right=True),
    Column("A", right=True),
    Column("output", right=True, rank=2),
    Column("BOPs", right=True),
    Column("FLOPs", right=True),
    Column("parameters", right=True, rank=3),
)
_KEYS = (*_COLUMNS, "observed")


def show(report: OpsReport, style: str, per_layer: bool) -> str:
    """Format a report as "text" or "markdown" (with totals), "csv" (layers, or totals) or "json" (raw integers)."""
    if style == "json":
        return json.dumps(_as_json(report, per_layer), indent=1)
    if style == "csv":
        return _as_csv(report, per_layer)
    totals = [
        ("BOPs", f"{report.bops:,}", f"{report.bops / 1e9:.3f}e9"),
        ("FLOPs", f"{report.flops:,}", f"{report.flops / 1e8:.4f}e8"),
        ("OPs", f"{report.ops:,}", f"{report.ops / 1e8:.4f}e8"),
        ("parameters", f"{report.params:,}", f"{report.params / 1e6:.2f}e6"),
    ]
    parts = []
    if per_layer:
        rows = [[_cell(layer, column) for column in _COLUMNS] for layer in report.layers]
        parts.append(table(_SHOWN, rows, style))
    names, counts, shorts = (max(map(len, column)) for column in zip(*totals, strict=True))
    parts.append("\n".join(f"{name:<{names}}  {count:>{counts}}  {short:>{shorts}}" for name, count, short in totals))
    size = report.input_size
    name, description = printable(report.model, 100), CONVENTIONS[report.convention].description
    parts.append(f"{name}, one image of 3×{size}×{size}. OPs = FLOPs + BOPs/64.\n{report.convention}: {description}.")
    parts += [f"Note: {warning}." for warning in report.warnings]
    if report.unsupported:
        parts.append("Not counted, unknown to the counter: " + "; ".join(report.unsupported))
    if style == "text":
        parts = ["\n".join(line for text in part.splitlines() for line in _folded(text)) for part in parts]
    return "\n\n".join(parts)


def _folded(line: str) -> list[str]:
    width = terminal_width()
    return [line] if len(line) <= width else textwrap.wrap(line, width, break_on_hyphens=False)


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


def _as_csv(report: OpsReport, per_layer: bool) -> str:
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    if per_layer:
        writer.writerow(_COLUMNS)
        writer.writerows([_cell(layer, column).replace(",", "") for column in _COLUMNS] for layer in report.layers)
    else:
        writer.writerow(("model", "convention", "input_size", "bops", "flops", "ops", "params", "unsupported"))
        unsupported = "; ".join(report.unsupported)
        totals = (report.bops, report.flops, report.ops, report.params)
        writer.writerow((report.model, report.convention, report.input_size, *totals, unsupported))
    return out.getvalue().rstrip("\n")
