"""``bcdzoo explain``."""

import json
from typing import Any

import click

from bcdzoo.cli.options import MODEL, build_settings, convention_option, format_option
from bcdzoo.ops.conventions import find_convention


@click.command("explain")
@click.argument("model", type=MODEL)
@convention_option(default=None)
@click.option("--input-size", type=click.IntRange(1), help="Image side in pixels; default: the network's own.")
@format_option("text", "markdown", "json")
@build_settings
def command(model: str, convention: str | None, input_size: int | None, style: str, build: dict[str, Any]) -> None:
    """Explain why published and computed operations of MODEL differ, figure by figure, and whose top-1 is which.

    MODEL is a network of the zoo, or package.module:callable, of which is said what is counted and where.
    """
    rules = find_convention(convention) if convention is not None else None
    from bcdzoo.evaluation.store import read_results
    from bcdzoo.report.explain import explain, show
    from bcdzoo.report.sheets import plain

    facts = explain(model, rules, input_size, read_results(), **build)
    click.echo(json.dumps(facts, indent=1, default=plain) if style == "json" else show(facts, style))
