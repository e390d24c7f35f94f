"""Padding as TensorFlow's "same" does it, for networks that were trained there."""

import math

from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.errors import BcdzooError

PADDINGS = ("symmetric", "tensorflow")


def pad_same(x: Tensor, kernel_size: int, stride: int, value: float = 0.0) -> Tensor:
    """Pad like :class:`SamePad`; for a dilated kernel, ``kernel_size`` is its extent."""

    def needed(size: int) -> int:
        return max((math.ceil(size / stride) - 1) * stride + kernel_size - size, 0)

    height, width = (needed(size) for size in x.shape[-2:])
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2), value=value)


class SamePad(nn.Module):
    """TensorFlow's padding "same": as little as gives ⌈size/stride⌉ outputs, the odd pixel at the bottom and right.

    With stride 1 and an odd kernel that is symmetric; a 3×3 of stride 2 on an even map pads bottom and right alone.

    Args:
        kernel_size: Kernel size of the next layer.
        stride: Stride of the next layer.
        value: Padding value; -inf before a max pooling.

    Shape:
        (N, C, H, W) to (N, C, H', W').
    """

    def __init__(self, kernel_size: int, stride: int, value: float = 0.0) -> None:
        super().__init__()
        self.kernel_size, self.stride, self.value = kernel_size, stride, value

    def forward(self, x: Tensor) -> Tensor:
        return pad_same(x, self.kernel_size, self.stride, self.value)


def check_padding(padding: str) -> None:
    """Refuse a padding that is none of :data:`PADDINGS`.

    Raises:
        BcdzooError: It is unknown.
    """
    if padding not in PADDINGS:
        raise BcdzooError(f"padding must be one of {', '.join(PADDINGS)}, not {padding!r}")


def split_padding(kernel_size: int, stride: int, padding: str) -> tuple[nn.Module | None, int]:
    """How to pad a convolution: the module to put before it, if any, and its own padding on every side.

    Args:
        kernel_size: Kernel size, odd.
        stride: Stride.
        padding: "symmetric" (half the kernel on every side, as PyTorch's networks do) or "tensorflow".

    Raises:
        BcdzooError: ``padding`` is unknown.
    """
    check_padding(padding)
    if padding == "symmetric" or stride == 1:
        return None, kernel_size // 2
    return SamePad(kernel_size, stride), 0


def max_pool(kernel_size: int, padding: str) -> nn.Module:
    """Max pooling of stride 2 with the padding of :func:`split_padding`."""
    if padding == "tensorflow":
        return nn.Sequential(SamePad(kernel_size, 2, -math.inf), nn.MaxPool2d(kernel_size, 2))
    return nn.MaxPool2d(kernel_size, 2, (kernel_size - 1) // 2)
