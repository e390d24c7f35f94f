"""How layers say what they compute in terms of a plan's operations (:mod:`bcdzoo.plan.operations`)."""

from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from bcdzoo.plan.operations import packed_bits


@dataclass(frozen=True)
class Value:
    """What an operation gives, while a plan is made.

    Attributes:
        number: The plan's number of it.
        shape: Its shape, without the batch.
    """

    number: int
    shape: tuple[int, ...]


class LevelsValue(NamedTuple):
    """:class:`bcdzoo.layers.quantizers.base.Levels`, while a plan is made."""

    values: Value
    scale: Tensor


class Lowering(Protocol):
    """A plan in the making."""

    def add(self, kind: str, /, **given: Any) -> Value:
        """Add an operation.

        Args:
            kind: Key in :data:`bcdzoo.plan.operations.KINDS`.
            **given: Its inputs, as :class:`Value`; its constants, as tensors; its fields, as numbers and words. None is
                as if absent, and geometry that is not given is that of a window without padding.
        """
        ...


@runtime_checkable
class Lowered(Protocol):
    """A module that states its own operations, so that nobody looks inside it: ``lower`` beside ``forward``."""

    def lower(self, plan: Lowering, *inputs: Any) -> Any:
        """Add operations that give what ``forward`` returns in evaluation mode.

        Args:
            plan: Plan in the making.
            *inputs: The arguments of ``forward``, with a :class:`Value` for each tensor that depends on the images.

        Returns:
            What ``forward`` returns, likewise.
        """
        ...


def constant(*numbers: float) -> Tensor:
    """A constant of an operation."""
    return torch.tensor(numbers, dtype=torch.float32)


def weight_planes(levels: Tensor, bits: int) -> Tensor:
    """Odd integers as planes of bits, the lowest first: a level is ``Σ 2^j·(2·bit_j - 1)``.

    Args:
        levels: From -(2^bits - 1) to 2^bits - 1, (rows, c_in, k, k).
        bits: Bits of a level.

    Returns:
        uint64 of shape (bits, rows, k², ⌈c_in/64⌉): bit c of a word is that of input channel c; bits beyond are 0.
    """
    if bits == 1:
        return torch.from_numpy(packed_bits((levels.detach() > 0).numpy())[None])
    codes = (levels.detach().round().to(torch.int32) + 2**bits - 1) // 2  # 0 to 2^bits - 1
    return torch.from_numpy(np.stack([packed_bits((codes >> j & 1).numpy()) for j in range(bits)]))
