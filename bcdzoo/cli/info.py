"""``bcdzoo info``."""

import json
from pathlib import Path
from typing import Any

import click

from bcdzoo.cli.options import MODEL, format_option, manifest_option
from bcdzoo.evaluation.store import read_results
from bcdzoo.ops.conventions import CONVENTIONS
from bcdzoo.report.listing import details
from bcdzoo.text import masked, printable
from bcdzoo.text_table import facts
from bcdzoo.weights.manifest import load_manifest


@click.command("info")
@click.argument("model", type=MODEL)
@manifest_option
@format_option("text", "json")
def command(model: str, manifest: Path | None, style: str) -> None:
    """Show all that is known about MODEL: paper, operations, published and measured accuracy, checkpoints, licences."""
    known = details(load_manifest(manifest), model, read_results())
    if style == "json":
        click.echo(json.dumps(known, indent=1))
        return
    counted = {
        name: {CONVENTIONS[name].called[what].lower(): number for what, number in totals.items()}
        for name, totals in known["counts"].items()
    }
    click.echo("\n".join(_lines(known | {"counts": counted}, "")))


def _lines(known: dict[str, Any], indent: str) -> list[str]:
    lines = []
    for key, value in known.items():
        if isinstance(value, list):
            for item in value:
                lines += [f"{indent}{key.removesuffix('s')}", *_lines(item, indent + "  ")]
        elif isinstance(value, dict) and value:
            lines += [f"{indent}{key}", *_lines(value, indent + "  ")]
        elif value not in (None, {}):
            text = f"{value:,}" if isinstance(value, int) else printable(masked(value))
            lines.append(facts(f"{indent}{key:<13} {text}", len(indent) + 14))
    return lines
