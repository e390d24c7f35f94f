"""Options for networks of one's own beside the published ones."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from bcdzoo.cli.options import FILE, MODEL, build_settings
from bcdzoo.ops.conventions import Convention
from bcdzoo.report.sheets import Row


def own_rows_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--row``, ``--rows`` and ``--set``, which become ``own``, ``file`` and ``build``."""
    command = build_settings(command)
    command = click.option(
        "--rows", "file", type=FILE, metavar="FILE", help="TOML file of published figures to add (bcdzoo table --help)."
    )(command)
    return click.option(
        "--row",
        "own",
        type=MODEL,
        multiple=True,
        help="Network to add, counted now: a zoo network or package.module:callable, built with --set; repeatable.",
    )(command)


def own_rows(
    own: Sequence[str],
    file: str | None,
    build: dict[str, Any],
    results: Sequence[dict[str, Any]],
    convention: Convention | None = None,
) -> list[Row]:
    """The rows that the options ask for, under a counting convention or both of the papers.

    Raises:
        UsageError: ``--set`` without ``--row``.
        BcdzooError: A network cannot be counted, or the file is wrong.
    """
    if build and not own:
        raise click.UsageError("--set is for the networks of --row")
    if not own and not file:
        return []
    from bcdzoo.report.own_rows import counted_row, rows_of_file

    rows = [counted_row(model, build, results, convention) for model in own]
    return rows + (rows_of_file(Path(file), results, convention) if file else [])
