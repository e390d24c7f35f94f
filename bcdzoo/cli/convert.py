"""``bcdzoo convert``."""

from pathlib import Path
from typing import Any

import click

from bcdzoo.cli.options import FILE, MODEL, PRESET, build_settings, out_option


@click.command("convert")
@click.argument("src", type=FILE)
@click.option("--model", type=MODEL, required=True, help="Network of the zoo that the weights are for.")
@out_option("Output file (.safetensors).", required=True)
@click.option(
    "--preprocess",
    type=PRESET,
    metavar="PRESET|SPEC",
    help="Preprocessing that the weights were trained with; stored in the file.",
)
@click.option(
    "--class-names",
    type=click.Path(path_type=Path),
    help="File with one class name per line, in the order of the outputs; stored in the weights' file.",
)
@build_settings
def command(
    src: str, model: str, out: Path, preprocess: str | None, class_names: Path | None, build: dict[str, Any]
) -> None:
    """Convert SRC, a checkpoint from the network's authors, to this zoo's safetensors; every key must fit.

    SRC#NAME selects one of several state dicts in SRC, such as model.pth#state_dict_ema.
    """
    from bcdzoo.weights.load import convert
    from bcdzoo.weights.metadata import read_class_names

    names = read_class_names(class_names) if class_names else None
    convert(src, model, out, preprocess, class_names=names, **build)
    click.echo(out)
