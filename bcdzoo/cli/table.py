"""``bcdzoo table``."""

import click

from bcdzoo.cli.options import format_option
from bcdzoo.evaluation.store import read_results
from bcdzoo.report.tables import Table, render, rows


@click.command("table")
@click.option(
    "--which",
    type=click.Choice(["1", "2", "all", "beyond"]),
    default="all",
    show_default=True,
    help="Table 1 or 2 of the paper, or both (all); beyond: networks that are in neither.",
)
@format_option("text", "markdown", "latex", "csv", "json", "html")
def command(which: str, style: str) -> None:
    """Print the paper's comparison tables: published numbers beside computed and measured ones."""
    chosen: dict[str, tuple[Table, ...]] = {"1": (1,), "2": (2,), "all": (1, 2), "beyond": ("beyond",)}
    click.echo(render(rows(chosen[which], read_results()), style))
