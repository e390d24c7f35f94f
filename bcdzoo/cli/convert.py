"""``bcdzoo convert``."""

from pathlib import Path
from typing import Any

import click

from bcdzoo.cli.options import FILE, MODEL, PRESET, build_settings


@click.command("convert")
@click.argument("src", type=FILE)
@click.option("--model", type=MODEL, required=True, help="The network of the zoo it is for.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="The .safetensors file to write.")
@click.option(
    "--preprocess", type=PRESET, metavar="PRESET|SPEC", help="What the weights were trained for; kept in the file."
)
@click.option(
    "--class-names",
    type=click.Path(path_type=Path),
    help="The classes' names in the order of the outputs, a line each; kept in the file.",
)
@build_settings
def command(
    src: str, model: str, out: Path, preprocess: str | None, class_names: Path | None, build: dict[str, Any]
) -> None:
    """Convert SRC, a checkpoint of the network's authors, to this zoo's safetensors, strictly.

    SRC#NAME is one of several tables of weights in SRC, such as model.pth#state_dict_ema.
    """
    from bcdzoo.weights.load import convert
    from bcdzoo.weights.metadata import read_class_names

    names = read_class_names(class_names) if class_names else None
    convert(src, model, out, preprocess, class_names=names, **build)
    click.echo(out)
