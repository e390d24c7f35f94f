"""The fenced blocks of README.md and docs/*.md: commands, what they print, Python, and files."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`(bcdzoo [^`]+)`")
_COMMAND = re.compile(r"(\$ )?([A-Z_]+=\S* )*(\S*/)?(bcdzoo|torchrun|python3?|pip|pytest|mkdocs) ")
_SHELL = ("", "bash", "console", "sh", "shell")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: First word behind the fence.
        title: The file it is the content of, of ``title="…"`` behind the fence.
        text: What is in it.
        line: Where it begins in its page.
    """

    language: str
    title: str
    text: str
    line: int

    @property
    def commands(self) -> list[str]:
        """The commands in it, one a line, without prompts and comments; none where it is something else."""
        if self.language not in _SHELL or not _COMMAND.match(self.text):
            return []
        lines = self.text.replace("\\\n", " ").splitlines()
        if self.language == "console":
            lines = [line for line in lines if line.startswith("$ ")]  # the others are what they print
        words = [shlex.split(line.removeprefix("$ "), comments=True) for line in lines]
        return [part for line in words for part in shlex.join(line).split(" '&&' ") if part]


@cache
def blocks(page: Path) -> list[Block]:
    """Every fenced block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for fence in _FENCE.finditer(text):
        language, _, rest = fence["info"].strip().partition(" ")
        title = re.search(r'title="([^"]+)"', rest)
        found.append(Block(language, title[1] if title else "", fence["text"], text[: fence.start()].count("\n") + 1))
    return found


def commands(page: Path) -> list[str]:
    """Every command of a page, in order."""
    return [command for block in blocks(page) for command in block.commands]


def inline(page: Path) -> Iterator[str]:
    """The commands within a page's sentences, which may leave out what is not their point."""
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for command in _INLINE.findall(prose):
        yield " ".join(command.split())
