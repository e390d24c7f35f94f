"""``bcdzoo results``."""

import csv
import fnmatch
import io
import json
from typing import Any

import click
from tabulate import tabulate

from bcdzoo.cli.options import MODEL
from bcdzoo.evaluation.store import read_results
from bcdzoo.text import printable

_COLUMNS = (
    "run", "model", "weights", "backend", "precision", "device", "dataset", "n", "top1", "top5",
    "preprocess", "started",
)  # fmt: skip


@click.command("results")
@click.argument("pattern", type=MODEL, default="*")
@click.option("--dataset", help="Show only runs on this data set, such as imagenet.")
@click.option("--since", metavar="DATE", help="Show only runs started on or after this date, such as 2026-11-01.")
@click.option("--format", "style", type=click.Choice(["github", "csv", "json"]), default="github", show_default=True)
def command(pattern: str, dataset: str | None, since: str | None, style: str) -> None:
    """List evaluation runs in the results store, oldest first, of networks whose names match PATTERN."""
    found = [
        result
        for result in read_results()
        if fnmatch.fnmatch(result["model"], pattern)
        and dataset in (None, result["dataset"])
        and result["started"] >= (since or "")
    ]
    if style == "json":
        click.echo(json.dumps(found, indent=1))
    elif style == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows([_field(result, column) for column in _COLUMNS] for result in found)
        click.echo(out.getvalue(), nl=False)
    else:
        body = [[_shown(result, column) for column in _COLUMNS] for result in found]
        click.echo(tabulate(body, _COLUMNS, "github", disable_numparse=True))


def _field(result: dict[str, Any], column: str) -> Any:
    value = result.get(column, "")
    return printable(value, 200) if isinstance(value, str) else value


def _shown(result: dict[str, Any], column: str) -> str:
    value = _field(result, column)
    if column in ("top1", "top5"):
        return f"{value:.2f}"
    return str(value)[:19] if column == "started" else str(value)
