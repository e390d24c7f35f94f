"""Convolutions of small integers as products of 8-bit matrices with 32-bit sums: a GPU's tensor cores in exact form.

Each output pixel is a row of the numbers below the kernel, and all rows are multiplied with the weights at once. 8-bit
numbers and 32-bit sums round nothing, whatever the order of summation. A convolution in TF32 or half precision would
not be exact by argument: the products are, but cuDNN may transform maps and weights first (Winograd), and does round
those; and half precision rounds sums above 2048.
"""

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

MOST_BITS = 7
"""Levels of so many bits, -(2^k - 1) to 2^k - 1, are 8-bit numbers."""
LARGEST = 2**MOST_BITS - 1

_GRAIN = 8  # of rows' lengths and of outputs, and the bytes that are copied at once
_FEWEST_ROWS = 17
_BYTES = 1 << 28  # of rows at once


def applies(x: Tensor, levels: Tensor, groups: int = 1) -> bool:
    """Whether :func:`conv2d` can take these: float32 on a GPU that has the product, with no gradient wanted."""
    if torch.compiler.is_compiling() or torch.is_grad_enabled() or x.dtype != torch.float32 or not x.is_cuda:
        return False
    return fits(x, levels, groups) and _available(x.device)


def fits(x: Tensor, levels: Tensor, groups: int = 1) -> bool:
    """Whether the sizes are such that the product takes them, on any device."""
    c_out, c_in, *_ = levels.shape
    return groups == 1 and c_in % _GRAIN == 0 and c_out % _GRAIN == 0 and x.numel() > 0


def conv2d(x: Tensor, levels: Tensor, scale: Tensor, stride: int, padding: int, dilation: int = 1) -> Tensor:
    """``F.conv2d(x, levels) * scale`` with exact sums.

    Args:
        x: Integers of at most 127 in absolute value, in floating point, (N, c_in, H, W).
        levels: Likewise, (c_out, c_in, k, k).
        scale: Scale of each output channel, (c_out,), float32.
        stride: Stride in pixels.
        padding: Zeros on every side, in pixels.
        dilation: Distance of the kernel's taps, in pixels.

    Returns:
        float32 of shape (N, c_out, H', W'), channels last in memory: scales times sums, which are exact up to 2^24.
    """
    c_out, kernel = len(levels), levels.shape[-1]
    height, width = ((side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for side in x.shape[2:])
    weights = levels.to(torch.int8).permute(0, 2, 3, 1).reshape(c_out, -1).t()
    images = max(1, _BYTES // (height * width * len(weights)))
    parts = []
    for some in x.split(images):
        pixels = F.pad(some.to(torch.int8).permute(0, 2, 3, 1), (0, 0, *(padding,) * 4))
        rows = _rows(pixels, kernel, stride, dilation, height, width)
        count = len(rows)
        if count < _FEWEST_ROWS:
            rows = F.pad(rows, (0, 0, 0, _FEWEST_ROWS - count))
        sums = torch._int_mm(rows, weights)[:count]
        parts.append(torch.mul(sums, scale).view(len(some), height, width, c_out))
    return torch.cat(parts).permute(0, 3, 1, 2)


def _rows(pixels: Tensor, kernel: int, stride: int, dilation: int, height: int, width: int) -> Tensor:
    """The numbers below the kernel at each output pixel, (N·H'·W', k·k·c_in), of int8 of shape (N, H, W, c_in)."""
    n, h, w, channels = pixels.shape
    words = pixels.flatten().view(torch.int64)  # eight numbers are copied as one
    c = channels // words.itemsize
    windows = words.as_strided(
        (n, height, width, kernel, kernel, c),
        (h * w * c, stride * w * c, stride * c, dilation * w * c, dilation * c, 1),
    )
    return windows.reshape(n * height * width, kernel * kernel * c).view(torch.int8)


@functools.cache
def _available(device: torch.device) -> bool:
    """Whether this torch and GPU have the product and it works as expected."""
    x = torch.ones(2, 8, 4, 4)
    x[0, :, ::2] = -1
    levels = torch.ones(8, 8, 3, 3)
    levels[1, :, 0] = -127
    scale = torch.tensor([0.5, 3.0] * 4)
    expected = F.conv2d(x, levels, padding=1) * scale[:, None, None]
    try:
        return torch.equal(conv2d(x.to(device), levels.to(device), scale.to(device), 1, 1).cpu(), expected)
    except (AttributeError, RuntimeError):  # a different build of torch, or an older GPU
        return False
