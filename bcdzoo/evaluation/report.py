"""Formatting of one or several results."""

from collections.abc import Sequence
from typing import Any

from bcdzoo.evaluation.result import EvalResult
from bcdzoo.seal import sealed
from bcdzoo.text_table import Column, table

_COLUMNS = (
    Column("model"),
    Column("mode", rank=1),
    Column("top-1", right=True),
    Column("95 % interval"),
    Column("top-5", right=True, rank=2),
    Column("95 % interval", rank=3),
    Column("images", right=True, rank=2),
    Column("flips"),
)


def as_json(results: Sequence[EvalResult]) -> Any:
    """Return the sealed record of a single result, or a list; modes other than the strict one have ``flips``."""
    records = [sealed(result.to_json() | _flips(result, results)) for result in results]
    return records[0] if len(records) == 1 else records


def as_text(results: Sequence[EvalResult], style: str = "text") -> str:
    """Format a single result in lines, several as a table ("text" or "markdown") below their common lines."""
    if len(results) == 1:
        return results[0].summary()
    first = results[0]
    body = [_row(result, _flips(result, results)) for result in results]
    shown = _COLUMNS if any(row[-1] for row in body) else _COLUMNS[:-1]
    body = [row[: len(shown)] for row in body]
    lines = [line for line in first.summary().splitlines() if line.startswith(("images", "labels", "decoder", "speed"))]
    return "\n".join([*lines, "", table(shown, body, style)])


def _row(result: EvalResult, flips: dict[str, Any]) -> tuple[str, ...]:
    (low1, high1), (low5, high5) = result.ci95["top1"], result.ci95["top5"]
    changed = f"{flips['flips']} of {result.n} ({100 * flips['flips'] / result.n:.2f} %)" if flips else ""
    return (
        result.model,
        result.mode,
        f"{result.top1:.2f}",
        f"{low1:.2f} to {high1:.2f}",
        f"{result.top5:.2f}",
        f"{low5:.2f} to {high5:.2f}",
        str(result.n),
        changed,
    )


def _flips(result: EvalResult, results: Sequence[EvalResult]) -> dict[str, Any]:
    """Count top-1 predictions that differ from the same network's strict run, if that is among the results."""
    strict = [other for other in results if other.state == result.state and other.mode == "float32"]
    if not strict or strict[0] is result:
        return {}
    return {"flips": int((strict[0].guesses[:, 0] != result.guesses[:, 0]).sum())}
