"""Batch normalization and signs as fewer numbers that give the same results, bit for bit."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn


def fold_statistics(
    mean: Tensor, var: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> tuple[Tensor, Tensor]:
    """Batch normalization as ``x·alpha + beta``, in torch's order of operations.

    Returns:
        alpha and beta, float32 of shape (C,), which reproduce torch's results bit for bit.
    """
    # NumPy divides and takes the root with correct rounding, as the batch normalization itself does and 1 / tensor not
    root = np.sqrt(var.numpy() + np.float32(eps))
    alpha = torch.from_numpy(np.float32(1) / root)
    alpha = alpha if weight is None else alpha * weight.detach()
    # float64 holds the product exactly: one rounding, as torch's fused operation has
    offset = torch.zeros_like(mean) if bias is None else bias.detach()
    return alpha, (offset.double() - mean.double() * alpha.double()).float()


def fold(bn: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """:func:`fold_statistics` of a module."""
    assert bn.running_mean is not None and bn.running_var is not None
    return fold_statistics(bn.running_mean, bn.running_var, bn.weight, bn.bias, bn.eps)


def sign_threshold(alpha: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """Fold batch normalization and the sign after it into one comparison, exact for every float.

    Args:
        alpha: Factor, float32, (C,).
        beta: Offset, float32, (C,).

    Returns:
        Thresholds t, float32 of shape (C,), and where the sign falls, bool: ``alpha·x + beta ≥ 0`` is ``x ≥ t``, or
        not ``x ≥ t`` if it falls.
    """
    alpha, beta = alpha.double(), beta.double()
    falls = alpha < 0

    def reaches(x: Tensor) -> Tensor:
        # the product is exact in float64; to float32 as torch rounds, whose -0 counts as 0
        return ((alpha * x.double() + beta).float() >= 0) ^ falls

    constant = torch.where(beta >= 0, -torch.inf, torch.inf).float()
    return torch.where(alpha == 0, constant, least_reaching(reaches, len(alpha))), falls


def least_reaching(reaches: Callable[[Tensor], Tensor], count: int) -> Tensor:
    """The smallest floats for which something holds that holds for all larger ones; infinity where it never does.

    Args:
        reaches: Says whether it holds for each of ``count`` numbers, float32.
        count: How many are asked at once.
    """
    # The floats in order are the integers between those of -inf and +inf: bisection.
    low = torch.full((count,), -_INFINITY - 1, dtype=torch.int64)  # not reached
    high = torch.full((count,), _INFINITY, dtype=torch.int64)  # reached
    while (high - low > 1).any():
        middle = (low + high).div(2, rounding_mode="floor")
        reached = reaches(_ordered_float(middle))
        low, high = torch.where(reached, low, middle), torch.where(reached, middle, high)
    return _ordered_float(high)


_INFINITY = 0x7F80_0000  # its bits


def _ordered_float(number: Tensor) -> Tensor:
    """Return the float32 at a position in their order, 0 at 0."""
    bits = torch.where(number < 0, -number | 0x8000_0000, number)
    return torch.from_numpy(bits.numpy().astype(np.uint32).view(np.float32))
