"""Options that several commands share."""

import tomllib
from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]


def _parse_settings(ctx: click.Context, parameter: click.Parameter, settings: tuple[str, ...]) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{setting!r} is not KEY=VALUE")
        try:
            parsed[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            parsed[key] = value  # a bare word
    return parsed


def settings_option(name: str, help: str) -> Callable[[Command], Command]:
    """``--set KEY=VALUE``, repeatable, as a dictionary; a value is TOML, or else a bare word.

    Args:
        name: The parameter that the command gets.
        help: What can be set.
    """
    return click.option("--set", name, metavar="KEY=VALUE", multiple=True, callback=_parse_settings, help=help)


build_settings = settings_option(
    "build", "An argument of the network itself, such as step=1 (W/A 32/1) or mlp_groups=4; repeatable."
)
