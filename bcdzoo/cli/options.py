"""Options that several commands share."""

import tomllib
from typing import Any

import click


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


build_settings = click.option(
    "--set",
    "build",
    metavar="KEY=VALUE",
    multiple=True,
    callback=_parse_settings,
    help="An argument of the network itself, such as step=1 (W/A 32/1) or mlp_groups=4; repeatable.",
)
