"""``bcdzoo eval``."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bcdzoo.cli.options import FILE, MODEL, PRESET, WEIGHTS, build_settings, labels_options
from bcdzoo.errors import BcdzooError
from bcdzoo.registry import find, list_models
from bcdzoo.text import say

if TYPE_CHECKING:
    from bcdzoo.evaluation.result import EvalResult


_FASTER = ("amp", "compile", "channels_last")


def _not(ctx: click.Context, parameter: click.Parameter, flag: bool) -> bool:
    return not flag


@click.command("eval")
@click.argument("models", type=MODEL, metavar="MODEL...", nargs=-1, required=True)
@click.option(
    "--data", type=FILE, required=True, metavar="PATH", help="ImageNet in any layout; see docs/evaluating.md."
)
@click.option("--layout", metavar="LAYOUT", help="Data layout; detected if omitted.")
@labels_options
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
@click.option("--device", help="Such as cuda:1; by default CUDA where there is one.")
@click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)
@click.option("--workers", type=click.IntRange(0), help="Processes that read images; by default one per core, up to 8.")
@click.option("--skip-bad", is_flag=True, help="Leave out, count and list images that cannot be read.")
@click.option(
    "--no-check", "check", is_flag=True, callback=_not, help="Evaluate although the data or the labels look wrong."
)
@click.option("--backend", type=click.Choice(["torch", "packed"]), default="torch", help="packed: on 1-bit kernels.")
@click.option("--amp", type=click.Choice(["bf16"]), help="Automatic mixed precision in place of full float32.")
@click.option("--compile", is_flag=True, help="Run through torch.compile.")
@click.option("--channels-last", is_flag=True, help="Run in channels-last memory order.")
@click.option("--check-stability", is_flag=True, help="Run in each of these too, and count the guesses that change.")
@click.option("--seed", default=0, show_default=True, help="For a network of yours that draws its own weights.")
@click.option("--resume", is_flag=True, help="Go on with an unfinished run, or fail and say what differs.")
@click.option("--fresh", is_flag=True, help="Throw away what an unfinished run has done.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the result as JSON to this file too.")
@click.option("--per-class", type=click.Path(path_type=Path), help="Write the accuracy of each class to this CSV file.")
@click.option("--confusion", type=click.Path(path_type=Path), help="Write what is taken for what to this CSV file.")
@click.option(
    "--no-store",
    "store",
    is_flag=True,
    callback=_not,
    help="Keep nothing in the store that `bcdzoo table` reads; no resuming.",
)
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True)
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
    """Top-1 and top-5 accuracy of each MODEL: zoo names, patterns such as 'bcdnet*', or package.module:callable.

    All are evaluated in one pass over the data, which is ImageNet's validation set in any layout. A run that was cut
    off goes on when the same command is given again.
    """
    if options["weights"] and len(models) > 1:
        raise click.UsageError("--weights is for one MODEL")
    if options["check_stability"] and (options["backend"] != "torch" or any(map(options.get, _FASTER))):
        raise click.UsageError(
            "--check-stability compares all modes: leave --backend, --amp, --compile and --channels-last out"
        )
    if options["resume"] and (options["fresh"] or not options["store"]):
        raise click.UsageError("--resume needs what --fresh and --no-store throw away")
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
    """Names in place of patterns, which leave out and name networks without public weights or of other classes."""
    from bcdzoo.weights.manifest import load_manifest

    names: list[str] = []
    for model in models:
        if ":" in model or not set(model) & set("*?["):
            names.append(model)
            continue
        known = load_manifest(manifest)
        matching = list_models(model)
        with_weights = [name for name in matching if known.of(name)]
        if not with_weights:
            raise BcdzooError(f"no network of the zoo that has public weights matches {model!r}: see `bcdzoo list`")
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
    finally:  # a full disk must not cost the run
        click.echo(json.dumps(as_json(results), indent=1) if style == "json" else as_text(results))
