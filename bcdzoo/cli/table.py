"""``bcdzoo table``."""

from pathlib import Path
from typing import Any

import click

from bcdzoo.bench.store import read_benchmarks
from bcdzoo.cli.options import COLUMN, FILE, MODEL, PATTERN, build_settings, convention_option, format_option
from bcdzoo.evaluation.store import read_results
from bcdzoo.ops.conventions import find_convention
from bcdzoo.report import beyond, reproduced, speeds, tables
from bcdzoo.report.sheets import STYLES
from bcdzoo.text import near_ones, printable


@click.command("table")
@click.argument("patterns", type=PATTERN, nargs=-1, metavar="[MODEL]...")
@click.option(
    "--which",
    type=click.Choice(["1", "2", "all", "beyond", "cifar10", "mnist", "reproduced"]),
    default="all",
    show_default=True,
    help="Table 1 or 2 of the paper, or both (all); beyond: other ImageNet networks, by backbone; cifar10 or mnist: "
    "their networks; reproduced: published accuracies that were measured again. Where a MODEL is named, all but the "
    "last are searched.",
)
@format_option(*STYLES)
@click.option("--columns", type=COLUMN, metavar="NAME,…", help="Columns to show in this order: keys of --format json.")
@click.option("--sort", type=COLUMN, metavar="NAME[:desc]", help="Column to sort each table by; missing values last.")
@convention_option(default=None)
@click.option("--row", "own", type=MODEL, multiple=True, help="Network to add as a row, counted now; repeatable.")
@click.option("--rows", "file", type=FILE, metavar="FILE", help="TOML file of published figures to add as rows.")
@build_settings
@click.pass_context
def command(
    ctx: click.Context,
    patterns: tuple[str, ...],
    which: str,
    columns: str | None,
    sort: str | None,
    convention: str | None,
    own: tuple[str, ...],
    file: str | None,
    style: str,
    build: dict[str, Any],
) -> None:
    """Print the paper's comparison tables: published numbers beside computed and measured ones.

    MODEL narrows them to some networks: a name or a pattern such as 'bcdnet*'. Rows of your own follow in a table of
    theirs: a network to count (--row, or package.module:callable as MODEL; built with --set), or [[row]] tables in a
    file with the keys of bcdzoo/report/published.toml (--rows).
    """
    only_own = bool(patterns) and all(":" in pattern for pattern in patterns)
    own += tuple(pattern for pattern in patterns if ":" in pattern)
    patterns = tuple(pattern for pattern in patterns if ":" not in pattern)
    if build and not own:
        raise click.UsageError("--set is for the networks of --row")
    results = read_results()
    if which == "reproduced":
        if own or file or columns or sort or convention:
            raise click.UsageError("--which reproduced takes MODEL and --format; other options are for other tables")
        click.echo(reproduced.render(tables.matching(reproduced.reproduced(results), patterns), style))
        return
    rules = find_convention(convention) if convention is not None else None
    alone = which == "beyond"
    known = beyond.beyond_fields(rules) if alone else tables.fields(rules)
    shown = [_known(name, known, "--columns") for name in columns.split(",")] if columns is not None else None
    if shown and len({*shown}) < len(shown):
        raise click.BadParameter("a column is named twice", param_hint="--columns")
    by, _, direction = (sort or "").partition(":")
    if direction not in ("", "asc", "desc"):
        raise click.BadParameter(f"{printable(repr(direction), 60)} is neither asc nor desc", param_hint="--sort")
    key = _known(by, known, "--sort") if sort is not None else ""

    chosen: dict[str, tuple[tables.Table, ...]] = {"1": (1,), "2": (2,), "all": (1, 2)}
    asked = ctx.get_parameter_source("which") != click.core.ParameterSource.DEFAULT
    searched = chosen.get(which, (which,)) if asked or not patterns else tables.SHIPPED
    searched = () if only_own and not asked else searched
    measured = speeds.comparable(read_benchmarks())
    found = speeds.with_speeds(tables.rows(searched, results, rules), measured)
    if own or file:
        from bcdzoo.report.own_rows import counted_row, rows_of_file

        counted = [counted_row(model, build, results, rules) for model in dict.fromkeys(own)]
        found += speeds.with_speeds(counted, measured, build)
        found += speeds.with_speeds(rows_of_file(Path(file), results, rules), measured) if file else []
    found = tables.matching(found, patterns)
    found = beyond.by_backbone(beyond.with_facts(found)) if alone else found
    found = tables.arranged(found, key, direction == "desc") if key else found
    notes = [speeds.note(measured)] if any(row["measured_ms"] for row in found) else []
    click.echo((beyond if alone else tables).render(found, style, shown, rules, notes))


def _known(name: str, known: dict[str, tables.Field], option: str) -> str:
    key = name.strip().lower().replace("-", "_")
    if key not in known:
        near = near_ones(key, known)
        hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known)}"
        raise click.BadParameter(f"no column {printable(repr(name), 60)}; {hint}", param_hint=option)
    return key
