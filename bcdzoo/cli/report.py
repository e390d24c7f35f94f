"""``bcdzoo report``."""

import sys
from pathlib import Path

import click

from bcdzoo.cli.options import out_option


@click.command("report")
@out_option("Output file (.html).", default=Path("report.html"))
def command(out: Path) -> None:
    """Write one page with the tables, the figures, every network layer by layer, the stored runs and their comparisons.

    The file is self-contained and works offline. Every network of the zoo is counted for it.
    """
    from tqdm import tqdm

    from bcdzoo.evaluation.store import read_results
    from bcdzoo.files import atomic_write
    from bcdzoo.report.page.build import report

    page = report(read_results(), lambda names: tqdm(names, "counting", disable=None, file=sys.stderr))
    with atomic_write(out) as temporary:
        temporary.write_text(page, encoding="utf-8")
    click.echo(out)
