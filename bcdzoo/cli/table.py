"""``bcdzoo table``."""

from pathlib import Path
from typing import Any

import click

from bcdzoo.cli.options import FILE, MODEL, build_settings, format_option
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
@format_option(*STYLES)
@click.option("--row", "own", type=MODEL, multiple=True, help="Network to add as a row, counted now; repeatable.")
@click.option("--rows", "file", type=FILE, metavar="FILE", help="TOML file of published figures to add as rows.")
@build_settings
def command(which: str, own: tuple[str, ...], file: str | None, style: str, build: dict[str, Any]) -> None:
    """Print the paper's comparison tables: published numbers beside computed and measured ones.

    Rows of your own follow in a table of theirs: a zoo network or package.module:callable (--row, built with --set),
    or [[row]] tables in a file with the keys of bcdzoo/report/published.toml (--rows).
    """
    if build and not own:
        raise click.UsageError("--set is for the networks of --row")
    results = read_results()
    if which == "reproduced":
        if own or file:
            raise click.UsageError("--row and --rows add to the other tables")
        click.echo(reproduced.render(reproduced.reproduced(results), style))
        return
    chosen: dict[str, tuple[tables.Table, ...]] = {"1": (1,), "2": (2,), "all": (1, 2)}
    found = tables.rows(chosen.get(which, (which,)), results)
    if own or file:
        from bcdzoo.report.own_rows import counted_row, rows_of_file

        found += [counted_row(model, build, results) for model in own]
        found += rows_of_file(Path(file), results) if file else []
    click.echo(tables.render(found, style))
