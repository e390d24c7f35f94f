"""Write the parts of docs/cli.md and docs/api.md that are made of the code, so that they can be read without the site.

Run ``python -m scripts.make_reference`` after a change of an option, a signature or the first line of a docstring.
"""

import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import click
import griffe

from bcdzoo.cli import cli

DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- made by scripts/make_reference.py -->", "<!-- end -->"
_WIDTH = 100
_MADE = re.compile(rf"{BEGIN}\n.*?{END}(?P<named>(\n<!-- ::: [\w.]+ -->)*)", re.DOTALL)
_NAMED = re.compile(r"<!-- ::: ([\w.]+) -->")


def with_reference(page: str) -> str:
    """A page's text with the parts that are made of the code as it is now: API tables, or all commands."""

    def made(found: re.Match[str]) -> str:
        names = _NAMED.findall(found["named"])
        return f"{BEGIN}\n{_table(names) if names else _commands()}\n{END}{found['named']}"

    return _MADE.sub(made, page)


def _commands() -> str:
    context = click.Context(cli, info_name="bcdzoo", terminal_width=_WIDTH, **cli.context_settings)
    return "\n\n".join(f"## {path}\n\n```text\n{text}\n```" for path, text in _helps(cli, context))


def _helps(command: click.Command, context: click.Context) -> Iterator[tuple[str, str]]:
    """Every command below one, with what ``--help`` prints."""
    yield context.command_path, command.get_help(context)
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from _helps(below, click.Context(below, info_name=name, parent=context, terminal_width=_WIDTH))


@functools.cache
def _package() -> griffe.Object | griffe.Alias:
    return griffe.load("bcdzoo", search_paths=[DOCS.parent])


def _table(names: list[str]) -> str:
    rows = [_row(found) for name in names for found in _shown(_package()[name.removeprefix("bcdzoo.")])]
    return "\n".join(["", "| | |", "|---|---|", *rows, ""])


def _shown(found: griffe.Object | griffe.Alias) -> Iterator[griffe.Object | griffe.Alias]:
    """Something public; of a module, what it defines."""
    if not found.is_module:
        yield found
        return
    for member in found.members.values():
        if not member.is_alias and not member.name.startswith("_") and member.docstring:
            yield member


def _row(found: griffe.Object | griffe.Alias) -> str:
    assert found.docstring, found.path
    summary = re.sub(r":\w+:`([^`]+)`", r"`\1`", found.docstring.value.split("\n\n")[0]).replace("``", "`")
    call = ""
    if (found.is_function or found.is_class) and "dataclass" not in found.labels:
        call = f"({', '.join(_parameters(found))})"
    return f"| `{found.path}{call}` | {' '.join(summary.split())} |".replace("\\|", "|")


def _parameters(found: griffe.Object | griffe.Alias) -> Iterator[str]:
    for parameter in cast(griffe.Function | griffe.Class, found).parameters:
        if parameter.name != "self":
            stars = {"variadic positional": "*", "variadic keyword": "**"}.get(parameter.kind.value, "")
            default = "" if stars or parameter.default is None else f"={parameter.default}"
            yield f"{stars}{parameter.name}{default}"


def main() -> None:
    """Write both pages anew."""
    for page in (DOCS / "cli.md", DOCS / "api.md"):
        page.write_text(with_reference(page.read_text()))


if __name__ == "__main__":
    main()
