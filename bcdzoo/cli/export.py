"""``bcdzoo export``."""

from pathlib import Path
from typing import Any

import click

from bcdzoo.cli.options import MODEL, build_settings, manifest_option, out_option, weights_option
from bcdzoo.interchange import SUFFIXES
from bcdzoo.text import printable


@click.command("export")
@click.argument("model", type=MODEL)
@click.option("--packed", is_flag=True, help="Write the plan in a safetensors file.")
@click.option("--as", "kind", type=click.Choice(SUFFIXES), help="Write another format (docs/interchange.md).")
@out_option("Output file (.bcz; with --packed .safetensors, with --as .onnx, or .xml for openvino).", required=True)
@weights_option
@manifest_option
@build_settings
def command(
    model: str,
    packed: bool,
    kind: str | None,
    out: Path,
    weights: str | None,
    manifest: Path | None,
    build: dict[str, Any],
) -> None:
    """Write MODEL with its weights as a plan, all that the 1-bit engine needs, in one file.

    `bcdzoo eval` takes the file as MODEL or as --weights, `bcdzoo.load_packed` loads it. With --as it is written for
    other people's runtimes; MODEL may then be a plan. It may be a QONNX file (.onnx) in any case.
    """
    if packed and kind:
        raise click.UsageError("--packed and --as exclude each other")
    suffix = SUFFIXES[kind] if kind else ".safetensors" if packed else ".bcz"
    if out.suffix != suffix:
        raise click.UsageError(f"--out must end in {suffix}, not {out.suffix or 'nothing'}")
    from bcdzoo.evaluation.model import load_network
    from bcdzoo.packed.checkpoint import write_packed

    if kind:
        from bcdzoo.interchange.exporting import write_as, writer

        write = writer(kind)  # before anything is fetched
        written = write_as(write, load_network(model, weights, manifest, **build), out)
        click.echo(f"{printable(out)}: {written.file / 1e6:.2f} MB; as float32 {written.float32 / 1e6:.2f} MB")
        return
    sizes = write_packed(load_network(model, weights, manifest, **build), out)
    click.echo(
        f"{printable(out)}: {sizes.file / 1e6:.2f} MB, in theory {(sizes.planes + sizes.real) / 1e6:.2f} MB "
        f"({sizes.planes / 1e6:.2f} MB of bits and {sizes.real / 1e6:.2f} MB of real values); as float32 "
        f"{sizes.float32 / 1e6:.2f} MB"
    )
