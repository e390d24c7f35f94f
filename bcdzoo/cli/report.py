"""``bcdzoo report``."""

import sys
from pathlib import Path
from typing import Any

import click

from bcdzoo.cli.options import out_option
from bcdzoo.cli.own_rows import own_rows, own_rows_options


@click.command("report")
@own_rows_options
@out_option("Output file (.html).", default=Path("report.html"))
def command(own: tuple[str, ...], file: str | None, build: dict[str, Any], out: Path) -> None:
    """Write one page with the tables, the figures, every network layer by layer, the stored runs and their comparisons.

    The file is self-contained and works offline. Every network of the zoo is counted for it. Rows of your own (--row,
    --rows) follow in a table of theirs and in the figures.
    """
    from tqdm import tqdm

    from bcdzoo.bench.store import read_benchmarks
    from bcdzoo.evaluation.store import read_results
    from bcdzoo.files import atomic_write
    from bcdzoo.report.page.build import report

    results = read_results()
    mine = own_rows(own, file, build, results)
    counted = [(model, build) for model in own]
    benchmarks = read_benchmarks()
    page = report(
        results, mine, counted, lambda names: tqdm(names, "counting", disable=None, file=sys.stderr), benchmarks
    )
    with atomic_write(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    click.echo(out)
