"""``bcdzoo train``."""

import json
from pathlib import Path
from typing import Any

import click

from bcdzoo.cli.options import FILE, MODEL, RECIPE, format_option, out_option, settings_option, workers_option


@click.command("train")
@click.argument("model", type=MODEL)
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="Training images: class folders, idx files, CIFAR-10's files, a CSV file …",
)
@out_option("Folder of the run; default: runs/MODEL.")
@click.option("--recipe", type=RECIPE, metavar="NAME|FILE", help="Recipe to use instead of the network's own.")
@click.option("--classes", type=click.IntRange(2, 1_000_000), help="Number of classes, if the data does not say.")
@click.option("--weights", type=FILE, metavar="FILE", help="Initial weights of the first stage.")
@click.option("--device", help="Torch device, such as cuda:1; default: a GPU per process, or the CPU if there is none.")
@workers_option
@click.option("--class-names", type=FILE, metavar="FILE", help="File with one class name per line.")
@click.option(
    "--label-offset",
    type=click.IntRange(-1000, 1000),
    metavar="N",
    help="Offset added to every label: -1 if labels start at 1.",
)
@click.option("--tensorboard", is_flag=True, help="Also write TensorBoard files.")
@format_option("text", "json")
@settings_option(
    "settings",
    "Argument of the network (num_classes=10), or option of the recipe; step2.lr=0.001 is for one stage. Repeatable.",
)
def command(model: str, out: Path | None, style: str, **options: Any) -> None:
    """Train MODEL, a zoo name or package.module:callable, with a recipe (docs/training.md).

    The same command resumes an interrupted run. For several processes: torchrun … -m bcdzoo train ….
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
