"""``bcdzoo eval``."""

import json
from pathlib import Path
from typing import Any

import click

from bcdzoo.cli.options import build_settings


@click.command("eval")
@click.argument("model")
@click.option(
    "--data", required=True, type=click.Path(path_type=Path), help="ImageNet's folder, or a CSV of path,label."
)
@click.option("--weights", metavar="FILE|TAG", help="In place of the default weights; see `bcdzoo info MODEL`.")
@click.option("--manifest", type=click.Path(path_type=Path), help="A file of additional weights' entries.")
@click.option("--preprocess", metavar="PRESET|SPEC", help="In place of the weights' own, such as resize=256,crop=224.")
@click.option("--device", help="Such as cuda:1; by default CUDA where there is one.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)
@click.option("--workers", type=click.IntRange(0), help="Processes that read images; by default one per core, up to 8.")
@click.option("--skip-bad", is_flag=True, help="Leave out, count and list images that cannot be read.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result as JSON to this file too.")
@click.option("--no-store", is_flag=True, help="Keep the result out of the store that `bcdzoo table` reads.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
@build_settings
def command(
    model: str,
    build: dict[str, Any],
    out: Path | None,
    no_store: bool,
    style: str,
    **options: Any,
) -> None:
    """Top-1 and top-5 accuracy of MODEL, a zoo name or package.module:callable.

    The data is ImageNet's validation set as one folder per class or as one flat folder, or a CSV file of path,label.
    """
    from bcdzoo.evaluation.loop import evaluate
    from bcdzoo.evaluation.store import store_result, write_json

    result = evaluate(model, **options, **build)
    record = result.to_json()
    try:
        if not no_store:
            store_result(record)
        if out:
            write_json(out, record)
    finally:  # a full disk must not cost the run
        click.echo(json.dumps(record, indent=1) if style == "json" else result.summary())
