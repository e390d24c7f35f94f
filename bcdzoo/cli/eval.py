"""``bcdzoo eval``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bcdzoo.cli.options import (
    FILE,
    PATTERN,
    backend_option,
    build_settings,
    decoder_option,
    format_option,
    labels_options,
    manifest_option,
    out_option,
    preprocess_option,
    running_options,
    weights_option,
)
from bcdzoo.errors import BcdzooError
from bcdzoo.registry import find, is_pattern, list_models
from bcdzoo.text import say

if TYPE_CHECKING:
    from bcdzoo.evaluation.result import EvalResult


_FASTER = ("amp", "compile", "channels_last")


def _not(ctx: click.Context, parameter: click.Parameter, flag: bool) -> bool:
    return not flag


@click.command("eval")
@click.argument("models", type=PATTERN, metavar="MODEL...", nargs=-1, required=True)
@click.option(
    "--data", type=FILE, required=True, metavar="PATH", help="ImageNet in any layout; see docs/evaluating.md."
)
@click.option("--layout", metavar="LAYOUT", help="Data layout; detected if omitted.")
@labels_options
@weights_option
@manifest_option
@preprocess_option
@decoder_option
@running_options
@click.option("--skip-bad", is_flag=True, help="Skip images that cannot be read, and list them.")
@click.option(
    "--no-check", "check", is_flag=True, callback=_not, help="Evaluate even if the data or the labels look wrong."
)
@backend_option
@click.option("--amp", type=click.Choice(["bf16"]), help="Automatic mixed precision instead of full float32.")
@click.option("--compile", is_flag=True, help="Run through torch.compile.")
@click.option("--channels-last", is_flag=True, help="Run in channels-last memory order.")
@click.option(
    "--check-stability", is_flag=True, help="Also run in each of these modes, and count the predictions that change."
)
@click.option(
    "--seed", default=0, show_default=True, help="Random seed, for your own networks that draw their weights."
)
@click.option("--resume", is_flag=True, help="Continue an unfinished run, or fail and say what differs.")
@click.option("--fresh", is_flag=True, help="Discard an unfinished run and start over.")
@out_option("JSON file for the result.")
@click.option("--per-class", type=click.Path(path_type=Path), help="CSV file for the accuracy of each class.")
@click.option("--confusion", type=click.Path(path_type=Path), help="CSV file for the confused pairs of classes.")
@click.option(
    "--no-store",
    "store",
    is_flag=True,
    callback=_not,
    help="Store no result (`bcdzoo table` reads the store) and do not resume.",
)
@click.option("--label", metavar="TEXT", help="Label of the result, by which `bcdzoo results` and `compare` find it.")
@format_option("text", "markdown", "json")
@build_settings
def command(
    models: tuple[str, ...],
    data: str,
    build: dict[str, Any],
    out: Path | None,
    per_class: Path | None,
    confusion: Path | None,
    style: str,
    **options: Any,
) -> None:
    """Evaluate each MODEL, top-1 and top-5: a name or pattern, package.module:callable, a plan or a QONNX file (.onnx).

    All are evaluated in one pass over the data: ImageNet's validation set in any layout. A pattern is one such as
    'bcdnet*'. A run that was interrupted continues when the same command is run again.
    """
    if options["weights"] and len(models) > 1:
        raise click.UsageError("--weights is for one MODEL")
    if options["check_stability"] and (options["backend"] != "torch" or any(map(options.get, _FASTER))):
        raise click.UsageError(
            "--check-stability compares all modes: omit --backend, --amp, --compile and --channels-last"
        )
    if options["resume"] and (options["fresh"] or not options["store"]):
        raise click.UsageError("--resume cannot be combined with --fresh or --no-store")
    names = _expand(models, options["manifest"])

    from bcdzoo.evaluation.loop import evaluate_all
    from bcdzoo.evaluation.options import EvalOptions
    from bcdzoo.processes import joined

    with joined() as processes:
        outcomes = evaluate_all(names, data, EvalOptions(**options), processes, **build)
        results = [outcome for outcome in outcomes if not isinstance(outcome, BcdzooError)]
        if processes.first and results:
            _report(results, out, per_class, confusion, style)
        if failures := [str(outcome) for outcome in outcomes if isinstance(outcome, BcdzooError)]:
            raise BcdzooError("; ".join(failures))


def _expand(models: tuple[str, ...], manifest: Path | None) -> list[str]:
    """Expand patterns to names; networks without public weights or with other classes are skipped and named."""
    from bcdzoo.weights.manifest import load_manifest

    names: list[str] = []
    for model in models:
        if ":" in model or not is_pattern(model):
            names.append(model)
            continue
        known = load_manifest(manifest)
        matching = list_models(model)
        with_weights = [name for name in matching if known.of(name)]
        if not with_weights:
            raise BcdzooError(f"no network with public weights matches {model!r}: see `bcdzoo list`")
        if without := [name for name in matching if name not in with_weights]:
            say(f"left out because they have no public weights: {', '.join(without)}")
        classes = find(with_weights[0]).num_classes
        if others := [name for name in with_weights if find(name).num_classes != classes]:
            say(f"left out because they do not have {classes} classes: {', '.join(others)}")
        names += [name for name in with_weights if name not in others]
    return list(dict.fromkeys(names))


def _report(
    results: "list[EvalResult]", out: Path | None, per_class: Path | None, confusion: Path | None, style: str
) -> None:
    from bcdzoo.evaluation import per_class as classes
    from bcdzoo.evaluation.report import as_json, as_text
    from bcdzoo.evaluation.store import write_record
    from bcdzoo.files import atomic_write

    try:
        if out:
            write_record(out, as_json(results))
        for path, frame in (per_class, classes.per_class), (confusion, classes.confusion):
            if path:
                with atomic_write(path) as temporary:
                    frame(results).to_csv(temporary, index=False)
    finally:  # print the result even if the disk is full
        click.echo(json.dumps(as_json(results), indent=1) if style == "json" else as_text(results, style))
