"""torch's operations that multiply two tensors and sum: their operands and number of multiply-accumulates."""

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
        kind: Kind of operation: ``conv``, ``linear``, or ``product`` of two maps.
        inputs: Inputs, (N, C, …).
        weights: Weights, a row for each output channel, (c_out, n).
        kernel: Height and width of the kernel.
        stride: Stride of the kernel.
        padding: Zero padding of the operation, in pixels.
        has_bias: Whether a bias is added to the sums.
        is_written_out: Whether it consists of element-wise products that are summed.
        given: Original argument, if ``inputs`` is a rearrangement of it; else None.
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
    """Return what an operation in :data:`MACS` multiplies.

    Args:
        packet: Operation.
        args: Arguments of the operation.
        depends: Predicate on tensors that depend on the images; of two matrices, the one that does is the input.
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
    """Count the products with weights, as called by ``F.bilinear``: (N, i), (o, i, j) and (N, j)."""
    return int(args[0][..., :1].numel() * args[1].numel())


MACS: dict[Any, Callable[[Args, Mapping[str, Any], Any], int]] = {
    **{packet: _of_torch(formula) for packet, formula in flop_registry.items()},
    **dict.fromkeys((*_VECTOR, aten.addbmm, aten._int_mm), _rows_times_columns),
    aten._trilinear: _trilinear,
}
"""Operation -> function of arguments, keywords and output to multiply-accumulates; most formulas are torch's."""
