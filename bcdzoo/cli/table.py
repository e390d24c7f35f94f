"""``bcdzoo table``."""

import click

from bcdzoo.evaluation.store import read_results
from bcdzoo.report.tables import render, rows


@click.command("table")
@click.option("--which", type=click.Choice(["1", "2", "all"]), default="all", show_default=True, help="Of the paper's.")
@click.option(
    "--format",
    "style",
    type=click.Choice(["github", "latex", "csv", "json", "html"]),
    default="github",
    show_default=True,
)
def command(which: str, style: str) -> None:
    """The paper's comparison tables: published numbers, and beside them the computed and measured ones."""
    chosen = (1, 2) if which == "all" else (int(which),)
    click.echo(render(rows(chosen, read_results()), style))
