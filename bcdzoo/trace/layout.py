"""Memory layout of tensors: which numbers are repeated, and along which dimensions they vary."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def at(x: Tensor) -> int:
    """Identify a tensor's storage, which it shares with its views."""
    return int(x.untyped_storage()._cdata)


def of_storage(x: Tensor) -> int:
    """Count the numbers in a tensor's storage."""
    return max(x.untyped_storage().nbytes() // x.element_size(), 1)


def numbers_of(x: Tensor) -> int:
    """Count a tensor's numbers without those that are repeated by a stride of 0."""
    return math.prod(size for size, step in zip(x.shape, x.stride(), strict=True) if step)


def moves_along(x: Tensor, dim: int, ndim: int) -> bool:
    """Whether a factor of a product with ``ndim`` dimensions varies along one of these."""
    own = dim - (ndim - x.ndim)
    return own >= 0 and x.shape[own] > 1 and x.stride(own) != 0


def varies_along(x: Tensor, layout: Sequence[tuple[int, int, bool]]) -> list[bool]:
    """Return for each dimension of a view whether a step along it is one along a dimension where both factors vary."""
    passed = passed_along(x, [(n, s) for n, s, _ in layout])
    return [any(layout[place][2] for place in places) for places in passed]


def passed_along(x: Tensor, layout: Sequence[tuple[int, int]]) -> list[list[int]]:
    """Return for each dimension of a view those of a layout, sizes and strides, that a step along it passes."""
    return [
        [i for i, (n, s) in enumerate(layout) if size > 1 and step < n * s and step * (size - 1) >= s]
        for size, step in zip(x.shape, x.stride(), strict=True)
    ]


def summed_dims(packet: Any, args: tuple[Any, ...]) -> list[int]:
    """Return the dimensions over which a sum or an average is taken."""
    if packet in POOLS:
        return list(range(2, args[0].ndim))
    asked = args[1] if len(args) > 1 and not isinstance(args[1], (Tensor, torch.dtype)) else None
    dims = [asked] if isinstance(asked, int) else list(asked or range(args[0].ndim))
    return [dim % max(args[0].ndim, 1) for dim in dims] if args[0].ndim else []


POOLS = {aten.avg_pool1d, aten.avg_pool2d, aten.avg_pool3d, aten._adaptive_avg_pool2d, aten._adaptive_avg_pool3d}
