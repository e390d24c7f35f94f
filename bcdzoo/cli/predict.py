"""``bcdzoo predict``."""

import csv
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from bcdzoo.cli.options import (
    CHECKPOINT,
    FILE,
    backend_option,
    build_settings,
    format_option,
    manifest_option,
    preprocess_option,
    running_options,
    weights_option,
)
from bcdzoo.errors import BcdzooError
from bcdzoo.text import as_utf8, printable, say

if TYPE_CHECKING:
    from bcdzoo.evaluation.predict import Prediction


@click.command("predict")
@click.argument("paths", type=FILE, metavar="FILE|FOLDER...", nargs=-1, required=True)
@click.option(
    "--model",
    type=CHECKPOINT,
    required=True,
    metavar="MODEL",
    help="Network of the zoo, package.module:callable, hf-hub:OWNER/NAME, or a QONNX file (.onnx) or plan's (.bcz).",
)
@click.option("--top", type=click.IntRange(1), default=5, show_default=True, help="Number of classes, at most all.")
@weights_option
@manifest_option
@preprocess_option
@running_options
@backend_option
@format_option("text", "csv", "json")
@build_settings
def command(paths: tuple[str, ...], model: str, top: int, style: str, build: dict[str, Any], **options: Any) -> None:
    """Name what is in each picture, with probabilities, most probable first.

    Of a FOLDER all images in it and below are classified, in sorted order; results are printed as they come. What
    cannot be read is named, and the rest goes on; the exit code is 1 then. JSON is one object a line.
    """
    from bcdzoo.evaluation.options import EvalOptions
    from bcdzoo.evaluation.predict import Predictor, find_images

    samples, empty, notes = find_images(paths)
    for note in notes:
        say(f"note: {note}")
    if not samples:
        raise BcdzooError("; ".join(empty))
    for line in empty:
        say(line)
    show = {"text": _show_text, "csv": _show_csv, "json": _show_json}[style]
    predictor = Predictor(model, EvalOptions(**options), top, **build)
    if style == "csv":
        _write_csv("image", "rank", "class", "name", "probability", "logit")
    unread = 0
    for found in predictor.stream(samples):
        if isinstance(found, BcdzooError):
            unread += 1
            say(found)
        else:
            show(found)
    failures = [f"{unread} of {len(samples)} images could not be read"] * bool(unread)
    if failures or empty:
        raise BcdzooError("; ".join(failures + [f"{len(empty)} of the folders gave none"] * bool(empty)))


def _show_text(found: "Prediction") -> None:
    lines = (
        f"{100 * share:8.2f} %  {printable(name, 200)}"
        for name, share in zip(found.names, found.probabilities, strict=True)
    )
    click.echo("\n".join([printable(found.image, 5000), *lines]))


def _show_csv(found: "Prediction") -> None:
    rows = zip(found.classes, found.names, found.probabilities, found.logits, strict=True)
    for rank, (index, name, probability, logit) in enumerate(rows, 1):
        _write_csv(printable(found.image, 5000), rank, index, printable(name, 1000), probability, logit)
    sys.stdout.flush()


def _write_csv(*fields: Any) -> None:
    csv.writer(sys.stdout, lineterminator="\n").writerow(fields)


def _show_json(found: "Prediction") -> None:
    rows = zip(found.classes, found.names, found.probabilities, found.logits, strict=True)
    keys = ("class", "name", "probability", "logit")
    predictions = [dict(zip(keys, row, strict=True)) for row in rows]
    click.echo(json.dumps({"image": as_utf8(found.image), "predictions": predictions}))
