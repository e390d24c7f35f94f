"""``bcdzoo count-ops``."""

from typing import Any

import click

from bcdzoo.cli.options import FILE, MODEL, PRESET, build_settings, format_option


@click.command("count-ops")
@click.argument("model", type=MODEL)
@click.option(
    "--convention",
    type=click.Choice(["full", "dagger"]),
    default="full",
    show_default=True,
    help="What counts as a FLOP (docs/counting.md).",
)
@click.option("--per-layer/--total", default=True, show_default=True, help="One line per layer, or only the totals.")
@click.option("--input-size", type=click.IntRange(1), help="Image side in pixels; default: the network's own.")
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
    model: str,
    convention: str,
    per_layer: bool,
    input_size: int | None,
    data: str | None,
    preprocess: str | None,
    style: str,
    build: dict[str, Any],
) -> None:
    """Count BOPs, FLOPs and OPs of MODEL for one image.

    MODEL is a network of the zoo, or package.module:callable, which is called to build your own.
    """
    from bcdzoo.ops.count import count_ops
    from bcdzoo.ops.show import show
    from bcdzoo.text import say

    report = count_ops(model, convention, input_size, data=data, preprocess=preprocess, **build)
    if style == "csv":
        for warning in report.warnings:
            say(warning)
    click.echo(show(report, style, per_layer))
