"""``bcdzoo results``."""

import csv
import fnmatch
import io
import json
from typing import Any

import click

from bcdzoo.cli.options import format_option
from bcdzoo.data.preprocess import DECODERS
from bcdzoo.evaluation.store import decoder_of, find_run, read_results, remove_run, run_id
from bcdzoo.registry import is_pattern, zoo_name
from bcdzoo.text import printable
from bcdzoo.text_table import Column, table

_CSV = (
    "run", "model", "weights", "backend", "precision", "device", "dataset", "n", "top1", "top5",
    "preprocess", "started", "id", "label", "decoder",
)  # fmt: skip

_COLUMNS = (
    Column("id"),
    Column("model"),
    Column("label", rank=2),
    Column("Top-1", right=True),
    Column("Top-5", right=True, rank=3),
    Column("images", right=True),
    Column("data", rank=1),
    Column("weights", rank=4),
    Column("mode", rank=3),
    Column("started (UTC)", rank=1),
    Column("device", rank=5),
    Column("preprocessing", rank=6),
)
_LONGEST = {"model": 28, "label": 20, "dataset": 14, "weights": 20}  # so that a run is a line of 100 characters


@click.command("results")
@click.argument("words", nargs=-1, metavar="[PATTERN] | rm RUN...")
@click.option("--dataset", help="Show only runs on this data set, such as imagenet.")
@click.option("--since", metavar="DATE", help="Show only runs started on or after this date, such as 2026-11-01.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Show only the latest N runs.")
@format_option("text", "markdown", "csv", "json")
def command(words: tuple[str, ...], dataset: str | None, since: str | None, limit: int | None, style: str) -> None:
    """List evaluation runs in the results store, oldest first, of networks whose names match PATTERN.

    `bcdzoo results rm RUN...` deletes runs with their predictions. A RUN is an id from the first column, the label that
    `bcdzoo eval --label` gave, or a run's name or the beginning of it; `bcdzoo compare` takes the same.
    """
    if words[:1] == ("rm",):
        if dataset or since or limit:
            raise click.UsageError("rm takes runs; --dataset, --since and --limit are for listing")
        if len(words) == 1:
            raise click.UsageError("rm: name a run")
        _remove(words[1:])
        return
    if len(words) > 1:
        raise click.UsageError(f"one PATTERN at a time: {printable(' '.join(words), 100)}")
    pattern = words[0] if words else "*"
    pattern = pattern if is_pattern(pattern) else zoo_name(pattern)
    stored = read_results()
    found = [
        result | {"id": run_id(result["run"])}
        for result in stored
        if fnmatch.fnmatch(result["model"].lower(), pattern.lower())
        and dataset in (None, result["dataset"])
        and result["started"] >= (since or "")
    ]
    found = found[-limit:] if limit else found
    if style == "json":
        click.echo(json.dumps(found, indent=1))
    elif style == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(_CSV)
        writer.writerows([_field(result, column) for column in _CSV] for result in found)
        click.echo(out.getvalue(), nl=False)
    elif not found and style == "text":
        click.echo("no runs" + " that match" * (len(found) < len(stored)) + ": `bcdzoo eval` stores them")
    else:
        shown = [_shown(result) for result in found]
        used = [i for i, column in enumerate(_COLUMNS) if column.head != "label" or any(row[i] for row in shown)]
        click.echo(table([_COLUMNS[i] for i in used], [[row[i] for i in used] for row in shown], style))


def _remove(runs: tuple[str, ...]) -> None:
    found = {result["run"]: result for result in map(find_run, runs)}  # all are known before any is gone
    for result in found.values():
        for path in remove_run(result):
            click.echo(printable(f"deleted {path}"))


def _field(result: dict[str, Any], column: str) -> Any:
    value = result.get(column, "")
    return printable(value, 200) if isinstance(value, str) else value


def _shown(result: dict[str, Any]) -> list[str]:
    short = {key: printable(result.get(key) or "", longest) for key, longest in _LONGEST.items()}
    return [
        result["id"],
        short["model"],
        short["label"],
        f"{result['top1']:.2f}",
        f"{result['top5']:.2f}",
        str(result["n"]),
        short["dataset"],
        short["weights"],
        _mode(result),
        result["started"][:16].replace("T", " "),
        str(result.get("device", "")),
        str(result.get("preprocess", "")),
    ]


def _mode(result: dict[str, Any]) -> str:
    words = [result["backend"] if result["backend"] != "torch" else result.get("precision", "float32")]
    words += [word for word in ("compiled", "channels_last") if result.get(word)]
    decoder = decoder_of(result)
    return "+".join(words if decoder == DECODERS[0] else [*words, printable(decoder, 20)])
