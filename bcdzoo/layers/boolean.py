"""Maps of signs, and what BoolNet computes with them in place of additions (Guo et al., arXiv:2106.06991, 2021).

A map may have several slices of the same channels, (N, slices·C, H, W), one behind the other.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers.lowering import Lowering, Value, constant
from bcdzoo.layers.metadata import OpCounts


class Xnor(nn.Module):
    """The product of two maps of signs: XNOR of their bits; any shape.

    An operation on bits that is in no sum is free in every counting convention.
    """

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a * b

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {}


class _Or(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        total = a + b
        ctx.save_for_backward(total < 1)
        return (total + 1).clamp_(-1, 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        (passes,) = ctx.saved_tensors
        grad = grad * passes
        return grad, grad


class Either(nn.Module):
    """+1 where one of two maps of signs is: OR of their bits; any shape. It has no gradient where both are.

    The authors' ``clamp`` has a gradient at its bounds in torch 1.8, which they used, and without that nothing learns.
    Free in every counting convention, as :class:`Xnor` is.
    """

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        out: Tensor = _Or.apply(a, b)
        return out

    def lower(self, plan: Lowering, a: Value, b: Value) -> Value:
        total = plan.add("scale_shift", x=plan.add("add", a=a, b=b), alpha=constant(1.0), beta=constant(1.0))
        return plan.add("clip", x=total, low=-1.0, high=1.0)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {}


class SignBorder(nn.Module):
    """A map of signs whose outermost pixels are repeated around it: a border that a 1-bit machine can hold.

    Args:
        pixels: Width of the border; 0 declares the map to be of signs, and leaves it as it is.

    Shape:
        (N, C, H, W) to (N, C, H + 2·pixels, W + 2·pixels).
    """

    def __init__(self, pixels: int) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x, (self.pixels,) * 4, mode="replicate") if self.pixels else x

    def lower(self, plan: Lowering, x: Value) -> Value:
        if self.pixels:
            x = plan.add("replicate", x=x, padding=(self.pixels,) * 4)
        return plan.add("binarize", x=x, threshold=constant(0.0))

    def extra_repr(self) -> str:
        return str(self.pixels)


class SliceMean(nn.Module):
    """The mean of a map's slices.

    Args:
        slices: Number of slices, a power of two.

    Shape:
        (N, slices·C, H, W) to (N, C, H, W).
    """

    def __init__(self, slices: int) -> None:
        super().__init__()
        self.slices = slices

    def forward(self, x: Tensor) -> Tensor:
        total, *others = x.chunk(self.slices, 1)
        for other in others:
            total = total + other
        mean: Tensor = total / self.slices
        return mean

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"add": (self.slices - 1) * output.numel()}


class ChannelBias(nn.Module):
    """A learned bias of each channel, which the batch normalization behind it takes away again; (N, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.bias[:, None, None]
        return out

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {}


def evens_first(x: Tensor) -> Tensor:
    """The channels of even number, and then those of odd number; (N, C, H, W)."""
    return torch.cat([x[:, 0::2], x[:, 1::2]], 1)


class Interleave(nn.Module):
    """Takes :func:`evens_first` back."""

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)
        return out

    def lower(self, plan: Lowering, x: Value) -> Value:
        channels, height, width = x.shape
        halves = plan.add("reshape", x=x, shape=(2, channels // 2, height * width))
        pairs = plan.add("permute", x=halves, axes=(1, 0, 2))
        return plan.add("reshape", x=pairs, shape=(channels, height, width))
