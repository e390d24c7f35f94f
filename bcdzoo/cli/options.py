"""Options that several commands share."""

import tomllib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from bcdzoo.data.preprocess import DECODERS
from bcdzoo.errors import BcdzooError
from bcdzoo.ops.conventions import CONVENTIONS, UnknownConventionError, find_convention, may_be_file
from bcdzoo.registry import REGISTRY, is_pattern, zoo_name
from bcdzoo.text_table import default_style

Command = Callable[..., Any]


class _Offered(click.types.StringParamType):
    """Any text; shell completion offers some values, or files where a file is allowed too."""

    def __init__(self, name: str, offers: Callable[[click.Context], Iterable[str]], files: bool = False) -> None:
        self.name = name
        self._offers = offers
        self._files = files

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            fitting = [CompletionItem(text) for text in self._offers(ctx) if text.startswith(incomplete)]
        except BcdzooError:  # reported when the command runs
            fitting = []
        return fitting or ([CompletionItem(incomplete, type="file")] if self._files else [])


def _tags(ctx: click.Context) -> list[str]:
    from bcdzoo.weights.manifest import load_manifest

    # While the option being completed has no value, click has not parsed the arguments before it.
    named = {ctx.params.get("model"), *(ctx.params.get("models") or ()), *ctx.args}
    known = load_manifest(ctx.params.get("manifest")).checkpoints
    return list(dict.fromkeys(checkpoint.tag for checkpoint in known if checkpoint.model in named))


def _presets(ctx: click.Context) -> Iterable[str]:
    from bcdzoo.data.preprocess import PRESETS

    return PRESETS


def _recipes(ctx: click.Context) -> list[str]:
    from bcdzoo.train.recipe import recipe_names

    return recipe_names()


def _runs(ctx: click.Context) -> list[str]:
    from bcdzoo.evaluation.store import read_store

    results, _ = read_store()
    return [*dict.fromkeys(result["model"] for result in results), *(result["run"] for result in results)]


def _columns(ctx: click.Context) -> Iterable[str]:
    from bcdzoo.report.tables import fields

    return fields(None)


class _Network(_Offered):
    """A network's name in any spelling that the registry knows becomes the zoo's; anything else stays as it is."""

    def __init__(self, name: str, files: bool = False, patterns: bool = False) -> None:
        super().__init__(name, lambda ctx: REGISTRY, files)
        self._patterns = patterns

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text: str = super().convert(value, param, ctx)
        untouched = (self._files and Path(text).exists()) or (self._patterns and is_pattern(text))
        return text if untouched else zoo_name(text)


MODEL = _Network("model")
"""A network's name; for some commands also package.module:callable."""
PATTERN = _Network("model", patterns=True)
"""Likewise, or a pattern of names."""
CHECKPOINT = _Network("checkpoint", files=True)
"""A network's name, or a file of this zoo, whose metadata name the network."""
TAG = _Offered("tag", _tags)
WEIGHTS = _Offered("weights", _tags, files=True)
PRESET = _Offered("preset", _presets)
RECIPE = _Offered("recipe", _recipes, files=True)
RUN = _Offered("run", _runs, files=True)
COLUMN = _Offered("column", _columns)
"""A column of the comparison tables."""
FILE = _Offered("file", lambda ctx: (), files=True)


