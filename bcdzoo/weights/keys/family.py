"""The description of a family of checkpoints: how its files are read, and how its keys become this zoo's.

A layout's rules are (pattern, replacement) over keys; the first that matches the beginning of a key applies. A
replacement that ends in ``#1`` or ``#2`` is a part of one tensor, concatenated along the output channels; a replacement
None drops tensors that the network's output does not depend on.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:  # the manifest uses the formats without torch
    from torch import Tensor, nn

State: TypeAlias = "dict[str, Tensor]"
Replacement: TypeAlias = str | Callable[[re.Match[str]], str] | None
Rule: TypeAlias = tuple[str, Replacement]


@dataclass(frozen=True)
class Layout:
    """The keys of one network, or of several with the same naming.

    Attributes:
        rules: Rules from the family's keys to this zoo's.
        build: Arguments of :func:`bcdzoo.create_model` with which its files were trained; a network that does not
            accept them cannot load these files.
        as_usual: Arguments for which its files are known to use the network's default.
        preprocess: Preset or spec that its files were trained with; empty if unknown.
        unfit: Function of a file's tensors and the network that returns why they cannot be used; empty if they can.
        assumed: Function of the same that returns what the tensors do not say, and is assumed; empty if nothing is.
        used: Function that returns a file's tensors, under the same keys, without the parts that no output depends on.
    """

    rules: Sequence[Rule] = ()
    build: Mapping[str, Any] = field(default_factory=dict)
    as_usual: tuple[str, ...] = ()
    preprocess: str = ""
    unfit: "Callable[[State, nn.Module], str]" = lambda state, network: ""
    assumed: "Callable[[State, nn.Module], str]" = lambda state, network: ""
    used: Callable[[State], State] = lambda state: state


@dataclass(frozen=True)
class Container:
    """A file format that no other family uses.

    Attributes:
        holds: Predicate on a file's path and first bytes.
        read: Function that reads its tensors.
    """

    holds: Callable[[Path, bytes], bool]
    read: Callable[[Path], State]


@dataclass(frozen=True)
class Family:
    """The checkpoints of one program.

    Attributes:
        layouts: One for each naming of keys; none if its files are only fetched.
        container: File format, if it is neither safetensors nor torch's.
    """

    layouts: tuple[Layout, ...] = ()
    container: Container | None = None


def shifted(group: int, number: int, template: str) -> Callable[[re.Match[str]], str]:
    """Return a replacement with an offset in one group: ``{n}`` is that group plus ``number``."""

    def replace(match: re.Match[str]) -> str:
        return match.expand(template.replace("{n}", str(int(match[group]) + number)))

    return replace


def by_stage(first: Sequence[int], template: str) -> Callable[[re.Match[str]], str]:
    """Return a replacement where ``{n}`` is a block's index: ``first[stage]`` (group 1) plus its position (group 2)."""

    def replace(match: re.Match[str]) -> str:
        return match.expand(template.replace("{n}", str(first[int(match[1])] + int(match[2]))))

    return replace
