"""``bcdzoo audit``."""

import json
from typing import Any

import click

from bcdzoo.cli.options import (
    CHECKPOINT,
    FILE,
    build_settings,
    format_option,
    manifest_option,
    preprocess_option,
    weights_option,
)
from bcdzoo.errors import BcdzooError


@click.command("audit")
@click.argument("model", type=CHECKPOINT, metavar="CHECKPOINT|MODEL")
@click.option(
    "--data",
    type=FILE,
    metavar="PATH",
    help="Images in any layout; networks for 28×28 use the demo images if omitted.",
)
@click.option("--layout", metavar="LAYOUT", help="Data layout; detected if omitted.")
@click.option(
    "--images", type=click.IntRange(1), default=32, show_default=True, help="Number of images to run, evenly spaced."
)
@weights_option
@manifest_option
@preprocess_option
@click.option("--check", is_flag=True, help="Fail (exit code 1) unless the network has the bits that it claims.")
@format_option("text", "markdown", "json")
@build_settings
def command(model: str, check: bool, style: str, build: dict[str, Any], **options: Any) -> None:
    """Check whether a network is really binary: what each layer multiplies, observed while it runs on real images.

    The argument is one of the zoo's .safetensors files, the name of a network, a QONNX file (.onnx), or
    package.module:callable for your own. Without images only the weights are checked. The verdict is a result: the exit
    code is 0 whatever it says, unless --check is given. Networks that are not of the zoo claim to be binary.
    """
    from bcdzoo.audit.audit import audit
    from bcdzoo.audit.show import as_json, as_text

    found = audit(model, **options, **build)
    click.echo(json.dumps(as_json(found), indent=1) if style == "json" else as_text(found, style))
    if check and (reason := found.failure):
        raise BcdzooError(f"{found.model}: {reason}")
