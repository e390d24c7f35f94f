"""``bcdzoo list``."""

import json
from pathlib import Path

import click
from tabulate import tabulate

from bcdzoo.cli.options import MODEL
from bcdzoo.registry import list_models
from bcdzoo.report.listing import summary
from bcdzoo.weights.manifest import load_manifest

_HEADERS = ("model", "W/A", "parameters", "OPs", "OPs †", "data", "Top-1", "Top-5", "checkpoint", "licence")


@click.command("list")
@click.argument("pattern", type=MODEL, default="*")
@click.option("--manifest", type=click.Path(path_type=Path), help="File with additional weight entries.")
@click.option("--format", "style", type=click.Choice(["github", "json"]), default="github", show_default=True)
def command(pattern: str, manifest: Path | None, style: str) -> None:
    """List the networks of the zoo whose names match PATTERN, such as 'bcdnet*'.

    Top-1 and Top-5 are published, on the data set's test images; OPs are counted here, † under the dagger convention. A
    checkpoint is cached (on this machine), public (can be fetched) or none (train it, or pass your own with --weights).
    """
    known = load_manifest(manifest)
    entries = [summary(known, model) for model in list_models(pattern)]
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
            entry["top1"] or "–",
            entry["top5"] or "–",
            entry["checkpoint"],
            entry["license"] or "–",
        )
        for entry in entries
    ]
    align = ("left", "left", "right", "right", "right", "left", "right", "right", "left", "left")
    click.echo(tabulate(body, _HEADERS, "github", disable_numparse=True, colalign=align if body else None))


def _short(number: int, exponent: int, digits: int) -> str:
    """In units of a power of ten, or as it is where that would leave nothing of it."""
    text = f"{number / 10**exponent:.{digits}f}"
    return f"{text}e{exponent}" if float(text) else f"{number:,}"
