"""``bcdzoo convert``."""

from pathlib import Path
from typing import Any

import click

from bcdzoo.cli.options import MODEL, PRESET, build_settings


@click.command("convert")
@click.argument("src", type=click.Path(path_type=Path))
@click.option("--model", type=MODEL, required=True, help="The network of the zoo it is for.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .safetensors file to write.")
@click.option(
    "--preprocess", type=PRESET, metavar="PRESET|SPEC", help="What the weights were trained for; kept in the file."
)
@build_settings
def command(src: Path, model: str, out: Path, preprocess: str | None, build: dict[str, Any]) -> None:
    """Convert SRC, a checkpoint of the network's authors, to this zoo's safetensors, strictly."""
    from bcdzoo.weights.load import convert

    if preprocess:
        from bcdzoo.data.preprocess import parse

        parse(preprocess)
    convert(src, model, out, preprocess, **build)
    click.echo(out)
