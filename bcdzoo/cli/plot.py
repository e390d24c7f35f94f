"""``bcdzoo plot``."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bcdzoo.cli.options import CHECKPOINT, MODEL, PATTERN, build_settings, out_option, weights_option
from bcdzoo.cli.own_rows import own_rows, own_rows_options
from bcdzoo.errors import BcdzooError
from bcdzoo.ops.conventions import CONVENTIONS
from bcdzoo.text import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bcdzoo.evaluation.model import EvalModel

_convention = click.option(
    "--convention",
    type=click.Choice(list(CONVENTIONS)),
    default="full",
    show_default=True,
    help="What counts as a FLOP (docs/counting.md).",
)


def _out(name: str, of: str = "") -> Callable[..., Any]:
    """Return the option for the figure's file, whose default name is the figure's, and its network's if it has one.

    Args:
        name: The figure's.
        of: The parameter that says the network.
    """

    def check(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> Path:
        from bcdzoo.report.plots.style import SUFFIXES

        if path is None:
            network = re.sub(r"[^\w.-]", "_", Path(ctx.params[of]).name.removesuffix(".safetensors")) if of else ""
            return Path("-".join(filter(None, [name, network])) + ".png")
        if path.suffix.lower() not in SUFFIXES:
            raise click.BadParameter(f"{path} must end in {', '.join(SUFFIXES)}")
        return path

    named = f"{name}-{of.upper()}" if of else name
    return out_option(f"Output file (.png, .svg or .pdf); default: {named}.png.", callback=check)


@click.group("plot")
def command() -> None:
    """Draw figures as PNG, SVG or PDF."""


@command.command("accuracy-ops")
@click.argument("patterns", type=PATTERN, nargs=-1, metavar="[PATTERN]...")
@click.option("--all", "everything", is_flag=True, help="Every network with an accuracy on ImageNet.")
@_convention
@own_rows_options
@_out("accuracy-ops")
def accuracy_ops(
    patterns: tuple[str, ...],
    everything: bool,
    convention: str,
    own: tuple[str, ...],
    file: str | None,
    build: dict[str, Any],
    out: Path,
) -> None:
    """Plot top-1 over operations, the paper's first figure: MeliusNet, ReActNet and BCDNet, or what matches PATTERN.

    Open points are published accuracies, filled ones those that `bcdzoo eval` measured; your own, of --row and --rows,
    are stars.
    """
    from bcdzoo.evaluation.store import read_results
    from bcdzoo.report.plots.accuracy_ops import FAMILIES, row_convention, undrawn
    from bcdzoo.report.plots.accuracy_ops import accuracy_ops as draw

    if everything and patterns:
        raise click.UsageError("--all draws every network: name none beside it")
    results = read_results()
    rows = own_rows(own, file, build, results, row_convention(CONVENTIONS[convention]))
    figure = draw(results, ["*"] if everything else patterns or FAMILIES, convention, rows)
    for sentence in undrawn(rows, convention):
        say(sentence)
    _save(figure, out)


def _benchmark_options(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--threads", type=click.IntRange(1), help="Number of threads; default: the latest's.")(
        command
    )
    command = click.option(
        "--clock",
        type=click.Choice(["wall", "processor"]),
        default="wall",
        show_default=True,
        help="Time that passed, or that the processor worked, which other programs do not lengthen.",
    )(command)
    return click.option(
        "--batch-size", type=click.IntRange(1), default=1, show_default=True, help="Images at once in the benchmarks."
    )(command)


@command.command("accuracy-speed")
@_benchmark_options
@_out("accuracy-speed")
def accuracy_speed(batch_size: int, threads: int | None, clock: str, out: Path) -> None:
    """Plot published top-1 over the measured milliseconds of an image, of what `bcdzoo bench --store` stored.

    Shown are benchmarks of one machine and number of threads, and of each number format the fastest backend.
    """
    from bcdzoo.bench.store import read_benchmarks
    from bcdzoo.report.plots.speed import accuracy_speed as draw

    _save(draw(read_benchmarks(), batch_size, threads, clock), out)


@command.command("speed-ops")
@_benchmark_options
@_out("speed-ops")
def speed_ops(batch_size: int, threads: int | None, clock: str, out: Path) -> None:
    """Plot measured milliseconds over counted operations, and what OPs = FLOPs + BOPs/64 promise."""
    from bcdzoo.bench.store import read_benchmarks
    from bcdzoo.report.plots.speed import speed_ops as draw

    _save(draw(read_benchmarks(), batch_size, threads, clock), out)


@command.command("layers")
@click.argument("model", type=MODEL)
@_convention
@click.option("--input-size", type=click.IntRange(1), help="Image side in pixels; default: the network's own.")
@_out("layers", "model")
@build_settings
def layers(model: str, convention: str, input_size: int | None, out: Path, build: dict[str, Any]) -> None:
    """Plot where the operations of MODEL are: BOPs/64 and FLOPs as stacked bars."""
    from bcdzoo.ops.count import count_ops
    from bcdzoo.report.plots.layers import layers as draw

    _save(draw(count_ops(model, convention, input_size, **build)), out)


@command.command("tradeoff")
@_convention
@_out("tradeoff")
def tradeoff(convention: str, out: Path) -> None:
    """Plot BCDNet-A's family, from 14/0 to 9/15 convolutional and MLP blocks: operations and known accuracies."""
    from bcdzoo.evaluation.store import read_results
    from bcdzoo.report.plots.tradeoff import tradeoff as draw

    _save(draw(read_results(), convention), out)


