"""An audit as text or JSON."""

import math
import textwrap
from dataclasses import asdict
from typing import Any

from bcdzoo.audit.audit import Audit
from bcdzoo.audit.size import Size
from bcdzoo.audit.verdict import AuditedLayer
from bcdzoo.observe.values import NEAR, Form
from bcdzoo.text import printable
from bcdzoo.text_table import Column, table, terminal_width

_COLUMNS = (
    Column("layer"),
    Column("kernel", rank=3),
    Column("MACs", right=True, rank=1),
    Column("weights"),
    Column("inputs"),
    Column("at 0", right=True, rank=4),
    Column("near 0", right=True, rank=5),
    Column("padding", rank=2),
    Column("verdict", fold=True),
)
_SMALL = 0.05  # share of element-wise products that needs no word
_LINE = 120  # characters at most

_FORMS = {
    Form.SIGNS: "±α",
    Form.SIGNS_OF_IMAGE: "±α image",
    Form.BITS: "0, α",
    Form.SIGNS_OF_CHANNEL: "±α channel",
    Form.SHIFTED: "two/batch",
    Form.SHIFTED_OF_CHANNEL: "two/channel",
    Form.REAL: "real",
}


def as_json(audit: Audit) -> dict[str, Any]:
    """Return everything, with raw integers; forms of inputs by name."""
    record = asdict(audit) | {"macs": audit.macs}
    for found, layer in zip(record["layers"], audit.layers, strict=True):
        found |= {"kind": layer.kind, "verdict": layer.verdict}
        if layer.inputs is not None:
            found["inputs"]["form"] = layer.inputs.form.name.lower().replace("_", " ")
        if layer.threshold is not None and math.isinf(layer.threshold.closest):
            found["threshold"]["closest"] = None  # JSON has no infinity
    return record


def as_text(audit: Audit, style: str = "text") -> str:
    """Format a table of the layers, "text" or "markdown", followed by the findings about the network."""
    whole = sum(layer.macs for layer in audit.layers) or 1
    rows = [_row(layer, whole) for layer in audit.layers]
    shown = [i for i in range(len(_COLUMNS)) if any(row[i] for row in rows) or not rows]
    width = min(terminal_width(), _LINE)
    layers = table([_COLUMNS[i] for i in shown], [[row[i] for i in shown] for row in rows], style, width)
    facts = [
        textwrap.fill(text, width, initial_indent=f"{name:<10}  ", subsequent_indent=" " * 12, break_on_hyphens=False)
        for name, text in _facts(audit)
    ]
    return "\n".join([layers, "", *facts])


def _row(layer: AuditedLayer, whole: int) -> tuple[str, ...]:
    before = layer.threshold
    notes = f" ({'; '.join(layer.notes)})" if layer.notes else ""
    bases = f", {layer.bases} bases" if layer.bases > 1 and not layer.role else ""
    return (
        printable(layer.name or "(network)", 100),
        layer.operation,
        f"{100 * layer.macs / whole:.1f} %",
        _weights(layer),
        _inputs(layer),
        _part(before.zeros, before.count) if before else "",
        _part(before.near, before.count) if before else "",
        layer.padding,
        layer.verdict + bases + notes,
    )


def _weights(layer: AuditedLayer) -> str:
    weights = layer.weights
    if weights.is_real:
        return "real"
    values = f"{weights.levels} levels" if weights.levels > 1 else "equal"
    if weights.binary == weights.channels:
        values = "±α" if weights.has_scale else "±1"
    return values if layer.stored == values else f"{values} {layer.stored}"


def _inputs(layer: AuditedLayer) -> str:
    inputs = layer.inputs
    if inputs is None:
        return ""
    if inputs.form == Form.SIGNS and len(inputs.levels) == 2:
        return f"±{inputs.levels[1]:.4g}"
    if len(inputs.levels) == 2:
        return f"{inputs.levels[0]:.3g}, {inputs.levels[1]:.3g}"
    if inputs.levels:
        return f"{len(inputs.levels)} levels"
    return _FORMS.get(inputs.form, inputs.form.name.lower())


def _part(part: int, whole: int) -> str:
    """Format a possibly tiny share."""
    if part == 0:
        return "0"
    millionths = 1e6 * part / whole
    return f"{millionths:.3g} ppm" if millionths < 1000 else f"{millionths / 1e4:.3g} %"


def _facts(audit: Audit) -> Any:
    weights = f", weights {printable(audit.weights)}" if audit.weights else ""
    yield "network", f"{printable(audit.model)}{weights}"
    if audit.data is None:
        yield "input", "none: only the weights were examined, the activations are unknown (use --data)"
    else:
        yield "input", f"{audit.images} image{'s' * (audit.images != 1)} of {printable(audit.data)}"
    yield "verdict", audit.verdict
    for note in audit.notes:
        yield "note", printable(note)
    if audit.claimed:
        yield "claimed", f"W/A {audit.claimed}"
    before = [layer.threshold for layer in audit.layers if layer.threshold]
    if before:
        total = before[0]
        for threshold in before[1:]:
            total += threshold
        yield (
            "thresholds",
            f"of {total.count:,} values {total.zeros:,} on a threshold and {total.near:,} within {NEAR:g} standard "
            f"deviations of one; the nearest {total.closest:.1e}",
        )
    if audit.unknown:
        yield "unknown", "may multiply, but were not examined: " + "; ".join(audit.unknown)
    if audit.elementwise > _SMALL * (audit.macs + audit.elementwise):
        share = 100 * audit.elementwise / (audit.macs + audit.elementwise)
        yield (
            "elements",
            f"{audit.elementwise:,} element-wise products, {share:.1f} % of all products",
        )
    if audit.counted is None:
        yield "count-ops", f"cannot count this network: {printable(audit.not_counted)}"
    elif audit.counted != audit.macs:
        yield "count-ops", f"counts {audit.counted:,} multiply-accumulates; {audit.macs:,} were observed"
    yield "size", _size(audit.size)


def _size(size: Size) -> str:
    words = [f"{_bytes(size.found)} with the bits found"]
    if size.claimed is not None:
        words.append(f"{_bytes(size.claimed)} with those claimed")
    words.append(f"{_bytes(size.float32)} at 32 bits")
    if size.stored is not None:
        words.append(f"{_bytes(size.stored)} the file")
    words.append(f"{_bytes(size.packed)} packed" if size.packed is not None else f"not packed: {size.no_packed}")
    return ", ".join(words)


def _bytes(number: int) -> str:
    return f"{number / 1e6:.2f} MB" if number >= 1e6 else f"{number / 1e3:.1f} kB"
