"""``bcdzoo count-ops``."""

from itertools import product
from typing import Any

import click

from bcdzoo.cli.options import FILE, PATTERN, PRESET, build_settings, convention_option, format_option
from bcdzoo.errors import BcdzooError
from bcdzoo.ops.conventions import find_convention
from bcdzoo.registry import is_pattern, list_models
from bcdzoo.text import printable


@click.command("count-ops")
@click.argument("models", type=PATTERN, nargs=-1, required=True, metavar="MODEL...")
@convention_option(multiple=True)
@click.option(
    "--per-layer/--total",
    default=None,
    help="One line per layer, or only the totals; default: per layer for one count, totals for several.",
)
@click.option(
    "--input-size",
    "sizes",
    type=click.IntRange(1),
    multiple=True,
    help="Image side in pixels; default: the network's own; repeatable.",
)
@click.option(
    "--data",
    type=FILE,
    metavar="PATH",
    help="Images on which to observe the bits of your own network; one random image if omitted.",
)
@click.option(
    "--preprocess",
    type=PRESET,
    metavar="PRESET|SPEC",
    help="Preprocessing of --data, such as resize=256,crop=224.",
)
@format_option("text", "markdown", "csv", "json")
@build_settings
def command(
    models: tuple[str, ...],
    conventions: tuple[str, ...],
    per_layer: bool | None,
    sizes: tuple[int, ...],
    data: str | None,
    preprocess: str | None,
    style: str,
    build: dict[str, Any],
) -> None:
    """Count BOPs, FLOPs and OPs of MODEL for one image.

    MODEL is a network of the zoo, a pattern such as 'reactnet-*', a QONNX file (.onnx), or package.module:callable,
    which is called to build your own. Several networks, conventions or sizes are one table, with a line for each
    combination.
    """
    found = [find_convention(one) for one in conventions]
    rules = list({one.name: one for one in found}.values())
    if clash := [one.name for one in found if one not in rules]:
        raise click.UsageError(f"two conventions are called {printable(clash[0], 60)}")
    names = _names(models)
    from bcdzoo.ops.count import OpsReport, count_ops
    from bcdzoo.ops.show import show, show_several
    from bcdzoo.text import say

    several = is_pattern("".join(models)) or max(len(names), len(rules), len(set(sizes))) > 1
    reports: list[OpsReport] = []
    failures: list[str] = []
    for name, size in product(names, dict.fromkeys(sizes) or [None]):
        try:
            counted = count_ops(name, rules[0], size, data=data, preprocess=preprocess, **build)
        except BcdzooError as error:
            failures.append(str(error) if not several or name in str(error) else f"{printable(name, 100)}: {error}")
        else:
            reports += [counted.under(one) for one in rules]
    if style == "csv":
        for warning in dict.fromkeys(warning for report in reports for warning in report.warnings):
            say(warning)
    if reports and several:
        click.echo(show_several(reports, style, bool(per_layer)))
    elif reports:
        click.echo(show(reports[0], style, per_layer is not False))
    if failures:
        raise BcdzooError("; ".join(failures))


def _names(models: tuple[str, ...]) -> list[str]:
    """The networks, each once: a pattern is those of the zoo that match it."""
    names: dict[str, None] = {}
    for model in models:
        matching = list_models(model) if is_pattern(model) and ":" not in model else [model]
        if not matching:
            raise BcdzooError(f"no network's name matches {printable(repr(model), 100)}: `bcdzoo list` shows all")
        names |= dict.fromkeys(matching)
    return list(names)
