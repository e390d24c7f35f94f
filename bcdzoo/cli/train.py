"""``bcdzoo train``."""

import json
from pathlib import Path
from typing import Any

import click

from bcdzoo.cli.options import FILE, MODEL, RECIPE, settings_option


@click.command("train")
@click.argument("model", type=MODEL)
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="Images: class folders, idx files, a CSV …"
)
@click.option("--out", type=click.Path(path_type=Path), help="The run's folder; by default runs/MODEL.")
@click.option("--recipe", type=RECIPE, metavar="NAME|FILE", help="In place of the network's own.")
@click.option("--classes", type=click.IntRange(2, 1_000_000), help="Their number, where the data does not tell.")
@click.option("--weights", type=FILE, metavar="FILE", help="Initial weights of the first stage.")
@click.option("--device", help="Such as cuda:1; by default a GPU for each process, or the CPU where there is none.")
@click.option("--workers", type=click.IntRange(0), help="Processes that read images; by default one per core, up to 8.")
@click.option("--class-names", type=FILE, metavar="FILE", help="Names of the classes, a line each.")
@click.option(
    "--label-offset",
    type=click.IntRange(-1000, 1000),
    metavar="N",
    help="Added to every label of the data: -1 if they begin with 1.",
)
@click.option("--tensorboard", is_flag=True, help="Write TensorBoard's files too.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@settings_option("settings", "An option of the recipe, of all stages (lr=0.001) or one (step2.lr=0.001); repeatable.")
def command(model: str, out: Path | None, style: str, **options: Any) -> None:
    """Train MODEL, a zoo name or package.module:callable, by a recipe (docs/training.md).

    The same command goes on with a run that was killed. Several processes: torchrun … -m bcdzoo train ….
    """
    from bcdzoo.processes import speaks
    from bcdzoo.train.stages import train

    done = train(model, out=out or Path("runs", model.replace(":", ".")), **options)
    if not speaks():
        return
    if style == "json":
        records = [{"stage": each.stage, "weights": str(each.weights), "lineage": each.lineage} for each in done]
        click.echo(json.dumps(records, indent=1))
        return
    for each in done:
        result = each.lineage["evaluation"]
        accuracy = f"{result['top1']:.2f} % of {result['n']} images" if result else "not evaluated"
        click.echo(f"{each.stage}\t{accuracy}\t{each.weights}")
