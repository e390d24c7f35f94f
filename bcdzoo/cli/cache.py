"""``bcdzoo cache``."""

import json

import click

from bcdzoo.cli.options import format_option
from bcdzoo.files import cache_dir
from bcdzoo.text import printable, say
from bcdzoo.text_table import Column, table

_COLUMNS = (
    Column("what"),
    Column("of", fold=True),
    Column("MB", right=True),
    Column("written", rank=1),
    Column("can go because", rank=2, fold=True),
)


@click.command("cache")
@click.option("--prune", is_flag=True, help="Delete what has a reason in the last column.")
@format_option("text", "markdown", "json")
def command(prune: bool, style: str) -> None:
    """Show what takes space on the disk: checkpoints, prepared images, unfinished runs and leftovers.

    --prune deletes what nobody needs: leftovers of interrupted commands, and prepared images that are damaged or of
    other versions of the libraries. What another process is at stays.
    """
    from bcdzoo.storage import remove, stored

    found = stored()
    if prune:
        needless = [each for each in found if each.needless]
        found = [each for each in needless if remove(each)]
        for each in needless:
            if each not in found:
                say(f"{each.kind} of {each.name} stays: another process is at it")
    if style == "json":
        keys = ("kind", "name", "size", "needless")
        records = [{key: getattr(each, key) for key in keys} | {"paths": [*map(str, each.paths)]} for each in found]
        click.echo(json.dumps(records, indent=1))
        return
    body = [(each.kind, each.name, f"{each.size / 1e6:.1f}", each.day, each.needless) for each in found]
    click.echo(table(_COLUMNS, body, style))
    total = sum(each.size for each in found) / 1e6
    click.echo(f"\n{total:.1f} MB {'deleted from' if prune else 'in'} {printable(cache_dir())}")
