"""The low-bit convolution: one for every pair of quantizers."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.errors import BcdzooError
from bcdzoo.layers import int8
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.quantizer import Levels, SignWeight, WeightQuantizer


class LowBitConv2d(nn.Module):
    """Convolution of low-bit weights and activations: integer sums first, scales afterwards; no bias.

    Zero padding puts a 0 into the map of levels: a padded position contributes nothing (not -1, not +1).

    Args:
        c_in: Input channels.
        c_out: Output channels.
        kernel_size: Height and width of the kernel.
        stride: Step in pixels.
        quantizer: Of the weights; the sign and mean(|W|) where it is not given.
        a_bits: Bits of the activations it is given (32: real values, then its multiplications are no bit operations).
        a_bases: How many bases of ``a_bits`` each approximate an activation.
        padding: Zeros on every side, in pixels; half the kernel where it is not given.

    Shape:
        (N, c_in, H, W) or :class:`Levels` of it to (N, c_out, ⌈H/stride⌉, ⌈W/stride⌉), float32.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel_size: int,
        stride: int = 1,
        quantizer: WeightQuantizer | None = None,
        a_bits: int = 1,
        a_bases: int = 1,
        padding: int | None = None,
    ) -> None:
        super().__init__()
        self.kernel_shape = (c_out, c_in, kernel_size, kernel_size)
        self.stride = stride
        self.padding = kernel_size // 2 if padding is None else padding
        self.quantizer = quantizer or SignWeight()
        self.weight = nn.Parameter(self.quantizer.latent(self.kernel_shape))
        self.w_bits, self.w_bases = self.quantizer.w_bits, self.quantizer.bases
        self.a_bits, self.a_bases = a_bits, a_bases

    def forward(self, x: Tensor | Levels) -> Tensor:
        levels, scale = self.quantizer(self.weight)
        if isinstance(x, Levels):
            # basis by basis: all at once would keep M·N maps
            terms = [self._conv(a, levels, scale) * s for a, s in zip(x.values, x.scale, strict=True)]
            return torch.stack(terms).sum(0) if len(terms) > 1 else terms[0]
        return self._conv(x, levels, scale)

    def _conv(self, x: Tensor, levels: Tensor, scale: Tensor) -> Tensor:
        # in training the levels may be relaxed, between integers; with several bases the weights are packed for each
        if self.w_bits == self.a_bits == self.a_bases == 1 and not self.training and int8.applies(x):
            sums = int8.conv2d(x, levels, scale, self.stride, self.padding)
        else:
            sums = F.conv2d(x, levels, stride=self.stride, padding=self.padding).mul_(scale[:, None, None])
        return sums if self.w_bases == 1 else sums.unflatten(1, (self.w_bases, -1)).sum(1)

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        _, c_in, k, _ = self.kernel_shape
        macs = output.numel() * c_in * k * k * self.w_bases * self.a_bases
        return {"mac": macs} if self.a_bits == 32 else {"binary_mac": macs * self.w_bits * self.a_bits}

    def extra_repr(self) -> str:
        c_out, c_in, k, _ = self.kernel_shape
        bases = f", bases={self.w_bases}x{self.a_bases}" if self.w_bases * self.a_bases > 1 else ""
        return (
            f"{c_in}, {c_out}, kernel_size={k}, stride={self.stride}, w_bits={self.w_bits}, a_bits={self.a_bits}{bases}"
        )


class BinaryConv2d(LowBitConv2d):
    """The low-bit convolution of most 1-bit networks: ``conv(x, sign(W)) * mean(|W|)``, on ±1 or real activations."""

    def __init__(
        self, c_in: int, c_out: int, kernel_size: int, stride: int = 1, a_bits: int = 1, padding: int | None = None
    ) -> None:
        super().__init__(c_in, c_out, kernel_size, stride, a_bits=a_bits, padding=padding)


class Step1Conv2d(nn.Conv2d):
    """Convolution of training step 1: real-valued weights on binary activations (W/A 32/1), no bias."""

    w_bits = 32
    a_bits = 1


def binary_or_step1_conv(
    c_in: int,
    c_out: int,
    kernel_size: int,
    stride: int = 1,
    step: int = 2,
    quantizer: WeightQuantizer | None = None,
    padding: int | None = None,
) -> nn.Module:
    """A convolution of binary activations: its weights are real-valued in training step 1 and binary in step 2.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        kernel_size: Height and width of the kernel.
        stride: Step in pixels.
        step: 1 or 2.
        quantizer: Of step 2's weights, without state of its own; the sign and mean(|W|) where it is not given.
        padding: Zeros on every side, in pixels; half the kernel where it is not given.

    Raises:
        BcdzooError: ``step`` is neither.
    """
    padding = kernel_size // 2 if padding is None else padding
    if step == 1:
        return Step1Conv2d(c_in, c_out, kernel_size, stride, padding=padding, bias=False)
    if step == 2:
        if quantizer is None:
            return BinaryConv2d(c_in, c_out, kernel_size, stride, padding=padding)
        return LowBitConv2d(c_in, c_out, kernel_size, stride, quantizer, padding=padding)
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
