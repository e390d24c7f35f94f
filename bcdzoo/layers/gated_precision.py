"""FracBNN's convolution (Zhang et al., FPGA 2021): a second bit of the activations where the first says so."""

from typing import Any

import torch
from torch import Tensor, nn

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.folding import least_reaching
from bcdzoo.layers.lowering import Lowering, Value, constant
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizers.fracbnn import symmetric_levels
from bcdzoo.layers.quantizers.sign import ClippedSignWeight, sign, straight_through

STEEPNESS = 5.0
"""Slope of the sigmoid that stands for the gate's step in the backward pass."""


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0.5).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        is_open: Tensor = x >= 0.5
        return grad * is_open


class GatedPrecisionConv2d(nn.Module):
    """A convolution of 1-bit weights, whose outputs see one bit of the activations or two.

    An activation is one of -1, -1/3, 1/3, 1: ``(2m + l)/3`` with two signs, m the higher bit. The output is
    ``2/3·conv(m)``, and ``+ 1/3·conv(l)`` where the first is larger than a learned threshold of the output channel.
    Backward, the gate is a sigmoid where it is open, and has no gradient where it is closed.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        kernel_size: Height and width of the kernel.
        stride: Stride in pixels.

    Shape:
        (N, c_in, H, W), real-valued, to (N, c_out, ⌈H/stride⌉, ⌈W/stride⌉).
    """

    w_bits, a_bits = 1, 2

    def __init__(self, c_in: int, c_out: int, kernel_size: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = LowBitConv2d(c_in, c_out, kernel_size, stride, ClippedSignWeight(1.3))
        self.threshold = nn.Parameter(torch.full((c_out,), -1.0))

    def forward(self, x: Tensor) -> Tensor:
        levels = symmetric_levels(x, 2)
        high = straight_through(sign(levels), levels / 3)
        coarse = self.conv(high) * (2 / 3)
        fine = self.conv(levels - 2 * high) / 3
        gate: Tensor = _Gate.apply(self._opening(coarse))
        out: Tensor = coarse + gate * fine
        return out

    def _opening(self, coarse: Tensor) -> Tensor:
        return torch.sigmoid(STEEPNESS * (coarse - self.threshold[:, None, None]))

    def lower(self, plan: Lowering, x: Value) -> Value:
        low, middle, high = (_least_of_level(level) for level in (-1, 1, 3))
        lowest = plan.add("binarize", x=x, threshold=low)
        inner = plan.add("binarize", x=x, threshold=middle, falls=constant(1.0))
        upper = plan.add("binarize", x=x, threshold=high)
        bits = plan.add("add", a=plan.add("add", a=lowest, b=inner), b=upper)
        sums = self.conv.lower(plan, plan.add("binarize", x=x, threshold=middle))
        none = constant(0.0)
        coarse = plan.add("scale_shift", x=sums, alpha=constant(2 / 3), beta=none)
        second = self.conv.lower(plan, plan.add("binarize", x=bits, threshold=none))
        fine = plan.add("scale_shift", x=second, alpha=constant(1 / 3), beta=none)
        opens = least_reaching(lambda x: self._opening(x[:, None, None])[:, 0, 0] > 0.5, len(self.threshold))
        gate = plan.add("binarize", x=coarse, threshold=opens)
        gate = plan.add("scale_shift", x=gate, alpha=constant(0.5), beta=constant(0.5))
        return plan.add("add", a=coarse, b=plan.add("multiply", a=gate, b=fine))

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        c_in, kernel = self.conv.kernel_shape[1:3]
        macs = output.numel() * c_in * kernel**2
        # both bits everywhere, though a machine may leave the second one out where the gate is closed
        return {"binary_mac": 2 * macs, "activation": inputs[0].numel(), "gate": output.numel()}


def _least_of_level(level: int) -> Tensor:
    return least_reaching(lambda x: symmetric_levels(x, 2) >= level, 1)
