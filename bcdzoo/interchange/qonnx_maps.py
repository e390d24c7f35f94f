"""ONNX's operators on maps and vectors: convolutions, poolings, and what moves numbers to other places."""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from bcdzoo.graph.recognise import scale_of
from bcdzoo.interchange.qonnx_elements import with_constant
from bcdzoo.interchange.qonnx_values import Given, Refused, Stored, Value, reshaped, transposed
from bcdzoo.layers.qonnx import Concat, Cut, Function, LevelsConv2d, Pad, Permute, Reshape, Thresholds, Window
from bcdzoo.layers.shift import long_range, short_range
from bcdzoo.plan.operations import Array

if TYPE_CHECKING:
    from bcdzoo.interchange.from_qonnx import Builder

_MOST_TRACKED = 1 << 21  # numbers of a value whose rearrangements are followed
_MOST_BITS = 8


def _pair(numbers: Any, default: Sequence[int]) -> Any:
    found = tuple(default if numbers is None else numbers)
    if len(found) != len(default) or not all(isinstance(number, int) and 0 <= number <= 4096 for number in found):
        raise Refused("only convolutions and poolings of maps are read, of 4096 pixels at most")
    return found


def _require_explicit(given: Given) -> None:
    if given.attribute("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise Refused("its padding is not stated (auto_pad)")


def _require_map(x: Value) -> None:
    if len(x.shape) != 4:
        raise Refused(f"its input is no map but of {x.shape}")


def _conv(b: "Builder", given: Given) -> Value:
    _require_explicit(given)
    x, weight = given.value(), given.stored(1)
    _require_map(x)
    if (
        weight.array.ndim != 4
        or _pair(given.attribute("kernel_shape"), weight.array.shape[2:]) != weight.array.shape[2:]
    ):
        raise Refused("its weights are not those of a convolution of maps")
    pads = _pair(given.attribute("pads"), (0, 0, 0, 0))
    window = Window(
        _pair(given.attribute("strides"), (1, 1)),
        pads,
        _pair(given.attribute("dilations"), (1, 1)),
        int(given.attribute("group", 1)),
    )
    return _biased(b, _convolved(b, x, weight, window), given.array(2))


def _biased(b: "Builder", sums: Value, bias: Array | None) -> Value:
    if bias is None or not bias.any():
        return sums
    flat = bias.reshape(-1).astype(np.float32)
    return with_constant(b, "Add", sums, flat.reshape(-1, *(1,) * (len(sums.shape) - 2)))


def _convolved(b: "Builder", x: Value, weight: Stored, window: Window) -> Value:
    """A convolution: of few bits where weights are levels, and real-valued otherwise."""
    if not np.isfinite(weight.array).all() or 0 in weight.array.shape:
        raise Refused("its weights are not finite, or there are none")
    is_low = x.is_signs or x.quantizer is not None
    levels = _levels(weight, is_low)
    pad_value = 0.0
    if any(x.pads):
        if any(window.pads) or levels is None:
            x = b.around(x)
        else:
            window, pad_value = window._replace(pads=x.pads), x.pad_value
            x = replace(x, pads=(0, 0, 0, 0))
    shape = None if len(x.shape) == 4 else (b.batch, len(weight.array))
    if levels is None:
        return b.run(_real(weight.array.astype(np.float32), window), b.plain(x), shape=shape)
    integers, bits, scale = levels
    taken = x
    if x.quantizer is not None:
        quantizer = x.quantizer
        taken = b.once(f"levels {id(quantizer)}", x, lambda: deepcopy(quantizer))
        scale = scale * np.float32(quantizer.scale)
    elif x.is_signs:
        scale = scale * np.float32(x.scale)
    else:
        taken = b.plain(x)
    a_bits = 1 if x.is_signs else 32
    conv = LevelsConv2d(
        torch.from_numpy(integers), bits, torch.from_numpy(scale), window, pad_value, x.quantizer, a_bits
    )
    return replace(b.run(conv, taken, shape=shape), is_sum=conv.a_bits < 32)


def _levels(weight: Stored, is_low: bool) -> tuple[Array, int, Array] | None:
    """Weights as integers, their bits, and the scale of each output channel; None for real-valued ones."""
    c_out = len(weight.array)
    if weight.levels is not None and weight.scale is not None and weight.bits <= _MOST_BITS:
        scale = np.broadcast_to(weight.scale, weight.array.shape).reshape(c_out, -1)
        if (scale == scale[:, :1]).all():
            return np.ascontiguousarray(weight.levels, np.float32), weight.bits, scale[:, 0].astype(np.float32)
        raise Refused("the scale of its weights differs within an output channel")
    alone = weight.array.size == c_out
    found = scale_of(weight.array.astype(np.float32)) if is_low and not alone else None
    return None if found is None else (np.sign(weight.array).astype(np.float32), 1, found)


def _real(weight: Array, window: Window) -> nn.Module:
    """A real-valued convolution."""
    c_out, c_in, *kernel = weight.shape
    top, left, bottom, right = window.pads
    is_even = (top, left) == (bottom, right)
    conv = nn.Conv2d(
        c_in * window.groups,
        c_out,
        tuple(kernel),
        window.stride,
        (top, left) if is_even else 0,
        window.dilation,
        window.groups,
        bias=False,
        device="meta",
    )
    conv.weight = nn.Parameter(torch.from_numpy(np.ascontiguousarray(weight)))
    return conv if is_even else nn.Sequential(Pad(window.pads, 0.0), conv)


def _matmul(b: "Builder", given: Given) -> Value:
    return _linear(b, given.value(), transposed(given.stored(1), (1, 0)))


def _linear(b: "Builder", x: Value, weight: Stored) -> Value:
    if len(x.shape) != 2 or weight.array.ndim != 2:
        raise Refused(f"a product of {x.shape} and {weight.array.shape}: only a vector by a matrix is read")
    return _convolved(b, x, reshaped(weight, (*weight.array.shape, 1, 1)), Window())


def _gemm(b: "Builder", given: Given) -> Value:
    if (given.attribute("alpha", 1.0), given.attribute("beta", 1.0), given.attribute("transA", 0)) != (1, 1, 0):
        raise Refused("alpha, beta or transA is set")
    weight = given.stored(1)
    weight = weight if given.attribute("transB", 0) else transposed(weight, (1, 0))
    return _biased(b, _linear(b, given.value(), weight), given.array(2))


def _max_pool(b: "Builder", given: Given) -> Value:
    _require_explicit(given)
    x = given.value()
    _require_map(x)
    kernel = _pair(given.attribute("kernel_shape"), (1, 1))
    stride, pads = _pair(given.attribute("strides"), (1, 1)), _pair(given.attribute("pads"), (0, 0, 0, 0))
    ceil = bool(given.attribute("ceil_mode", 0))
    if given.attribute("storage_order", 0) or _pair(given.attribute("dilations"), (1, 1)) != (1, 1):
        raise Refused("a max pooling with dilation, or in another order of storage")
    if len(given.node.outputs) > 1 and given.node.outputs[1]:
        raise Refused("a max pooling that gives indices")
    x = b.around(x)
    top, left, bottom, right = pads = _even(pads, x, kernel, stride)
    if (top, left) != (bottom, right):
        pool: nn.Module = nn.Sequential(Pad(pads, -math.inf), nn.MaxPool2d(kernel, stride, 0, ceil_mode=ceil))
        x = b.plain(x)
    else:
        pool = nn.MaxPool2d(kernel, stride, (top, left), ceil_mode=ceil)
    found = b.run(pool, x)  # the largest of quantized numbers is that of the numbers, quantized
    return replace(found, is_signs=x.is_signs, scale=x.scale, quantizer=x.quantizer)


def _even(pads: tuple[int, ...], x: Value, kernel: Sequence[int], stride: Sequence[int]) -> tuple[int, ...]:
    """Padding with as much behind as before, where no window reaches what that adds."""
    sizes = x.meta.shape[2:]
    sums = [[sizes[i] + pads[i] + behind - kernel[i] for behind in (pads[i], pads[i + 2])] for i in (0, 1)]
    same = all(even >= uneven and even // stride[i] == uneven // stride[i] for i, (even, uneven) in enumerate(sums))
    return (*pads[:2], *pads[:2]) if same else pads


def _average_pool(b: "Builder", given: Given) -> Value:
    _require_explicit(given)
    x = b.plain(given.value())
    _require_map(x)
    kernel, stride = _pair(given.attribute("kernel_shape"), (1, 1)), _pair(given.attribute("strides"), (1, 1))
    pads = _pair(given.attribute("pads"), (0, 0, 0, 0))
    ceil, counts = bool(given.attribute("ceil_mode", 0)), bool(given.attribute("count_include_pad", 0))
    if _pair(given.attribute("dilations"), (1, 1)) != (1, 1):
        raise Refused("an average pooling with dilation")
    top, left, bottom, right = pads = pads if counts else _even(pads, x, kernel, stride)
    if (top, left) == (bottom, right):
        ends = [(size - k) % s == 0 for size, k, s in zip(x.meta.shape[2:], kernel, stride, strict=True)]
        ceil = ceil or (not any(pads) and all(ends))  # there is nothing to round up then
        return b.run(nn.AvgPool2d(kernel, stride, (top, left), ceil, counts), x)
    if counts:
        return b.run(nn.Sequential(Pad(pads, 0.0), nn.AvgPool2d(kernel, stride)), x)
    spare = [-(size - k) % s for size, k, s in zip(x.meta.shape[2:], kernel, stride, strict=True)]
    if (top, left) == (0, 0) and [bottom, right] == spare:
        return b.run(nn.AvgPool2d(kernel, stride, 0, True, False), x)
    raise Refused("an average pooling with uneven padding")


def _global_pool(b: "Builder", given: Given) -> Value:
    x = b.plain(given.value())
    _require_map(x)
    return b.run(Function("mean", torch.mean, dim=(2, 3), keepdim=True), x)


def _mean(b: "Builder", given: Given) -> Value:
    axes = given.numbers("axes", 1)
    keep = bool(given.attribute("keepdims", 1))
    given.attribute("noop_with_empty_axes")
    x = b.plain(given.value())
    _require_map(x)
    if axes is None or sorted(axis % 4 for axis in axes) != [2, 3]:
        raise Refused("a mean that is not over rows and columns")
    found = b.run(Function("mean", torch.mean, dim=(2, 3), keepdim=True), x)
    return found if keep else replace(found, shape=found.shape[:2])


def _arranged(b: "Builder", x: Value, shape: tuple[int, ...]) -> Value:
    """A value in another shape."""
    if len(shape) not in (2, 4) or shape[0] != b.batch:
        raise Refused(f"a reshape of {x.shape} to {shape}, which is no map and no vector, or mixes images")
    inner = (*shape[1:], 1, 1)[:3]
    if inner == tuple(x.meta.shape[1:]) and not any(x.pads):
        return replace(x, shape=shape)
    if isinstance(x.quantizer, Thresholds):
        x = b.plain(x)
    x = b.around(x)
    found = b.run(Reshape(inner), x, shape=shape)  # a quantizer of one scale does not care about places
    return replace(found, is_signs=x.is_signs, scale=x.scale, quantizer=x.quantizer)


def _reshape(b: "Builder", given: Given) -> Value:
    x, wanted = given.value(), given.stored(1).array.reshape(-1).tolist()
    zero_is_zero = given.attribute("allowzero", 0)
    sizes = [int(size) for size in wanted]
    if not zero_is_zero:
        sizes = [x.shape[place] if size == 0 else size for place, size in enumerate(sizes)]
    whole, known = math.prod(x.shape), math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) > 1 or known <= 0 or whole % known:
        raise Refused(f"a reshape of {x.shape} to {tuple(sizes)}")
    shape = tuple(whole // known if size == -1 else size for size in sizes)
    if math.prod(shape) != whole:
        raise Refused(f"a reshape of {x.shape} to {shape}")
    return _arranged(b, x, shape)


def _flatten(b: "Builder", given: Given) -> Value:
    x = given.value()
    if given.attribute("axis", 1) % (len(x.shape) + 1) != 1:
        raise Refused("a flatten that is not of whole images")
    return _arranged(b, x, (b.batch, math.prod(x.shape[1:])))


def _squeeze(b: "Builder", given: Given) -> Value:
    x, axes = given.value(), given.numbers("axes", 1)
    if len(x.shape) != 4 or axes is None or sorted(axis % 4 for axis in axes) != [2, 3] or x.shape[2:] != (1, 1):
        raise Refused("a squeeze that is not of the rows and columns of one pixel")
    return replace(x, shape=x.shape[:2])


def _transpose(b: "Builder", given: Given) -> Value:
    x = given.value()
    axes = tuple(given.attribute("perm") or range(len(x.shape))[::-1])
    if sorted(axes) != list(range(len(x.shape))) or axes[0] != 0:
        raise Refused("a transposition that moves images")
    if axes == tuple(range(len(axes))):
        return x
    if isinstance(x.quantizer, Thresholds):
        x = b.plain(x)
    x = b.around(x)
    found = b.run(Permute(tuple(axis - 1 for axis in axes[1:])), x)
    return replace(found, is_signs=x.is_signs, scale=x.scale, quantizer=x.quantizer)


def _concat(b: "Builder", given: Given) -> Value:
    values = [given.value(place) for place in range(len(given.inputs))]
    rank = len(values[0].shape)
    axis = given.attribute("axis") % rank
    if any(len(value.shape) != rank for value in values):
        raise Refused("its inputs are of different dimensions")
    are_signs = len({(value.is_signs, value.scale, value.pads) for value in values}) == 1 and values[0].is_signs
    if not are_signs:
        values = [b.plain(value) for value in values]
    values = [b.around(value) for value in values]
    places = _joined_places([b.places.get(value.number) for value in values], axis)
    found = None if places is None else _shifted(b, *places)
    if found is None:
        found = b.run(Concat(axis), *values)
        if places is not None:
            b.places[found.number] = places
    return replace(found, is_signs=are_signs, scale=values[0].scale)


_Places = tuple[Value, Tensor]
"""A value, and for each number of something that was cut from it and put together where in it that was."""


def _places(b: "Builder", x: Value) -> _Places | None:
    size = x.meta.numel()
    if x.number not in b.places and size <= _MOST_TRACKED:
        b.places[x.number] = x, torch.arange(size, dtype=torch.int32).view(x.meta.shape)
    return b.places.get(x.number)


def _joined_places(parts: Sequence[_Places | None], axis: int) -> _Places | None:
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or len({value.number for value, _ in known}) != 1:
        return None
    if sum(index.numel() for _, index in known) > _MOST_TRACKED:
        return None
    return known[0][0], torch.cat([index for _, index in known], axis)


def _shifted(b: "Builder", x: Value, places: Tensor) -> Value | None:
    """A value whose quarters were rolled, as BCDNet does it, if that is what was cut and put together."""
    if places.shape != x.meta.shape or places.shape[1] % 4:
        return None
    whole = torch.arange(places.numel(), dtype=torch.int32).view(places.shape)
    for name, shift in (("short_range", short_range), ("long_range", long_range)):
        if torch.equal(shift(whole), places):
            return b.once(name, x, partial(Function, name, shift))
    return None


def _slice(b: "Builder", given: Given) -> Value:
    x = given.value()
    starts, ends, axes, steps = (given.numbers(name, place) for place, name in enumerate(_SLICE, 1))
    rank = len(x.shape)
    if starts is None or ends is None:
        raise Refused("where it begins and ends is not stated")
    axes = [axis % rank for axis in (range(len(starts)) if axes is None else axes)]
    steps = [1] * len(starts) if steps is None else steps
    slices = [slice(None)] * (rank - 1)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if axis == 0 or step < 1:
            raise Refused("a slice of images, or backwards")
        slices[axis - 1] = slice(*slice(start, end, step).indices(x.shape[axis]))
    x = b.around(x) if x.is_signs else b.plain(x)
    found = b.run(Cut(*slices), x)
    if 0 in found.meta.shape:
        raise Refused("nothing is left of its input")
    if (places := _places(b, x)) is not None:
        b.places[found.number] = places[0], places[1][(slice(None), *slices)]
    return replace(found, is_signs=x.is_signs, scale=x.scale)


_SLICE = ("starts", "ends", "axes", "steps")


def _pad(b: "Builder", given: Given) -> Value:
    x, sides, value = given.value(), given.numbers("pads", 1), given.number("value", 2) or 0.0
    if given.attribute("mode", "constant") != "constant" or given.array(3) is not None or sides is None:
        raise Refused("a padding that is not by a constant, on all axes")
    _require_map(x)
    if len(sides) != 8 or any(sides[axis] for axis in (0, 1, 4, 5)):
        raise Refused("a padding of images or channels")
    pads = _pair((sides[2], sides[3], sides[6], sides[7]), (0, 0, 0, 0))
    if not any(pads):
        return x
    x = b.around(x)
    if not (x.is_signs or x.quantizer):
        x = b.plain(x)
        return b.run(Pad(pads, value), x)
    scale = x.scale if x.quantizer is None else x.quantizer.scale
    shape = (*x.shape[:2], x.shape[2] + pads[0] + pads[2], x.shape[3] + pads[1] + pads[3])
    return replace(x, shape=shape, pads=pads, pad_value=value / scale)


MAPS: Mapping[str, Callable[["Builder", Given], Value]] = {
    "Conv": _conv,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_pool,
    "ReduceMean": _mean,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Concat": _concat,
    "Slice": _slice,
    "Pad": _pad,
}
"""What becomes of these operators."""
