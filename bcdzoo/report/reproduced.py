"""Published accuracies beside those that the published weights have on the whole test set. No torch, no pandas."""

import tomllib
from collections.abc import Iterable
from decimal import ROUND_HALF_UP, Decimal
from importlib.resources import files
from typing import Any

from bcdzoo.evaluation.stats import wilson
from bcdzoo.registry import list_models
from bcdzoo.report import sheets
from bcdzoo.report.sheets import Row, Sheet
from bcdzoo.report.tables import best_results, dataset_of
from bcdzoo.text import printable
from bcdzoo.text_table import Column
from bcdzoo.weights.manifest import Checkpoint, load_manifest

TOLERANCE = Decimal("0.02")
"""Points: two of 10,000 images, whose answers another order of float32 sums may change."""

_WHOLE_IMAGENET = 50_000
_HUNDREDTH = Decimal("0.01")


def reproduced(results: Iterable[dict[str, Any]] = ()) -> list[Row]:
    """A row for each network with public weights, those that were measured first; behind ours a run of the user's own.

    Args:
        results: Evaluation runs (:func:`bcdzoo.evaluation.store.read_results`).

    Returns:
        Rows with ``model``, ``checkpoint``, ``dataset``, ``published``, ``measured``, ``n``, ``ci95``, ``difference``,
        ``verdict`` (``reproduced``, ``differs``, ``nothing published`` or ``not measured``), ``command``, ``date`` and
        ``explanation``; accuracies in percent, None where nothing is known. A run's ``command`` is its name.
    """
    text = (files("bcdzoo") / "report" / "reproduced.toml").read_text(encoding="utf-8")
    known = tomllib.loads(text, parse_float=Decimal)
    measured = {entry["model"]: entry for entry in known["measured"]}
    manifest, runs = load_manifest(), best_results(results)
    first, last = [], []
    for model in [*measured, *(name for name in list_models() if name not in measured)]:
        entry = measured.get(model)
        checkpoint = next((found for found in manifest.of(model) if found.source != "package"), None)
        run = runs.get(model)
        if entry:
            facts = entry | {"date": str(entry["date"])}
            first.append(_row(facts, entry.get("published"), entry["hits"], entry["n"]))
        if checkpoint and run and _is_whole(run) and _is_of(run, checkpoint, entry):
            first.append(_own_run(run, checkpoint))
        elif checkpoint and not entry:
            reason = known["not_measured"][dataset_of(model)]
            last.append(_row({"model": model, "checkpoint": checkpoint.tag, "explanation": reason}, _top1(checkpoint)))
    return first + last


def _row(facts: dict[str, Any], published: Decimal | None, hits: int | None = None, n: int | None = None) -> Row:
    row: Row = {key: facts[key] for key in ("model", "checkpoint")}
    row |= {"dataset": dataset_of(row["model"]), "published": published}
    row |= dict.fromkeys(("measured", "n", "ci95", "difference"))
    verdict = "not measured"
    if hits is not None and n is not None:
        exact = Decimal(100 * hits) / n
        row |= {"measured": _rounded(exact), "n": n, "ci95": [round(end, 2) for end in wilson(hits, n)]}
        verdict = "nothing published"
        if published is not None:
            row["difference"] = _rounded(exact - published)
            is_same = abs(exact - published) <= TOLERANCE or exact.quantize(published, ROUND_HALF_UP) == published
            verdict = "reproduced" if is_same else "differs"
    facts = {"verdict": verdict, "command": None, "date": None, "explanation": None} | facts
    return row | {key: facts[key] for key in ("verdict", "command", "date", "explanation")}


def _rounded(number: Decimal) -> Decimal:
    return number.quantize(_HUNDREDTH, ROUND_HALF_UP)


def _own_run(run: dict[str, Any], checkpoint: Checkpoint) -> Row:
    hits = run["hits"]["top1"] if "hits" in run else round(run["top1"] * run["n"] / 100)
    facts = {"model": checkpoint.model, "checkpoint": checkpoint.tag, "command": f"your run {run['run']}"}
    return _row(facts | {"date": run["started"][:10]}, _top1(checkpoint), hits, run["n"])


def _top1(checkpoint: Checkpoint) -> Decimal | None:
    return None if checkpoint.top1 is None else Decimal(str(checkpoint.top1))


def _is_whole(run: dict[str, Any]) -> bool:
    """Whether a run is on all test images; of other data than ImageNet's only such ones are considered."""
    return dataset_of(run["model"]) != "imagenet" or run["n"] == _WHOLE_IMAGENET


def _is_of(run: dict[str, Any], checkpoint: Checkpoint, entry: dict[str, Any] | None) -> bool:
    """Whether a run is of the published weights."""
    if entry and run.get("state") == entry["state"]:
        return True
    if checkpoint.sha256 and not checkpoint.member:
        return bool(run.get("sha256") == checkpoint.sha256)
    return bool(run["weights"] == checkpoint.tag)


_MEASURED = (
    Column("Network"),
    Column("Weights", rank=4),
    Column("Test set", rank=1),
    Column("Published", right=True),
    Column("Measured", right=True),
    Column("95 % interval", right=True, rank=2),
    Column("Images", right=True, rank=5),
    Column("Difference", right=True, rank=3),
    Column("Verdict"),
    Column("By", rank=7, fold=True),
    Column("On", rank=6),
    Column("What is known", rank=8, fold=True),
)
_OTHERS = (
    Column("Network"),
    Column("Weights", rank=2),
    Column("Test set", rank=1),
    Column("Published", right=True),
    Column("Why", fold=True),
)

NOTES = (
    "Measured are the published weights on the whole test set in float32; right is the first guess alone.",
    f"reproduced: the difference is at most {TOLERANCE} points, or rounds away in the published digits.",
    "A network without public weights has no row; `bcdzoo list` has them all.",
)


def render(rows: list[Row], style: str) -> str:
    """The rows as text.

    Args:
        rows: Of :func:`reproduced`.
        style: One of :data:`bcdzoo.report.sheets.STYLES`.
    """
    return sheets.render(sheets_of(rows), NOTES, rows, style)


def sheets_of(rows: list[Row]) -> list[Sheet]:
    """Those that were measured, and the others."""
    measured = [_cells(row) for row in rows if row["n"] is not None]
    others = [[*_names(row), _dash(row["published"]), row["explanation"]] for row in rows if row["n"] is None]
    return [
        Sheet("Published accuracies, measured again", _MEASURED, measured),
        Sheet("Not measured", _OTHERS, others),
    ]


def _names(row: Row) -> list[str]:
    return [printable(row[key]) for key in ("model", "checkpoint", "dataset")]


def _cells(row: Row) -> list[str]:
    low, high = row["ci95"]
    difference = "–" if row["difference"] is None else f"{row['difference']:+}"
    numbers = [_dash(row["published"]), str(row["measured"]), f"{low:.2f} to {high:.2f}", str(row["n"]), difference]
    words = [row["verdict"], row["command"], row["date"], row["explanation"] or ""]
    return [*_names(row), *numbers, *map(printable, words)]


def _dash(value: Any) -> str:
    return "–" if value is None else str(value)
