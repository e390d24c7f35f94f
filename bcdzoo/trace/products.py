"""torch's operations that multiply two tensors and sum: their operands, and how many multiply-accumulates they are."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import flop_registry

aten = torch.ops.aten

Args = tuple[Any, ...]


class Multiplication(NamedTuple):
    """One operation with two operands.

    Attributes:
        kind: ``conv``, ``linear``, or ``product`` of two maps.
        inputs: (N, C, …).
        weights: (c_out, n): a row for each output channel.
        kernel: Sides of the kernel.
        stride: Its steps.
        padding: Zeros that the operation puts around the inputs, in pixels.
        has_bias: Whether it adds one to its sums.
        is_written_out: Whether it is no operation of torch's but element-wise products that are summed.
        given: What the operation was given for inputs, before these were laid out as above; None where they are it.
    """

    kind: str
    inputs: Tensor
    weights: Tensor
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    has_bias: bool = False
    is_written_out: bool = False
    given: Tensor | None = None


def operands(packet: Any, args: Args, depends: Callable[[Tensor], bool]) -> Multiplication:
    """What an operation of :data:`MACS` multiplies.

    Args:
        packet: The operation.
        args: Its arguments.
        depends: Whether a tensor depends on the images: of two matrices, the one that does is the input.
    """
    if packet is aten.convolution:
        return _convolution(args)
    if packet is aten._trilinear:
        return Multiplication("linear", args[0], args[1].flatten(1))
    has_bias = packet in (aten.addmm, aten.addmv)
    given = _tensors(args)[-2:]
    first, second = (part if part.ndim > 1 else part[None] for part in given)
    if packet in _VECTOR:
        second = second.transpose(-1, -2)
    if second.ndim == 3 and (len(second) == 1 or second.stride(0) == 0):  # one matrix for all
        first, second = first.flatten(0, 1), second[0]
    both = depends(first) and depends(second)
    is_swapped = depends(second) and not both
    if is_swapped:
        first, second = second.transpose(-1, -2), first.transpose(-1, -2)
    return Multiplication(
        "product" if both else "linear",
        first,
        second.transpose(-1, -2).flatten(0, -2),
        has_bias=has_bias,
        given=given[is_swapped],
    )


def _convolution(args: Args) -> Multiplication:
    x, weight, bias, stride, padding, _, is_transposed, *_ = args
    rows = weight.transpose(0, 1) if is_transposed else weight
    return Multiplication(
        "conv", x, rows.flatten(1), tuple(weight.shape[2:]), tuple(stride), tuple(padding), bias is not None
    )


def _tensors(args: Args) -> list[Tensor]:
    return [arg for arg in args if isinstance(arg, Tensor)]


_VECTOR = {aten.mv, aten.addmv, aten.dot, aten.vdot}


def _of_torch(formula: Callable[..., Any]) -> Callable[[Args, Mapping[str, Any], Any], int]:
    return lambda args, kwargs, out: int(formula(*args, **kwargs, out_val=out)) // 2


def _rows_times_columns(args: Args, kwargs: Mapping[str, Any], out: Any) -> int:
    first, second = _tensors(args)[-2:]
    return first.numel() * (second.shape[-1] if second.ndim > 1 else 1)


def _trilinear(args: Args, kwargs: Mapping[str, Any], out: Any) -> int:
    """Of the weights alone, as ``F.bilinear`` calls it: (N, i), (o, i, j) and (N, j)."""
    return int(args[0][..., :1].numel() * args[1].numel())


MACS: dict[Any, Callable[[Args, Mapping[str, Any], Any], int]] = {
    **{packet: _of_torch(formula) for packet, formula in flop_registry.items()},
    **dict.fromkeys((*_VECTOR, aten.addbmm, aten._int_mm), _rows_times_columns),
    aten._trilinear: _trilinear,
}
"""Operation -> its multiply-accumulates, from its arguments, keywords and output; most formulas are torch's own."""