class _Convention(_Offered):
    """Name of a shipped counting convention, or a file of one's own, which the command reads."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text: str = super().convert(value, param, ctx)
        if text not in CONVENTIONS and not may_be_file(text):
            try:
                find_convention(text)
            except UnknownConventionError as error:
                self.fail(str(error), param, ctx)
        return text


def convention_option(multiple: bool = False, default: str | None = "full") -> Callable[[Command], Command]:
    """Return ``--convention``, for :func:`bcdzoo.ops.conventions.find_convention`.

    Args:
        multiple: Whether it may be given several times.
        default: Name of the convention if it is not given; None for none.
    """
    return click.option(
        "--convention",
        "conventions" if multiple else "convention",
        type=_Convention("convention", lambda ctx: CONVENTIONS, files=True),
        metavar=f"{'|'.join(CONVENTIONS)}|FILE",
        multiple=multiple,
        default=([default] if multiple else default) if default else None,
        show_default=default or False,
        help=f"What counts as a FLOP, or a TOML file that says it (docs/counting.md){'; repeatable' * multiple}.",
    )


def _parse_settings(ctx: click.Context, parameter: click.Parameter, settings: tuple[str, ...]) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{setting!r} is not KEY=VALUE")
        try:
            parsed[key] = tomllib.loads(f"value = {value}")["value"]
        except (ValueError, RecursionError):
            parsed[key] = value  # a bare word
    return parsed


def settings_option(name: str, help: str) -> Callable[[Command], Command]:
    """Return ``--set KEY=VALUE``, repeatable, which becomes a dictionary; a value is TOML or a bare word.

    Args:
        name: Name of the command's parameter.
        help: Help text.
    """
    return click.option("--set", name, metavar="KEY=VALUE", multiple=True, callback=_parse_settings, help=help)


build_settings = settings_option(
    "build", "Argument of the network, such as step=1 (W/A 32/1) or mlp_groups=4; repeatable."
)


weights_option = click.option(
    "--weights",
    type=WEIGHTS,
    metavar="FILE|TAG",
    help="Weights to use instead of the default, also hf-hub:OWNER/NAME; see `bcdzoo info MODEL`.",
)
manifest_option = click.option(
    "--manifest",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File with additional weight entries.",
)
preprocess_option = click.option(
    "--preprocess",
    type=PRESET,
    metavar="PRESET|SPEC",
    help="Preprocessing to use instead of the weights' own, such as resize=256,crop=224.",
)
backend_option = click.option(
    "--backend", type=click.Choice(["torch", "packed"]), default="torch", help="packed: run on 1-bit kernels."
)
workers_option = click.option(
    "--workers", type=click.IntRange(0), help="Number of processes that read images; default: one per core, up to 8."
)


def running_options(command: Command) -> Command:
    """Add ``--device``, ``--batch-size`` and ``--workers``, of what runs a network on images."""
    command = workers_option(command)
    command = click.option("--batch-size", type=click.IntRange(1), default=32, show_default=True)(command)
    return click.option("--device", help="Torch device, such as cuda:1; default: CUDA if available.")(command)


class _Format(click.Choice[str]):
    """How something is printed; Markdown may be called by its older name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return super().convert("markdown" if value == "github" and "markdown" in self.choices else value, param, ctx)


def format_option(*styles: str) -> Callable[[Command], Command]:
    """Return ``--format``, which becomes ``style``.

    Args:
        *styles: What can be chosen. With "markdown" among them the output is a table, and where nobody chooses it is
            text on a terminal and Markdown elsewhere; without it the default is the first.
    """
    tables = "markdown" in styles
    return click.option(
        "--format",
        "style",
        type=_Format(styles),
        default=default_style if tables else styles[0],
        show_default="text on a terminal, else markdown" if tables else True,
        help="How the output is printed.",
    )


def out_option(
    help: str, callback: Callable[..., Any] | None = None, required: bool = False, default: Path | None = None
) -> Callable[[Command], Command]:
    """Return ``-o``/``--out``, the file or folder that is written."""
    kind = click.Path(path_type=Path)
    return click.option(
        "-o", "--out", type=kind, callback=callback, required=required, default=default, show_default=True, help=help
    )


def _parse_columns(ctx: click.Context, parameter: click.Parameter, text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    image, _, label = text.partition(",")
    if not image or not label:
        raise click.BadParameter(f"{text!r} is not IMAGE,LABEL")
    return image, label


decoder_option = click.option(
    "--decoder",
    type=click.Choice(DECODERS),
    default=DECODERS[0],
    show_default=True,
    help="Decoder of colour JPEG files; Pillow decodes everything else.",
)


def labels_options(command: Command) -> Command:
    """Add ``--label-offset`` and ``--columns``, for what the data does not say itself."""
    command = click.option(
        "--columns", metavar="IMAGE,LABEL", callback=_parse_columns, help="Column names in a table (CSV, parquet)."
    )(command)
    return click.option(
        "--label-offset",
        type=click.IntRange(-1000, 1000),
        metavar="N",
        help="Offset added to every label: -1 if labels start at 1, 1 if the network's output 0 is a background class.",
    )(command)
