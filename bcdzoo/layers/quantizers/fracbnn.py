"""FracBNN's quantizers (Zhang et al., FPGA 2021): symmetric steps, and images as thermometers of bits."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from bcdzoo.layers.folding import least_reaching
from bcdzoo.layers.lowering import Lowering, Value, constant
from bcdzoo.layers.metadata import OpCounts


def _codes(x: Tensor, bits: int) -> Tensor:
    """Number of the nearest of 2^bits evenly spaced values from -1 to 1, halves to even."""
    step: float = 2 / (2**bits - 1)
    return ((x.clamp(-1, 1) + 1) / step).round()


class _SymmetricLevels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.bits = bits
        return 2 * _codes(x, bits) - float(2**bits - 1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (x,) = ctx.saved_tensors
        inside: Tensor = x.abs() < 1
        return grad * inside * float(2**ctx.bits - 1), None


def symmetric_levels(x: Tensor, bits: int) -> Tensor:
    """Odd integers L from -n to n, n = 2^bits - 1, for which L/n is nearest to x; any shape.

    Backward: n inside of (-1, 1), so that L/n has derivative 1 there; 0 outside.
    """
    levels: Tensor = _SymmetricLevels.apply(x, bits)
    return levels


class SymmetricSteps(nn.Module):
    """The nearest of 2^bits evenly spaced values from -1 to 1; any shape.

    Args:
        bits: Bits of a value.
    """

    def __init__(self, bits: int) -> None:
        super().__init__()
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        return symmetric_levels(x, self.bits) / float(2**self.bits - 1)

    def lower(self, plan: Lowering, x: Value) -> Value:
        n, none = 2**self.bits - 1, constant(0.0)
        rest = plan.add("scale_shift", x=x, alpha=constant(float(n)), beta=none)
        total: Value | None = None
        for power in range(self.bits - 1, -1, -1):  # the highest bit first, and then those of what is left
            sign = plan.add("binarize", x=rest, threshold=none)
            part = plan.add("scale_shift", x=sign, alpha=constant(2.0**power), beta=none)
            rest = plan.add("subtract", a=rest, b=part)
            total = part if total is None else plan.add("add", a=total, b=part)
        assert total is not None
        return plan.add("scale_shift", x=total, alpha=constant(1 / n), beta=none)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"activation": output.numel()}


class ThermometerInput(nn.Module):
    """Each channel of an image as bits: bit k is +1 where round(pixel/8) > k, pixels from 0 to 255; no gradient.

    Args:
        mean: Mean of each channel that the preprocessing subtracts.
        std: Standard deviation that it divides by.
        resolution: Grey levels a bit stands for.

    Shape:
        (N, 3, H, W) to ±1 of (N, 96, H, W), the bits of the first channel first.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float], resolution: int = 8) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        self.resolution, self.bits = resolution, round(255 / resolution)

    def _reached(self, x: Tensor) -> Tensor:
        """Bits that are set; (…, 3, H, W) to (…, 3, bits, H, W)."""
        steps = ((x * self.std + self.mean) * 255 / self.resolution).round()
        return steps.unsqueeze(-3) > torch.arange(self.bits, device=x.device)[:, None, None]

    def forward(self, x: Tensor) -> Tensor:
        bits = self._reached(x.detach()).to(x.dtype)
        return (bits * 2 - 1).flatten(1, 2)

    def lower(self, plan: Lowering, x: Value) -> Value:
        def reaches(numbers: Tensor) -> Tensor:
            each = numbers.reshape(1, -1, 1, self.bits).expand(1, -1, self.bits, -1)  # every bit of every number
            return self._diagonal(each)

        copies = torch.eye(len(self.mean)).repeat_interleave(self.bits, dim=0)[:, :, None, None]
        window = {"stride": (1, 1), "padding": (0,) * 4, "same": 0, "pad_value": 0.0, "dilation": (1, 1), "groups": 1}
        spread = plan.add("conv", x=x, weight=copies, relu=0, **window)
        return plan.add("binarize", x=spread, threshold=least_reaching(reaches, len(copies)))

    def _diagonal(self, x: Tensor) -> Tensor:
        """Of numbers (1, 3, bits, bits) that are asked as a map, bit k of the k-th one."""
        reached = self._reached(x[:, :, :1])[0, :, :, 0]  # (3, bit, number)
        return reached.diagonal(dim1=1, dim2=2).flatten()

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {"sign": output.numel()}
