"""A single low-bit convolution on the kernels, as a sum over bit planes if it has more than one bit."""

from dataclasses import replace

import torch
from torch import Tensor, nn

from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.padding import SamePad
from bcdzoo.layers.quantizers.base import Levels
from bcdzoo.packed.chain import PackedChain
from bcdzoo.packed.unit import PackedUnit, Shape


class PackedConv2d(nn.Module):
    """Replaces a :class:`LowBitConv2d`: the same input, bit for bit the same output.

    Weights of several bits are odd integers, ``Σ 2^j·s_j`` with signs s_j; activations are ±1, or integers from 0 on,
    ``Σ 2^i·b_i`` with bits b_i. The sums of all pairs of planes are integers, which float32 holds exactly; they are
    scaled at the end, as in the plain convolution.

    Args:
        conv: Convolution, in evaluation mode.
        name: Name in its network.
    """

    def __init__(self, conv: LowBitConv2d, name: str) -> None:
        super().__init__()
        self.name = name
        levels, scale = conv.quantizer(conv.weight)
        self.register_buffer("scale", scale.detach().float().clone())
        self.w_bases, self.a_bits = conv.w_bases, conv.a_bits
        self.multiple = not conv.w_bits == conv.a_bits == conv.a_bases == 1
        c_in, kernel = conv.kernel_shape[1:3]
        self.dilation = conv.dilation
        shape = Shape(c_in, len(levels), kernel, conv.stride, conv.padding // conv.dilation, conv.same_padding)
        self.border: nn.Module | None = None
        if conv.pad_value and (conv.padding or conv.same_padding):  # the kernels know a border of 0 alone
            self.border = (
                SamePad(conv.extent, conv.stride, conv.pad_value)
                if conv.same_padding
                else nn.ConstantPad2d(conv.padding, conv.pad_value)
            )
            shape = replace(shape, padding=0, same_padding=False)
        self.signs = nn.ModuleList()
        self.bits = nn.ModuleList()
        for plane in _sign_planes(levels, conv.w_bits):
            ones = torch.ones(len(levels))
            self.signs.append(PackedChain([PackedUnit(shape, [plane], [ones])], [name]))
            if self.a_bits > 1:
                half = {"threshold": torch.full((c_in,), 0.5)}
                of_bits = replace(shape, zero_one=True)
                self.bits.append(PackedChain([PackedUnit(of_bits, [plane], [ones / 2], **half)], [name]))

    def forward(self, x: Tensor | Levels) -> Tensor:
        if isinstance(x, Levels):
            terms = [self._scaled(a) * s for a, s in zip(x.values, x.scale, strict=True)]
            return torch.stack(terms).sum(0) if len(terms) > 1 else terms[0]
        return self._scaled(x)

    def _scaled(self, x: Tensor) -> Tensor:
        sums = self._dilated(x) if self.dilation > 1 else self._sums(x if self.border is None else self.border(x))
        if self.multiple and not x.is_contiguous(memory_format=torch.channels_last):
            sums = sums.contiguous()  # as the plain convolution gives it: torch's later sums depend on the order
        sums.mul_(self.scale[:, None, None])  # type: ignore[index]
        return sums if self.w_bases == 1 else sums.unflatten(1, (self.w_bases, -1)).sum(1)

    def _dilated(self, x: Tensor) -> Tensor:
        """Of every d-th row and column an ordinary convolution: those between them do not meet in a dilated one."""
        phases = range(self.dilation)
        out = x.new_empty(len(x), len(self.scale), *x.shape[2:])  # type: ignore[arg-type]
        for i in phases:
            for j in phases:
                every = (..., slice(i, None, self.dilation), slice(j, None, self.dilation))
                if (phase := x[every]).numel():
                    out[every] = self._sums(phase)
        return out

    def _sums(self, x: Tensor) -> Tensor:
        if self.a_bits == 1:
            return _weighted([chain(x) for chain in self.signs])
        integers = x.to(torch.int32)
        largest = int(integers.max()) if integers.numel() else 0
        planes = range(max(largest.bit_length(), 1))
        return _weighted([_weighted([chain(((integers >> i) & 1).float()) for i in planes]) for chain in self.bits])


def _weighted(sums: list[Tensor]) -> Tensor:
    """``Σ 2^i·sums_i``, exact."""
    total = sums[0]
    for i, one in enumerate(sums[1:], start=1):
        total.add_(one, alpha=2**i)
    return total


def _sign_planes(levels: Tensor, bits: int) -> list[Tensor]:
    """Odd integers from -(2^bits - 1) to 2^bits - 1 as planes of ±1, the lowest first."""
    codes = (levels.detach().round().to(torch.int32) + 2**bits - 1) // 2  # 0 to 2^bits - 1
    return [((codes >> j) & 1) * 2 - 1 for j in range(bits)]
