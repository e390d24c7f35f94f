"""``bcdzoo compare``."""

import json
from pathlib import Path

import click

from bcdzoo.cli.options import RUN, format_option
from bcdzoo.errors import BcdzooError
from bcdzoo.text import printable
from bcdzoo.text_table import facts

_SHOWN = 10


@click.command("compare")
@click.argument("first", type=RUN, metavar="RUN[,RUN…]")
@click.argument("second", type=RUN, metavar="RUN[,RUN…]")
@click.option("--changed", type=click.Path(path_type=Path), help="CSV file for the images whose prediction differs.")
@format_option("text", "json")
def command(first: str, second: str, changed: Path | None, style: str) -> None:
    """Test whether one RUN is better than another on the same images, and show where they differ.

    A RUN is a network's name (its latest run in the store; the same name twice: its two latest), an id, a label or a
    run's name from `bcdzoo results` or its beginning, or a file with a result (.json) or predictions (.parquet).

    Two groups of runs, such as trainings with several seeds, are compared by their means: RUN,RUN,… against RUN,RUN,…,
    patterns of labels such as 'mine-seed*', or labels that several runs have.
    """
    from bcdzoo.evaluation.compare import compare
    from bcdzoo.evaluation.groups import compare_groups, is_group
    from bcdzoo.files import atomic_write

    if is_group(first) or is_group(second):
        if changed:
            raise click.UsageError("--changed is for two runs")
        groups = compare_groups(first, second)
        click.echo(json.dumps(groups.to_json(), indent=1) if style == "json" else facts(groups.summary(), 15))
        return
    comparison = compare(first, second)
    rows = comparison.changed
    if style == "json":
        click.echo(json.dumps(comparison.to_json() | {"images": rows.to_dict("records")}, indent=1))
    else:
        click.echo(facts(comparison.summary(), 15))
        for row in rows.head(_SHOWN).itertuples():
            name = printable(row.id, 200)
            click.echo(f"               {name}: label {row.label}, {row.first} → {row.second}, right: {row.right}")
        if len(rows) > _SHOWN and not changed:
            click.echo(f"               and {len(rows) - _SHOWN} more: --changed FILE lists them")
    if changed:  # last, so that the answer is printed even if the disk is full
        try:
            with atomic_write(changed) as temporary:
                rows.to_csv(temporary, index=False)
        except OSError as error:
            raise BcdzooError(f"cannot write {changed}: {error.strerror or error}") from None
