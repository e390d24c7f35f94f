"""``bcdzoo table``."""

import click

from bcdzoo.evaluation.store import read_results
from bcdzoo.report import reproduced, tables
from bcdzoo.report.sheets import STYLES


@click.command("table")
@click.option(
    "--which",
    type=click.Choice(["1", "2", "all", "beyond", "cifar10", "mnist", "reproduced"]),
    default="all",
    show_default=True,
    help="Table 1 or 2 of the paper, or both (all); beyond: other ImageNet networks; cifar10 or mnist: their networks; "
    "reproduced: published accuracies that were measured again.",
)
@click.option("--format", "style", type=click.Choice(STYLES), default="github", show_default=True)
def command(which: str, style: str) -> None:
    """Print the paper's comparison tables: published numbers beside computed and measured ones."""
    results = read_results()
    if which == "reproduced":
        click.echo(reproduced.render(reproduced.reproduced(results), style))
        return
    chosen: dict[str, tuple[tables.Table, ...]] = {"1": (1,), "2": (2,), "all": (1, 2)}
    click.echo(tables.render(tables.rows(chosen.get(which, (which,)), results), style))
