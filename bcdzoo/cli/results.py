"""``bcdzoo results``."""

import csv
import fnmatch
import io
import json
from typing import Any

import click

from bcdzoo.bench.machine import described
from bcdzoo.bench.store import models_of, read_benchmarks, remove_benchmark
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
_BENCHMARK_COLUMNS = (
    Column("id"),
    Column("models"),
    Column("images at once", right=True),
    Column("threads", right=True),
    Column("load", right=True, rank=1),
    Column("started (UTC)"),
    Column("machine", rank=2),
)
_LONGEST = {"model": 28, "label": 20, "dataset": 14, "weights": 20}  # so that a run is a line of 100 characters


@click.command("results")
@click.argument("words", nargs=-1, metavar="[PATTERN] | rm RUN...")
@click.option("--dataset", help="Show only runs on this data set, such as imagenet.")
@click.option("--since", metavar="DATE", help="Show only runs started on or after this date, such as 2026-11-01.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Show only the latest N runs.")
@click.option("--benchmarks", is_flag=True, help="List what `bcdzoo bench --store` has stored instead.")
@format_option("text", "markdown", "csv", "json")
def command(
    words: tuple[str, ...], dataset: str | None, since: str | None, limit: int | None, benchmarks: bool, style: str
) -> None:
    """List evaluation runs in the results store, oldest first, of networks whose names match PATTERN.

    `bcdzoo results rm RUN...` deletes runs with their predictions, or benchmarks. A RUN is an id from the first column,
    the label that `bcdzoo eval --label` gave, or a run's name or the beginning of it; `bcdzoo compare` takes the same.
    """
    if words[:1] == ("rm",):
        if dataset or since or limit or benchmarks:
            raise click.UsageError("rm takes runs; --dataset, --since, --limit and --benchmarks are for listing")
        if len(words) == 1:
            raise click.UsageError("rm: name a run")
        _remove(words[1:])
        return
    if len(words) > 1:
        raise click.UsageError(f"one PATTERN at a time: {printable(' '.join(words), 100)}")
    pattern = words[0] if words else "*"
    pattern = (pattern if is_pattern(pattern) else zoo_name(pattern)).lower()
    if benchmarks:
        if dataset or style == "csv":
            raise click.UsageError("benchmarks have no data set, and are listed as text, markdown or JSON")
        _list_benchmarks(pattern, since or "", limit, style)
        return
    stored = read_results()
    found = [
        result | {"id": run_id(result["run"])}
        for result in stored
        if fnmatch.fnmatch(result["model"].lower(), pattern)
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


def _list_benchmarks(pattern: str, since: str, limit: int | None, style: str) -> None:
    stored = read_benchmarks()
    found = [
        benchmark | {"id": run_id(benchmark["run"])}
        for benchmark in stored
        if any(fnmatch.fnmatch(model.lower(), pattern) for model in models_of(benchmark))
        and benchmark["started"] >= since
    ]
    found = found[-limit:] if limit else found
    if style == "json":
        click.echo(json.dumps(found, indent=1))
    elif not found and style == "text":
        click.echo("no benchmarks" + " that match" * bool(stored) + ": `bcdzoo bench MODEL... --store` stores them")
    else:
        click.echo(table(_BENCHMARK_COLUMNS, [_shown_benchmark(benchmark) for benchmark in found], style))


def _shown_benchmark(benchmark: dict[str, Any]) -> list[str]:
    records, of = benchmark["records"], benchmark["machine"]
    models = models_of(benchmark)
    more = f" and {len(models) - 1} more" if len(models) > 1 else ""
    return [
        benchmark["id"],
        printable(models[0], _LONGEST["model"]) + more,
        *(", ".join(map(str, sorted({record[key] for record in records}))) for key in ("batch_size", "threads")),
        f"{of['load_before']:.1f}",
        benchmark["started"][:16].replace("T", " "),
        printable(described(of), 200),
    ]


def _remove(references: tuple[str, ...]) -> None:
    stored = [*read_results(), *read_benchmarks()]
    found = {run["run"]: run for run in (find_run(reference, stored) for reference in references)}
    for run in found.values():  # all are known before any is gone
        for path in [remove_benchmark(run)] if "records" in run else remove_run(run):
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
