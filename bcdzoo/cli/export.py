"""``bcdzoo export``."""

from pathlib import Path

import click

from bcdzoo.cli.options import MODEL, WEIGHTS, out_option
from bcdzoo.text import printable


@click.command("export")
@click.argument("model", type=MODEL)
@click.option("--packed", is_flag=True, help="Write bit planes and folded constants; required, the only form so far.")
@out_option("Output file (.safetensors).", required=True)
@click.option(
    "--weights",
    type=WEIGHTS,
    metavar="FILE|TAG",
    help="Weights to use instead of the default; see `bcdzoo info MODEL`.",
)
@click.option("--manifest", type=click.Path(path_type=Path), help="File with additional weight entries.")
def command(model: str, packed: bool, out: Path, weights: str | None, manifest: Path | None) -> None:
    """Write MODEL with its weights as one packed file, which `bcdzoo eval --weights` and `--backend packed` take."""
    if not packed:
        raise click.UsageError("--packed is required: it is the only form to export")
    if out.suffix != ".safetensors":
        raise click.UsageError(f"--out must end in .safetensors, not {out.suffix or 'nothing'}")
    from bcdzoo.packed.checkpoint import export

    sizes = export(model, out, weights, manifest)
    click.echo(
        f"{printable(out)}: {sizes.file / 1e6:.2f} MB, in theory {(sizes.planes + sizes.real) / 1e6:.2f} MB "
        f"({sizes.planes / 1e6:.2f} MB of bits and {sizes.real / 1e6:.2f} MB of real values); as float32 "
        f"{sizes.float32 / 1e6:.2f} MB"
    )
