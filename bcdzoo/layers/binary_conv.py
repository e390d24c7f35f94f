"""The binary convolution."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.binarize import sign_weight
from bcdzoo.layers.metadata import OpCounts


class BinaryConv2d(nn.Module):
    """Convolution with 1-bit weights: ``conv(x, sign(W)) * mean(|W|)``, no bias.

    Zero padding puts a 0 into the ±1 map: a padded position contributes nothing (not -1, not +1).

    Args:
        c_in: Input channels.
        c_out: Output channels.
        kernel_size: Height and width of the kernel.
        stride: Step in pixels.
        a_bits: Bits of the activations it is given (32: real values, then its multiplications are no bit operations).
        padding: Zeros on every side, in pixels; half the kernel where it is not given.

    Shape:
        (N, c_in, H, W), ±1 where ``a_bits`` is 1, to (N, c_out, ⌈H/stride⌉, ⌈W/stride⌉), both float32.
    """

    w_bits = 1

    def __init__(
        self, c_in: int, c_out: int, kernel_size: int, stride: int = 1, a_bits: int = 1, padding: int | None = None
    ) -> None:
        super().__init__()
        self.stride, self.a_bits = stride, a_bits
        self.padding = kernel_size // 2 if padding is None else padding
        self.weight = nn.Parameter(torch.empty(c_out, c_in, kernel_size, kernel_size))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # as nn.Conv2d: small, inside the estimator's [-1, 1]

    def forward(self, x: Tensor) -> Tensor:
        weight, scale = sign_weight(self.weight)
        return F.conv2d(x, weight, stride=self.stride, padding=self.padding).mul_(scale.flatten()[:, None, None])

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        macs = output.numel() * self.weight[0].numel()
        return {"mac": macs} if self.a_bits == 32 else {"binary_mac": macs * self.w_bits * self.a_bits}

    def extra_repr(self) -> str:
        c_out, c_in, k, _ = self.weight.shape
        return f"{c_in}, {c_out}, kernel_size={k}, stride={self.stride}, w_bits={self.w_bits}, a_bits={self.a_bits}"


class Step1Conv2d(nn.Conv2d):
    """Convolution of training step 1: real-valued weights on binary activations (W/A 32/1), no bias."""

    w_bits = 32
    a_bits = 1


def binary_or_step1_conv(c_in: int, c_out: int, kernel_size: int, stride: int = 1, step: int = 2) -> nn.Module:
    """A convolution of binary activations: its weights are real-valued in training step 1 and binary in step 2.

    Raises:
        BcdzooError: ``step`` is neither.
    """
    if step == 1:
        return Step1Conv2d(c_in, c_out, kernel_size, stride, padding=kernel_size // 2, bias=False)
    if step == 2:
        return BinaryConv2d(c_in, c_out, kernel_size, stride)
    raise BcdzooError(f"step must be 1 (real-valued weights) or 2 (binary weights), not {step!r}")


class Accumulate(nn.Module):
    """Sum of partial results that share one accumulator: free in every counting convention."""

    def forward(self, terms: Iterable[Tensor]) -> Tensor:
        first, *others = terms
        for term in others:
            first = first + term
        return first

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {}
