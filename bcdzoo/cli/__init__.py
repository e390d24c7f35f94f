"""The command line: one file per command, each imported only when it is called."""

import importlib
import sys
import warnings
from typing import Any

import click

from bcdzoo.errors import BcdzooError
from bcdzoo.text import say

# command -> module in this package that defines a click command named `command`, and its one-line help:
# the help is here so that `bcdzoo --help` need not import any of them.
COMMANDS = {
    "list": ("list_models", "Networks of the zoo and what is known of them."),
    "info": ("info", "Everything known of one network and its checkpoints."),
    "fetch": ("fetch", "Download checkpoints, safely and only once."),
    "verify": ("verify", "Hash the cached checkpoints again."),
    "eval": ("eval", "Top-1 and top-5 accuracy on ImageNet."),
    "prepare": ("prepare", "Decode the images once, for faster evaluations."),
    "results": ("results", "The evaluation runs in the results store."),
    "compare": ("compare", "Whether one run is better than another, and on which images."),
    "count-ops": ("count_ops", "BOPs, FLOPs and OPs of a network, layer by layer."),
    "audit": ("audit", "Whether a network is really binary, layer by layer."),
    "table": ("table", "The paper's two comparison tables."),
    "plot": ("plot", "Figures: accuracy over operations, layers, trade-off, binarization error, Grad-CAM."),
    "report": ("report", "Everything on one HTML page: tables, figures, layers, runs and pairs."),
    "train": ("train", "Train a network by a recipe, on any images."),
    "bench": ("bench", "Images per second on each backend, and layer by layer."),
    "export": ("export", "A network with its weights as a packed file."),
    "push": ("push", "Weights with a model card to the Hugging Face hub."),
    "convert": ("convert", "Other people's checkpoints to this zoo's safetensors."),
    "doctor": ("doctor", "Whether what bcdzoo needs is there and works."),
}


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

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
    """Entry point: runs a command, prints a failure as one line and exits with 0, 1 (failed) or 2 (wrong usage)."""
    arguments = sys.argv[1:] if args is None else args
    if "--debug" not in arguments:
        warnings.simplefilter("ignore")  # libraries' own, about their insides; ours are said
    try:
        result: Any = cli.main(arguments, prog_name="bcdzoo", standalone_mode=False)
    except click.exceptions.Abort as abort:
        _fail("; ".join(filter(None, ["interrupted", str(abort.__cause__ or "")])), 130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away; nothing is left to tell it
        sys.exit(1)
    except Exception as error:
        if "--debug" in arguments:
            raise
        _fail(_one_line(error), 1)
    sys.exit(result if isinstance(result, int) else 0)


def _one_line(error: Exception) -> str:
    if isinstance(error, BcdzooError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"unexpected {type(error).__name__}: {error} (run `bcdzoo --debug …` for the traceback)"


def _fail(message: str, code: int) -> None:
    say(message)
    sys.exit(code)
