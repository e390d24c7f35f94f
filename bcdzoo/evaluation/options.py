"""Options of an evaluation."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bcdzoo.data.decode import require_decoder
from bcdzoo.data.preprocess import Preprocess
from bcdzoo.errors import BcdzooError
from bcdzoo.evaluation.mode import FASTER, PACKED, Mode
from bcdzoo.text import printable


@dataclass(frozen=True)
class EvalOptions:
    """Options of an evaluation; most are arguments of :func:`bcdzoo.evaluate`, which describes them.

    Attributes:
        check_stability: Whether to run each network in each faster mode as well.
        resume: Whether to require an unfinished run of these networks on these images, and resume it.
        fresh: Whether to discard an unfinished run of the same command.
        label: Word by which the result is found again.

    Raises:
        BcdzooError: A value is invalid.
    """

    weights: str | Path | None = None
    manifest: Path | None = None
    preprocess: str | Preprocess | None = None
    layout: str | None = None
    label_offset: int | None = None
    columns: tuple[str, str] | None = None
    decoder: str | None = None
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
        if self.decoder is not None:
            require_decoder(self.decoder)
        modes = self.modes  # validates the fields of a mode
        if self.backend == "packed" and modes != (PACKED,):
            raise BcdzooError(
                "the packed backend uses strict float32 around its bits: omit amp, compile and channels_last"
            )

    @property
    def modes(self) -> tuple[Mode, ...]:
        """Modes in which to run each network, each with its own result."""
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
    (("batch_size",), _whole(1, _MOST), "a whole number of at least 1"),
    (("workers",), _none_or(_whole(0, _MOST)), "a whole number of at least 0, or None"),
    (("label_offset",), _none_or(_whole(-_MOST, _MOST)), "a whole number or None"),
    (("seed",), _whole(-(2**63), 2**64 - 1), "a whole number of 64 bits"),
    (_FLAGS, _of(bool), "True or False"),
    (("progress",), _none_or(_of(bool)), "True, False or None"),
    (("layout", "decoder"), _none_or(_of(str)), "a name or None"),
    (("manifest",), _none_or(_of(str, os.PathLike)), "a path or None"),
    (("weights",), _none_or(_of(str, os.PathLike)), "a tag, a path or None"),
    (("label",), _none_or(_label), "a line of 1 to 60 characters or None"),
    (("preprocess",), _none_or(_of(str, Preprocess)), "a preset's name, a spec, a Preprocess or None"),
    (("columns",), _none_or(_two_names), "two names or None"),
    (("device",), _none_or(_of(str, torch.device)), "a torch.device, its name or None"),
)
"""Arguments, their check, and a description of valid values."""
