"""``bcdzoo audit``."""

import json
from pathlib import Path
from typing import Any

import click

from bcdzoo.cli.options import CHECKPOINT, FILE, PRESET, WEIGHTS, build_settings


@click.command("audit")
@click.argument("model", type=CHECKPOINT, metavar="CHECKPOINT|MODEL")
@click.option(
    "--data",
    type=FILE,
    metavar="PATH",
    help="Images in any layout; without, networks for 28×28 get the demo's.",
)
@click.option("--layout", metavar="LAYOUT", help="Of the data, where it should not be found out.")
@click.option("--images", type=click.IntRange(1), default=32, show_default=True, help="How many to run, spread evenly.")
@click.option(
    "--weights", type=WEIGHTS, metavar="FILE|TAG", help="In place of the default weights; see `bcdzoo info MODEL`."
)
@click.option("--manifest", type=click.Path(path_type=Path), help="A file of additional weights' entries.")
@click.option(
    "--preprocess",
    type=PRESET,
    metavar="PRESET|SPEC",
    help="In place of the weights' own, such as resize=256,crop=224.",
)
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@build_settings
def command(model: str, style: str, build: dict[str, Any], **options: Any) -> None:
    """Whether a network is really binary: what each of its layers multiplies, seen while it runs on real images.

    The argument is a .safetensors file of the zoo's, the name of a network, or package.module:callable for anybody's
    own. Without images only the weights are looked at.
    """
    from bcdzoo.audit.run import audit
    from bcdzoo.audit.show import as_json, as_text

    found = audit(model, **options, **build)
    click.echo(json.dumps(as_json(found), indent=1) if style == "json" else as_text(found))
