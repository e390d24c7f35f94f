"""How to evaluate."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bcdzoo.data.preprocess import Preprocess
from bcdzoo.evaluation.mode import STRICT, Mode


@dataclass(frozen=True)
class Options:
    """How to evaluate; what :func:`evaluate` says of its arguments holds.

    Attributes:
        modes: Ways to run each network, each with a result of its own.
        resume: Go on with the unfinished run of these networks on these images, or fail.
        fresh: Throw away what an unfinished run of the same has done.
    """

    manifest: Path | None = None
    preprocess: str | Preprocess | None = None
    layout: str | None = None
    label_offset: int | None = None
    columns: tuple[str, str] | None = None
    modes: Sequence[Mode] = (STRICT,)
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
