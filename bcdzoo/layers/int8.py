"""Convolutions of ±1 numbers with 8-bit integer instructions: the same bits as in float32, several times as fast.

A backend that :func:`with_int8` puts into a network from outside, for inference; evaluation and benchmarks do. It is
for x86 CPUs, and for GPUs (:mod:`bcdzoo.layers.int8_gemm`), on which it takes levels of several bits as well; elsewhere
the ordinary convolution computes the same. The operation on the CPU is oneDNN's, by the name under which torch.compile
uses it for quantized networks.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.layers import int8_gemm
from bcdzoo.layers.binary_conv import LowBitConv2d


def with_int8(network: nn.Module) -> nn.Module:
    """The same network, whose low-bit convolutions compute in 8-bit integers where that is possible.

    It shares parameters, buffers and all other modules with the given one, which is left as it is, and is returned
    itself if it has no such convolution.
    """
    return _with_int8(network, {})


def _with_int8(module: nn.Module, known: dict[int, nn.Module]) -> nn.Module:
    if id(module) in known:
        return known[id(module)]
    known[id(module)] = module
    parts = {name: part if part is None else _with_int8(part, known) for name, part in module._modules.items()}
    is_low_bit = type(module) is LowBitConv2d and max(module.w_bits, module.a_bits) <= int8_gemm.MOST_BITS
    if is_low_bit or any(part is not module._modules[name] for name, part in parts.items()):
        # not copy.copy: some modules, such as DistributedDataParallel, are initialized again when copied
        mine: nn.Module = object.__new__(Int8Conv2d if is_low_bit else type(module))
        mine.__dict__.update(module.__dict__, _modules=parts)
        known[id(module)] = mine
    return known[id(module)]


_ROWS = 8  # one of so many is looked at


class _Packed(NamedTuple):
    """Weights as the operation wants them, and what they were made for."""

    made_for: tuple[Any, ...]
    signs: npt.NDArray[np.int8]  # torch compares such numbers slowly
    weights: Tensor


class Int8Conv2d(LowBitConv2d):
    """A low-bit convolution in 8-bit integers; as in float32 where these do not apply.

    On a CPU they are for ±1 alone. It keeps the weights as the operation wants them there for as long as they and the
    input's shape stay what they are: making them costs more than the products of a linear layer. An input
    that is not of whole numbers, its padding included, is multiplied as it is: all of it is looked at when its shape
    comes first, and some rows from then on, because all would take up to a third of the time.
    """

    _packed: _Packed | None = None
    _looked_at: tuple[tuple[int, ...], bool] = ((), True)

    def multiply(self, x: Tensor, levels: Tensor, scale: Tensor, padding: int) -> Tensor:
        if self.training or not self._is_whole(x):  # in training the levels may be relaxed, between integers
            return super().multiply(x, levels, scale, padding)
        if int8_gemm.applies(x, levels, self.groups):
            return int8_gemm.conv2d(x, levels, scale, self.stride, padding, self.dilation)
        if not (self.w_bits == self.a_bits == self.a_bases == 1 and applies(x)):
            return super().multiply(x, levels, scale, padding)
        where = _where(self.stride, padding, self.dilation, self.groups)
        made_for, signs = (x.shape, where), levels.to(torch.int8)
        packed = self._packed
        if not (packed and packed.made_for == made_for and np.array_equal(packed.signs, signs.numpy())):
            self._packed = packed = _Packed(made_for, signs.numpy(), _pack(signs, x, where))
        return _sums(x, packed.weights, len(signs), where).mul_(scale[:, None, None])

    def _is_whole(self, x: Tensor) -> bool:
        if torch.compiler.is_compiling():
            return False
        shape, was_whole = self._looked_at
        if shape != x.shape or was_whole:
            some = x if shape != x.shape else x[:, :, ::_ROWS]
            most = 1 if self.a_bits == 1 else int8_gemm.LARGEST
            self._looked_at = x.shape, torch.equal(some.trunc().clamp_(-most, most), some)
        return self._looked_at[1]


def applies(x: Tensor) -> bool:
    """Whether :func:`conv2d` can take this input: float32 on a CPU that has the operation, with no gradient wanted."""
    if torch.compiler.is_compiling():
        return False  # it would break the graph, in which torch.compile fuses the neighbours of the float convolution
    return x.dtype == torch.float32 and x.device.type == "cpu" and not torch.is_grad_enabled() and _available()


def conv2d(
    x: Tensor, signs: Tensor, scale: Tensor, stride: int, padding: int, dilation: int = 1, groups: int = 1
) -> Tensor:
    """``F.conv2d(x, signs) * scale``, bit for bit.

    Args:
        x: -1, 0 or +1, float32 of shape (N, c_in, H, W).
        signs: Weights of ±1, (c_out, c_in / groups, k, k).
        scale: Scale of each output channel, (c_out,), float32.
        stride: Stride in pixels.
        padding: Zeros on every side, in pixels.
        dilation: Distance of the kernel's taps, in pixels.
        groups: Number of groups of channels.

    Returns:
        float32 of shape (N, c_out, H', W'), channels last in memory.
    """
    where = _where(stride, padding, dilation, groups)
    weights = _pack(signs.to(torch.int8), x, where)
    return _sums(x, weights, len(signs), where).mul_(scale[:, None, None])


def _where(stride: int, padding: int, dilation: int, groups: int) -> tuple[Any, ...]:
    return [stride, stride], [padding, padding], [dilation, dilation], groups


def _pack(signs: Tensor, x: Tensor, where: tuple[Any, ...]) -> Tensor:
    weights: Tensor = torch.ops.onednn.qconv_prepack(signs, torch.ones(len(signs)), 1.0, 1, *where, list(x.shape))
    return weights


def _sums(x: Tensor, weights: Tensor, c_out: int, where: tuple[Any, ...]) -> Tensor:
    levels = x.add(1).to(torch.uint8, memory_format=torch.channels_last)  # 0, 1, 2 around a zero point of 1
    ones, zeros = torch.ones(c_out), torch.zeros(c_out, dtype=torch.int32)
    sums: Tensor = torch.ops.onednn.qconv2d_pointwise(
        levels, 1.0, 1, weights, ones, zeros, None, *where, 1.0, 0, torch.float32, "none", [], ""
    )
    return sums


@functools.cache
def _available() -> bool:
    """Whether this torch and CPU have the operation and it works as expected."""
    x = torch.ones(1, 3, 4, 4)
    x[0, :, ::2] = -1
    signs = torch.ones(2, 3, 3, 3)
    signs[1, :, 0] = -1
    scale = torch.tensor([0.5, 3.0])
    expected = F.conv2d(x, signs, padding=1) * scale[:, None, None]
    try:
        return torch.equal(conv2d(x, signs, scale, 1, 1), expected)
    except (AttributeError, RuntimeError):  # a different build of torch or CPU
        return False
