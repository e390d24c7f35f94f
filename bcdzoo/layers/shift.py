"""Short- and long-range sampling of the binary MLP block (BCDNet, "Binary MLP Block").

Each quarter of the channels is shifted in one of four directions. The figure draws the shifted-out border as padding;
the authors' released code rolls it around to the other side, and the released weights were trained so: so does this.
"""

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_unary


def shift_quarters(x: Tensor, rows: int, columns: int) -> Tensor:
    """Roll channel quarter 1 down, 2 up (by ``rows``), 3 right and 4 left (by ``columns``).

    Args:
        x: Map, (N, C, H, W), C divisible by 4.
        rows: Shift along the height, in pixels.
        columns: Shift along the width, in pixels.

    Returns:
        The shape and dtype of ``x``.
    """
    down, up, right, left = x.chunk(4, dim=1)
    return torch.cat([down.roll(rows, 2), up.roll(-rows, 2), right.roll(columns, 3), left.roll(-columns, 3)], dim=1)


def short_range(x: Tensor) -> Tensor:
    """The four neighbours: every quarter shifted by one pixel; (N, C, H, W) to the same."""
    if has_torch_function_unary(x):
        return handle_torch_function(short_range, (x,), x)
    return shift_quarters(x, 1, 1)


def long_range(x: Tensor) -> Tensor:
    """The far side: every quarter shifted by half the map, rounded down (3 pixels at 7×7); (N, C, H, W) to the same."""
    if has_torch_function_unary(x):
        return handle_torch_function(long_range, (x,), x)
    return shift_quarters(x, x.shape[2] // 2, x.shape[3] // 2)
