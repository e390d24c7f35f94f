"""``bcdzoo list``."""

import json
from pathlib import Path

import click

from bcdzoo.cli.options import PATTERN, format_option, manifest_option
from bcdzoo.errors import BcdzooError
from bcdzoo.registry import find, is_pattern, list_models
from bcdzoo.report.listing import summary
from bcdzoo.text_table import Column, table
from bcdzoo.weights.manifest import load_manifest

_COLUMNS = (
    Column("model"),
    Column("W/A"),
    Column("parameters", right=True, rank=2),
    Column("OPs", right=True, rank=1),
    Column("OPs †", right=True, rank=3),
    Column("data", rank=2),
    Column("Top-1", right=True),
    Column("Top-5", right=True, rank=4),
    Column("checkpoint", rank=1),
    Column("licence", rank=5),
)


@click.command("list")
@click.argument("pattern", type=PATTERN, default="*")
@manifest_option
@format_option("text", "markdown", "json")
def command(pattern: str, manifest: Path | None, style: str) -> None:
    """List the networks of the zoo whose names match PATTERN, such as 'bcdnet*'.

    Top-1 and Top-5 are published, on the data set's test images; OPs are counted here, † under the dagger convention. A
    checkpoint is cached (on this machine), public (can be fetched) or none (train it, or pass your own with --weights).
    """
    known = load_manifest(manifest)
    names = list_models(pattern) if is_pattern(pattern) else [find(pattern).name]
    if not names:
        raise BcdzooError(f"no network's name matches {pattern!r}: `bcdzoo list` shows all")
    entries = [summary(known, model) for model in names]
    if style == "json":
        click.echo(json.dumps(entries, indent=1))
        return
    body = [
        (
            entry["model"],
            entry["wa"],
            _short(entry["params"], 6, 1),
            _short(entry["ops"], 8, 2),
            _short(entry["ops_dagger"], 8, 2),
            entry["dataset"],
            str(entry["top1"] or "–"),
            str(entry["top5"] or "–"),
            entry["checkpoint"],
            entry["license"] or "–",
        )
        for entry in entries
    ]
    click.echo(table(_COLUMNS, body, style))


def _short(number: int, exponent: int, digits: int) -> str:
    """In units of a power of ten, or as it is where that would leave nothing of it."""
    text = f"{number / 10**exponent:.{digits}f}"
    return f"{text}e{exponent}" if float(text) else f"{number:,}"
