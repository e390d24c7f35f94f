"""What is said of a family of checkpoints: how its files are read, and how its keys become this zoo's.

A layout's rules are (pattern, replacement) over keys; the first that matches the beginning of a key is taken. A
replacement that ends in ``#1`` or ``#2`` is a part of one tensor, concatenated along the output channels; a replacement
None leaves out tensors that the network's output does not depend on.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:  # the manifest looks formats up, without torch
    from torch import Tensor

State: TypeAlias = "dict[str, Tensor]"
Replacement: TypeAlias = str | Callable[[re.Match[str]], str] | None
Rule: TypeAlias = tuple[str, Replacement]


@dataclass(frozen=True)
class Layout:
    """The keys of one network, or of several that are named alike.

    Attributes:
        rules: From the family's keys to this zoo's.
        build: Arguments of :func:`bcdzoo.create_model` that make the network the one its files were trained as; a
            network that does not take them cannot have these files.
        as_usual: Arguments for which its files are known to have the network's default.
        preprocess: A preset or spec that its files were trained for; empty where nobody said.
        unfit: Says of a file's tensors why they cannot be run, if they cannot.
    """

    rules: Sequence[Rule] = ()
    build: Mapping[str, Any] = field(default_factory=dict)
    as_usual: tuple[str, ...] = ()
    preprocess: str = ""
    unfit: Callable[[State], str] = lambda state: ""


@dataclass(frozen=True)
class Container:
    """A kind of file that other families do not use.

    Attributes:
        holds: Whether a file with this path and beginning is one.
        read: Its tensors.
    """

    holds: Callable[[Path, bytes], bool]
    read: Callable[[Path], State]


@dataclass(frozen=True)
class Family:
    """The checkpoints of one program.

    Attributes:
        layouts: One for each naming of keys; none where its files are fetched only.
        container: What its files are, other than safetensors or what torch writes.
    """

    layouts: tuple[Layout, ...] = ()
    container: Container | None = None


def shifted(group: int, number: int, template: str) -> Callable[[re.Match[str]], str]:
    """A replacement in which one group counts from another start: ``{n}`` is that group plus ``number``."""

    def replace(match: re.Match[str]) -> str:
        return match.expand(template.replace("{n}", str(int(match[group]) + number)))

    return replace


def by_stage(first: Sequence[int], template: str) -> Callable[[re.Match[str]], str]:
    """``{n}``: the index of a block numbered by stage (group 1, from ``first``) and place in it (group 2)."""

    def replace(match: re.Match[str]) -> str:
        return match.expand(template.replace("{n}", str(first[int(match[1])] + int(match[2]))))

    return replace
