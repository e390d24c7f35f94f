"""The command line: one file per command, each imported only when it is called."""

import importlib
import os
import sys
import warnings
from typing import Any

import click

from bcdzoo.errors import BcdzooError
from bcdzoo.text import near_ones, printable, say

# command -> (module in this package with a click command named `command`, one-line help).
# The help is here so that `bcdzoo --help` imports none of the modules.
COMMANDS = {
    "list": ("list_models", "List the networks of the zoo."),
    "info": ("info", "Show everything known about one network and its checkpoints."),
    "fetch": ("fetch", "Download checkpoints, safely and only once."),
    "verify": ("verify", "Check the cached checkpoints against their hashes."),
    "eval": ("eval", "Evaluate top-1 and top-5 accuracy on ImageNet."),
    "predict": ("predict", "Name what is in pictures, with probabilities."),
    "prepare": ("prepare", "Decode the images once, for faster evaluations."),
    "results": ("results", "List the evaluation runs in the results store."),
    "compare": ("compare", "Test whether one run is better than another, and on which images."),
    "count-ops": ("count_ops", "Count BOPs, FLOPs and OPs of a network, layer by layer."),
    "explain": ("explain", "Explain why published and computed figures of a network differ."),
    "audit": ("audit", "Check whether a network is really binary, layer by layer."),
    "table": ("table", "Print the paper's two comparison tables."),
    "plot": ("plot", "Draw figures: accuracy, operations, speed, layers, trade-off, binarization error, Grad-CAM."),
    "report": ("report", "Write everything to one HTML page: tables, figures, layers, runs and pairs."),
    "train": ("train", "Train a network with a recipe, on any images."),
    "bench": ("bench", "Measure images per second, in our backends and other runtimes, and layer by layer."),
    "export": ("export", "Write a network with its weights to a packed file."),
    "push": ("push", "Publish weights with a model card on the Hugging Face hub."),
    "convert": ("convert", "Convert other people's checkpoints to this zoo's safetensors."),
    "cache": ("cache", "Show what takes space on the disk, and delete what nobody needs."),
    "doctor": ("doctor", "Check that what bcdzoo needs is installed and works."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and (near := near_ones(name, COMMANDS)):
            ctx.fail(f"No such command {printable(name, 60)!r}. Did you mean {' or '.join(near)}?")
        return super().resolve_command(ctx, args)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"bcdzoo.cli.{COMMANDS[name][0]}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_line) for name, (_, help_line) in COMMANDS.items()])


def _show_versions(ctx: click.Context, parameter: click.Parameter, asked: bool) -> None:
    if asked and not ctx.resilient_parsing:
        from bcdzoo.versions import summary

        click.echo(summary())
        ctx.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--debug", is_flag=True, help="Show the traceback of a failure.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_versions,
    help="Show the versions of bcdzoo, torch, the kernels and Python, and exit.",
)
def cli(debug: bool) -> None:
    """The reference zoo and judge for binary neural networks."""


def main(args: list[str] | None = None) -> None:
    """Run a command, print a failure as one line, and exit with 0, 1 (failed), 2 (wrong usage) or 130 (interrupted)."""
    _yield_while_waiting()
    arguments = sys.argv[1:] if args is None else args
    if "--debug" not in arguments:
        warnings.simplefilter("ignore")  # those of libraries; our own go through `say`
    try:
        result: Any = cli.main(arguments, prog_name="bcdzoo", standalone_mode=False)
    except click.exceptions.Abort as abort:
        _fail("; ".join(filter(None, ["interrupted", str(abort.__cause__ or "")])), 130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output is gone
        sys.exit(1)
    except Exception as error:
        if "--debug" in arguments:
            raise
        _fail(_one_line(error), 1)
    sys.exit(result if isinstance(result, int) else 0)


def _yield_while_waiting() -> None:
    """Let torch's threads sleep while they wait for each other, unless the user has chosen how they wait.

    By default they spin, and beside other work take the processor from those that they wait for. Read when torch is
    loaded, so that in a process that is not ours nothing is set.
    """
    if "torch" not in sys.modules and not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"} & os.environ.keys():
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"


def _one_line(error: Exception) -> str:
    if isinstance(error, BcdzooError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"unexpected {type(error).__name__}: {error} (run `bcdzoo --debug …` for the traceback)"


def _fail(message: str, code: int) -> None:
    say(message)
    sys.exit(code)
