"""How to evaluate."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bcdzoo.data.preprocess import Preprocess
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.mode import FASTER, Mode
from bcdzoo.text import printable


@dataclass(frozen=True)
class EvalOptions:
    """How to evaluate, from the command line or Python; what :func:`bcdzoo.evaluate` says of its arguments holds.

    Attributes:
        check_stability: Run each network in each faster mode beside the strict one.
        resume: Go on with the unfinished run of these networks on these images, or fail.
        fresh: Throw away what an unfinished run of the same has done.
        label: A word of the user's by which the result is found again.

    Raises:
        BcdzooError: A value that no evaluation has.
    """

    weights: str | Path | None = None
    manifest: Path | None = None
    preprocess: str | Preprocess | None = None
    layout: str | None = None
    label_offset: int | None = None
    columns: tuple[str, str] | None = None
    backend: str = "torch"
    amp: str | None = None
    compile: bool = False
    channels_last: bool = False
    check_stability: bool = False
    batch_size: int = 32
    device: str | torch.device | None = None
    workers: int | None = None
    skip_bad: bool = False
    check: bool = True
    seed: int = 0
    progress: bool | None = None
    store: bool = False
    resume: bool = False
    fresh: bool = False
    label: str | None = None

    def __post_init__(self) -> None:
        for names, right, wanted in _WANTED:
            for name in names:
                if not right(value := getattr(self, name)):
                    raise BcdzooError(f"{name}: must be {wanted}, not {printable(repr(value), 60)}")
        modes = self.modes  # made at once, so that what no mode has is refused
        if self.backend == "packed" and modes != (Mode("packed"),):
            raise BcdzooError(
                "the packed backend is strict float32 around its bits: leave amp, compile and channels_last out"
            )

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Ways to run each network, each with a result of its own."""
        mode = Mode(self.backend, self.amp, self.compile, self.channels_last)
        return (mode, *FASTER) if self.check_stability else (mode,)


def _whole(lowest: int, highest: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and lowest <= value <= highest


def _none_or(right: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or right(value)


def _of(*kinds: type) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, kinds)


def _two_names(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(isinstance(name, str) for name in value)


def _label(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= 60 and value == printable(value).strip()


_FLAGS = ("check_stability", "skip_bad", "check", "store", "resume", "fresh")
_MOST = 2**31 - 1

_WANTED: tuple[tuple[tuple[str, ...], Callable[[Any], bool], str], ...] = (
    (("batch_size",), _whole(1, _MOST), "a whole number from 1 on"),
    (("workers",), _none_or(_whole(0, _MOST)), "a whole number from 0 on, or None"),
    (("label_offset",), _none_or(_whole(-_MOST, _MOST)), "a whole number or None"),
    (("seed",), _whole(-(2**63), 2**64 - 1), "a whole number of 64 bits"),
    (_FLAGS, _of(bool), "True or False"),
    (("progress",), _none_or(_of(bool)), "True, False or None"),
    (("layout",), _none_or(_of(str)), "a name or None"),
    (("manifest",), _none_or(_of(str, os.PathLike)), "a path or None"),
    (("weights",), _none_or(_of(str, os.PathLike)), "a tag, a path or None"),
    (("label",), _none_or(_label), "a line of 1 to 60 characters or None"),
    (("preprocess",), _none_or(_of(str, Preprocess)), "a preset's name, a spec, a Preprocess or None"),
    (("columns",), _none_or(_two_names), "two names or None"),
    (("device",), _none_or(_of(str, torch.device)), "a torch.device, its name or None"),
)
"""Arguments, when they are right, and what they should be in words."""