@command.command("binarization-error")
@click.argument("checkpoint", type=CHECKPOINT)
@weights_option
@_out("binarization-error", "checkpoint")
@build_settings
def binarization_error(checkpoint: str, weights: str | None, out: Path, build: dict[str, Any]) -> None:
    """Plot the binarization error of the weights in the branches of each MLP block.

    CHECKPOINT is a file of this zoo (`bcdzoo train`, `bcdzoo convert`), a network's name, or package.module:callable.
    Of bcdnet-a the poster's own figure is drawn beside it, digitised.
    """
    from bcdzoo.report.plots.binarization_error import binarization_error as draw
    from bcdzoo.report.tables import own_form

    found = _loaded(checkpoint, weights, build)
    of_poster = found.name == "bcdnet-a" and own_form(found.record(), "step", "branches")
    _save(draw(found.network, f"{found.name}, weights {found.loaded.label or 'as built'}", of_poster), out)


@command.command("operations")
@_out("operations")
def operations(out: Path) -> None:
    """Plot the three binary operations that the paper compares, on maps of BCDNet-A: BOPs, weights, receptive field."""
    from bcdzoo.report.plots.operations import operations as draw

    _save(draw(), out)


@command.command("cam")
@click.argument("model", type=CHECKPOINT)
@click.argument("image", type=click.Path(path_type=Path))
@weights_option
@click.option(
    "--class", "target", type=click.IntRange(0), help="Index of the class to explain; default: the top-1 prediction."
)
@_out("cam", "model")
@build_settings
def cam(model: str, image: Path, weights: str | None, target: int | None, out: Path, build: dict[str, Any]) -> None:
    """Show what MODEL looks at in IMAGE (Grad-CAM).

    MODEL is a network's name, a file of this zoo, or package.module:callable.
    """
    from bcdzoo.report.plots.cam import cam as draw
    from bcdzoo.weights.load import assume

    found = _loaded(model, weights, build)
    found.try_out()
    if found.preprocess_from == "assumed":
        assume(found.name, str(found.preprocess))
    _save(draw(found.network, image, found.preprocess, found.name, target), out)


def _loaded(checkpoint: str, weights: str | None, build: dict[str, Any]) -> "EvalModel":
    import torch

    from bcdzoo.evaluation.model import load_eval_model
    from bcdzoo.evaluation.options import EvalOptions
    from bcdzoo.packed.pack import PlanNetwork
    from bcdzoo.weights.load import checkpoint_argument

    name, file = checkpoint_argument(checkpoint, weights)
    found = load_eval_model(name, EvalOptions(weights=file), torch.device("cpu"), **build)
    if isinstance(found.network, PlanNetwork):
        raise BcdzooError(f"{file} is packed: use the weights that it was made from")
    return found


def _save(figure: "Figure", out: Path) -> None:
    from bcdzoo.report.plots.style import save

    save(figure, out)
    click.echo(out)
