"""The low-bit convolution: one for every pair of quantizers."""

import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.errors import BcdzooError
from bcdzoo.layers.lowering import Lowering, Value, constant, weight_planes
from bcdzoo.layers.metadata import OpCounts
from bcdzoo.layers.padding import check_padding, pad_same
from bcdzoo.layers.quantizers.base import Levels, RealWeight, WeightQuantizer
from bcdzoo.layers.quantizers.sign import RSign, SignWeight


class LowBitConv2d(nn.Module):
    """Convolution of low-bit weights and activations: integer sums first, scales afterwards; no bias.

    Zero padding puts a 0 into the map of levels: a padded position contributes nothing (not -1, not +1).
    A ``pad_value`` of 1 makes a padded position +1, as one-bit hardware has it.

    Args:
        c_in: Input channels.
        c_out: Output channels.
        kernel_size: Height and width of the kernel.
        stride: Stride in pixels.
        quantizer: Quantizer of the weights; the sign and mean(|W|) if omitted.
        a_bits: Bits of the activations it is given (32: real values, then its multiplications are no bit operations).
        a_bases: Number of bases of ``a_bits`` each that approximate an activation.
        padding: Pixels on every side, or one of :data:`bcdzoo.layers.padding.PADDINGS`.
        pad_value: Value that is padded with.
        dilation: Distance of the kernel's taps in pixels.
        groups: Groups of channels.

    Shape:
        (N, c_in, H, W) or :class:`Levels` of it to (N, c_out, ⌈H/stride⌉, ⌈W/stride⌉), float32.

    Raises:
        BcdzooError: ``padding`` is unknown.
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
        padding: int | str = "symmetric",
        pad_value: float = 0.0,
        dilation: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.kernel_shape = (c_out, c_in // groups, kernel_size, kernel_size)
        self.stride, self.dilation, self.groups = stride, dilation, groups
        self.extent = dilation * (kernel_size - 1) + 1
        if isinstance(padding, str):
            check_padding(padding)
        # with stride 1 and an odd extent TensorFlow's padding is symmetric
        self.same_padding = padding == "tensorflow" and (stride > 1 or self.extent % 2 == 0)
        self.padding = padding if isinstance(padding, int) else 0 if self.same_padding else self.extent // 2
        self.pad_value = pad_value
        self.quantizer = quantizer or SignWeight()
        self.weight = nn.Parameter(self.quantizer.latent(self.kernel_shape))
        self.w_bits, self.w_bases = self.quantizer.w_bits, self.quantizer.bases
        self.a_bits, self.a_bases = a_bits, a_bases

    def forward(self, x: Tensor | Levels) -> Tensor:
        levels, scale = self.quantizer(self.weight)
        if isinstance(x, Levels):
            # one basis at once, because all together would keep M·N maps
            terms = [self._conv(a, levels, scale) * s for a, s in zip(x.values, x.scale, strict=True)]
            return torch.stack(terms).sum(0) if len(terms) > 1 else terms[0]
        return self._conv(x, levels, scale)

    def _conv(self, x: Tensor, levels: Tensor, scale: Tensor) -> Tensor:
        padding = self.padding
        if self.same_padding:
            x = pad_same(x, self.extent, self.stride, self.pad_value)
        elif self.pad_value and padding:
            x, padding = F.pad(x, (padding,) * 4, value=self.pad_value), 0
        sums = self.multiply(x, levels, scale, padding)
        return sums if self.w_bases == 1 else sums.unflatten(1, (self.w_bases, -1)).sum(1)

    def multiply(self, x: Tensor, levels: Tensor, scale: Tensor, padding: int) -> Tensor:
        """The scaled sums of one activation basis; a backend has another arithmetic here (:mod:`bcdzoo.layers.int8`).

        Args:
            x: Activations, (N, c_in, H, W).
            levels: Weights, (M·c_out, c_in / groups, k, k).
            scale: Scale of each output channel, (M·c_out,).
            padding: Zeros on every side, in pixels.
        """
        sums = F.conv2d(x, levels, None, self.stride, padding, self.dilation, self.groups)
        return sums.mul_(scale[:, None, None])

    def lower(self, plan: Lowering, x: Any) -> Value:
        levels, scale = self.quantizer(self.weight)
        values, a_scale = (x, constant(1.0)) if isinstance(x, Value) else x
        window = {
            "stride": (self.stride,) * 2,
            "padding": (self.padding,) * 4,
            "same": int(self.same_padding),
            "pad_value": float(self.pad_value),
            "dilation": (self.dilation,) * 2,
            "groups": self.groups,
        }
        if 32 in (self.w_bits, self.a_bits):
            return self._lower_real(plan, x, levels, scale, window)
        return plan.add(
            "low_bit_conv",
            x=values,
            planes=weight_planes(levels, self.w_bits),
            scale=scale,
            a_scale=a_scale,
            kernel=self.kernel_shape[2:],
            w_bases=self.w_bases,
            a_bits=self.a_bits,
            **window,
        )

    def _lower_real(self, plan: Lowering, x: Value, levels: Tensor, scale: Tensor, window: dict[str, Any]) -> Value:
        out = plan.add("conv", x=x, weight=levels, relu=0, **window)
        return plan.add("scale_shift", x=out, alpha=scale, beta=torch.zeros_like(scale))

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        macs = output.numel() * math.prod(self.kernel_shape[1:]) * self.w_bases * self.a_bases
        return {"mac": macs} if 32 in (self.a_bits, self.w_bits) else {"binary_mac": macs * self.w_bits * self.a_bits}

    def extra_repr(self) -> str:
        c_out, c_in, k, _ = self.kernel_shape
        extras = {
            "bases": f"{self.w_bases}x{self.a_bases}" if self.w_bases * self.a_bases > 1 else "",
            "padding": "tensorflow" if self.same_padding else "" if self.padding == self.extent // 2 else self.padding,
            "pad_value": self.pad_value or "",
            "dilation": self.dilation if self.dilation > 1 else "",
            "groups": self.groups if self.groups > 1 else "",
        }
        shown = "".join(f", {key}={value}" for key, value in extras.items() if value != "")
        return (
            f"{c_in * self.groups}, {c_out}, kernel_size={k}, stride={self.stride}, "
            f"w_bits={self.w_bits}, a_bits={self.a_bits}{shown}"
        )


class Quantizers(NamedTuple):
    """Quantizers of a network's layers; the default is binary.

    Attributes:
        weight: Builder of a layer's weight quantizer.
        activation: Builder of its activation quantizer, from the number of channels.
        a_bits: Bits of what that gives.
    """

    weight: Callable[[], WeightQuantizer] = SignWeight
    activation: Callable[[int], nn.Module] = RSign
    a_bits: int = 1

    def conv(self, c_in: int, c_out: int, kernel_size: int, stride: int = 1, **arguments: Any) -> LowBitConv2d:
        """A convolution of such numbers; the arguments are those of :class:`LowBitConv2d`."""
        return LowBitConv2d(c_in, c_out, kernel_size, stride, self.weight(), self.a_bits, **arguments)


REAL_VALUED = Quantizers(RealWeight, lambda channels: nn.Identity(), 32)
"""Real-valued weights and activations."""


def of_step(step: int, weight: Callable[[], WeightQuantizer] = SignWeight) -> Quantizers:
    """Quantizers of a training step: the weights are real-valued in step 1, the activations are binary in both.

    Args:
        step: 1 or 2.
        weight: Builder of step 2's weight quantizer, which has no state of its own.

    Raises:
        BcdzooError: ``step`` is neither 1 nor 2.
    """
    if step not in (1, 2):
        raise BcdzooError(f"step must be 1 (real-valued weights) or 2 (binary weights), not {step!r}")
    return Quantizers(RealWeight if step == 1 else weight)


class Accumulate(nn.Module):
    """Sum of partial results that share one accumulator: free in every counting convention."""

    def forward(self, terms: Iterable[Tensor]) -> Tensor:
        first, *others = terms
        for term in others:
            first = first + term
        return first

    def lower(self, plan: Lowering, terms: Iterable[Value]) -> Value:
        first, *others = terms
        for term in others:
            first = plan.add("add", a=first, b=term)
        return first

    def op_counts(self, inputs: tuple[Tensor, ...], output: Tensor) -> OpCounts:
        return {}
