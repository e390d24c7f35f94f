"""``bcdzoo prepare``."""

import os
import sys
from pathlib import Path

import click

from bcdzoo.cli.options import FILE, MODEL, PRESET, decoder_option, labels_options, manifest_option
from bcdzoo.data.preprocess import parse
from bcdzoo.registry import find
from bcdzoo.text import printable, say


@click.command("prepare")
@click.option(
    "--data", type=FILE, required=True, metavar="PATH", help="ImageNet in any layout; see docs/evaluating.md."
)
@click.option("--layout", metavar="LAYOUT", help="Data layout; detected if omitted.")
@labels_options
@click.option("--classes", default=1000, show_default=True, help="Number of outputs of the networks.")
@click.option(
    "--preprocess",
    type=PRESET,
    metavar="PRESET|SPEC",
    multiple=True,
    help="Preprocessing to prepare for; repeatable. Default: imagenet.",
)
@decoder_option
@click.option(
    "--model",
    "models",
    type=MODEL,
    multiple=True,
    help="Network whose default weights' preprocessing to prepare for; repeatable.",
)
@manifest_option
@click.option(
    "--workers", type=click.IntRange(0), help="Number of processes that decode; default: one per core, up to 8."
)
def command(
    data: str,
    layout: str | None,
    label_offset: int | None,
    columns: tuple[str, str] | None,
    classes: int,
    preprocess: tuple[str, ...],
    decoder: str,
    models: tuple[str, ...],
    manifest: Path | None,
    workers: int | None,
) -> None:
    """Decode, resize and crop all images once, so that later runs of `bcdzoo eval` are faster."""
    from bcdzoo.data.imagenet import open_dataset
    from bcdzoo.data.prepare import prepare
    from bcdzoo.weights.load import assumed
    from bcdzoo.weights.manifest import load_manifest

    for model in models:
        find(model)
        preprocess += (load_manifest(manifest).find(model).preprocess or assumed(model),)
    if not preprocess:
        say("neither --preprocess nor --model is given; preprocess=imagenet: assumed")
    geometries = dict.fromkeys(parse(spec).geometry for spec in preprocess or ("imagenet",))
    images = open_dataset(data, classes, layout, label_offset, columns, decoder)
    for note in images.notes:
        say(f"note: {note}")
    for geometry in geometries:
        processes = min(os.cpu_count() or 1, 8) if workers is None else workers
        made = prepare(images, geometry, processes, progress=sys.stderr.isatty())
        size = (made.folder / "pixels").stat().st_size
        readable = len(images) - len(made.unreadable)
        click.echo(f"{readable} images of {images.name} ({geometry}): {size / 1e6:.1f} MB in {made.folder}")
        for reason in made.unreadable.values():
            click.echo(f"  left out: {printable(reason)}")
