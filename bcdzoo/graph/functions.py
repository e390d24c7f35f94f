"""Torch's own functions as operations of a plan, by their names."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.modules.utils import _pair

from bcdzoo.layers.folding import fold_statistics
from bcdzoo.layers.lowering import Lowering, Value, constant
from bcdzoo.plan.operations import END


class Unsupported(Exception):  # noqa: N818  # said to users as a reason
    """A call that no operation of a plan computes; the message says why."""


SHAPE_ONLY = frozenset(
    {
        *("Tensor.shape.__get__", "Tensor.size", "Tensor.dim", "Tensor.ndim.__get__", "Tensor.__len__", "Tensor.numel"),
        *("Tensor.dtype.__get__", "Tensor.device.__get__", "Tensor.is_floating_point", "Tensor.layout.__get__"),
        *("Tensor.requires_grad.__get__", "Tensor.is_cuda.__get__", "Tensor.is_contiguous", "Tensor.ndimension"),
        *("Tensor.is_complex", "Tensor.stride", "Tensor.grad_fn.__get__", "Tensor.new_full", "Tensor.new_ones"),
        *("full_like", "empty_like", "Tensor.new", "Tensor.new_empty"),
        *(
            "zeros_like",
            "ones_like",
            "Tensor.new_zeros",
            "Tensor.is_meta.__get__",
        ),
    }
)
"""Calls that read nothing of a map but its shape and kind: what they give depends on no image."""


def _conv2d(
    plan: Lowering,
    x: Value,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Value:
    if not isinstance(x, Value) or not isinstance(weight, Tensor):
        raise Unsupported("a convolution whose weights depend on the image")
    if isinstance(padding, str):
        raise Unsupported(f"a convolution with padding={padding!r}")
    pad = tuple(_pair(padding)) * 2
    window = {"stride": tuple(_pair(stride)), "padding": pad, "dilation": tuple(_pair(dilation)), "groups": groups}
    return plan.add("conv", x=x, weight=weight, bias=bias, relu=0, **window)


def _linear(plan: Lowering, x: Value, weight: Tensor, bias: Tensor | None = None) -> Value:
    if not isinstance(x, Value) or not isinstance(weight, Tensor):
        raise Unsupported("a linear layer whose weights depend on the image")
    if len(x.shape) != 1:
        raise Unsupported("a linear layer of something that is no vector")
    return plan.add("linear", x=x, weight=weight, bias=bias)


def _batch_norm(
    plan: Lowering,
    x: Value,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Value:
    if training or running_mean is None or running_var is None:
        raise Unsupported("a normalization by the statistics of a batch")
    alpha, beta = fold_statistics(running_mean, running_var, weight, bias, eps)
    return plan.add("scale_shift", x=x, alpha=alpha, beta=beta)


def _prelu(plan: Lowering, x: Value, weight: Tensor) -> Value:
    return plan.add("prelu", x=x, slope=weight.flatten())


def _clip(low: float | None = None, high: float | None = None) -> Callable[..., Value]:
    def lowered(plan: Lowering, x: Value, min: float | None = low, max: float | None = high, **_: Any) -> Value:
        if isinstance(min, Tensor | Value) or isinstance(max, Tensor | Value):
            raise Unsupported("a clip by something that is no number")
        return plan.add(
            "clip", x=x, low=-math.inf if min is None else float(min), high=math.inf if max is None else float(max)
        )

    return lowered


def _relu(plan: Lowering, x: Value, inplace: bool = False) -> Value:
    return plan.add("clip", x=x, low=0.0, high=math.inf)


def _hardtanh(plan: Lowering, x: Value, min_val: float = -1, max_val: float = 1, inplace: bool = False) -> Value:
    return plan.add("clip", x=x, low=float(min_val), high=float(max_val))


def _leaky_relu(plan: Lowering, x: Value, negative_slope: float = 0.01, inplace: bool = False) -> Value:
    return plan.add("prelu", x=x, slope=constant(negative_slope))


def _function(name: str) -> Callable[..., Value]:
    return lambda plan, x: plan.add("function", x=x, name=name)


def _same(plan: Lowering, x: Value, *_: Any, **__: Any) -> Value:
    return x


def _dropout(plan: Lowering, x: Value, p: float = 0.5, training: bool = True, inplace: bool = False) -> Value:
    if training:
        raise Unsupported("dropout, which is random")
    return x


def _max_pool(
    plan: Lowering,
    x: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Value:
    if tuple(_pair(dilation)) != (1, 1) or return_indices:
        raise Unsupported("a max pooling with dilation or indices")
    return _pool(plan, x, "max", kernel_size, stride, padding, ceil_mode, False)


def _avg_pool(
    plan: Lowering,
    x: Value,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Value:
    if divisor_override is not None:
        raise Unsupported("an average pooling with a divisor of its own")
    return _pool(plan, x, "average", kernel_size, stride, padding, ceil_mode, count_include_pad)


def _pool(
    plan: Lowering, x: Value, name: str, kernel: Any, stride: Any, padding: Any, ceil: bool, count_padding: bool
) -> Value:
    stride = kernel if stride is None or stride == [] else stride
    pairs = {"kernel": tuple(_pair(kernel)), "stride": tuple(_pair(stride)), "padding": tuple(_pair(padding))}
    return plan.add("pool", x=x, name=name, **pairs, ceil=int(ceil), count_padding=int(count_padding))


def _adaptive_avg_pool(plan: Lowering, x: Value, output_size: Any) -> Value:
    wanted = tuple(_pair(output_size))
    if wanted == (1, 1):
        return plan.add("mean", x=x, axes=(1, 2), double=0)
    height, width = x.shape[1:]
    if None in wanted or height % wanted[0] or width % wanted[1]:
        raise Unsupported("an adaptive pooling whose windows differ in size")
    kernel = height // wanted[0], width // wanted[1]
    return _pool(plan, x, "average", kernel, kernel, 0, False, False)


def _flatten(plan: Lowering, x: Value, start_dim: int = 0, end_dim: int = -1) -> Value:
    if start_dim != 1 or end_dim not in (-1, len(x.shape)):
        raise Unsupported("a flatten that is not of a whole image")
    return x if len(x.shape) == 1 else plan.add("reshape", x=x, shape=(math.prod(x.shape),))


def _view(plan: Lowering, x: Value, *shape: Any) -> Value:
    wanted = tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], list | tuple | torch.Size) else shape
    if wanted[0] not in (1, -1) or (wanted[0] == -1 and -1 in wanted[1:]):
        raise Unsupported("a view that mixes images")
    inner = tuple(0 if size == -1 else size for size in wanted[1:])
    if len(inner) not in (1, 3):
        raise Unsupported(f"a view as {len(wanted)} dimensions")
    return plan.add("reshape", x=x, shape=inner)


def _unflatten(plan: Lowering, x: Value, dim: int, sizes: Any) -> Value:
    if dim not in (1, -len(x.shape)) or len(sizes) + len(x.shape) - 1 != 3:
        raise Unsupported("an unflatten that gives no map")
    return plan.add("reshape", x=x, shape=(*(0 if size == -1 else size for size in sizes), *x.shape[1:]))


def _cat(plan: Lowering, tensors: Any, dim: int = 0) -> Value:
    if not all(isinstance(tensor, Value) for tensor in tensors):
        raise Unsupported("a concatenation with constants")
    if dim not in (1, -len(tensors[0].shape)):
        raise Unsupported("a concatenation that is not of channels")
    return plan.add("concat", **{f"x{i}": tensor for i, tensor in enumerate(tensors)})


def _pad(plan: Lowering, x: Value, pad: Any, mode: str = "constant", value: float | None = None) -> Value:
    if mode == "replicate" and len(x.shape) == 3 and len(pad) == 4 and min(pad) >= 0:
        left, right, top, bottom = pad
        return plan.add("replicate", x=x, padding=(top, left, bottom, right))
    if mode != "constant" or len(x.shape) != 3:
        raise Unsupported(f"a padding of mode {mode}")
    sides = [*pad, *[0] * (6 - len(pad))]
    if len(sides) != 6 or min(sides) < 0:
        raise Unsupported("a padding that cuts or pads images")
    left, right, top, bottom, front, back = sides
    return plan.add(
        "pad", x=x, before=(front, top, left), behind=(back, bottom, right), value=float(0 if value is None else value)
    )


def _getitem(plan: Lowering, x: Value, index: Any) -> Value:
    index = index if isinstance(index, tuple) else (index,)
    if not all(isinstance(each, slice) for each in index) or index[0] != slice(None):
        raise Unsupported("an index that is no slice of channels, rows or columns")
    for axis, (each, size) in enumerate(zip(index[1:], x.shape, strict=False)):
        start, stop, step = each.indices(size)
        if (start, stop, step) != (0, size, 1):
            x = plan.add("slice", x=x, axis=axis, start=start, stop=stop if each.stop is not None else END, step=step)
    return x


def _chunk(plan: Lowering, x: Value, chunks: int, dim: int = 0) -> list[Value]:
    if dim not in (1, -len(x.shape)):
        raise Unsupported("a split that is not of channels")
    size = -(-x.shape[0] // chunks)
    return _split(plan, x, size, dim)


def _split(plan: Lowering, x: Value, sizes: Any, dim: int = 0) -> list[Value]:
    if dim not in (1, -len(x.shape)):
        raise Unsupported("a split that is not of channels")
    if isinstance(sizes, int):
        sizes = [min(sizes, x.shape[0] - start) for start in range(0, x.shape[0], sizes)]
    ends = np.cumsum(sizes).tolist()
    return [
        plan.add("slice", x=x, axis=0, start=end - size, stop=end, step=1)
        for size, end in zip(sizes, ends, strict=True)
    ]


def _mean(plan: Lowering, x: Value, dim: Any = None, keepdim: bool = False, **more: Any) -> Value:
    dims = list(dim) if isinstance(dim, list | tuple) else [] if dim is None else [dim]
    axes = sorted({axis % (len(x.shape) + 1) for axis in dims})
    if not axes or 0 in axes or len(x.shape) != 3:
        raise Unsupported("a mean over images")
    mean = plan.add("mean", x=x, axes=tuple(axis - 1 for axis in axes), double=int(more.get("dtype") == torch.float64))
    if keepdim:
        return mean
    if axes != [2, 3]:
        raise Unsupported("a mean that gives no map and no vector of channels")
    return plan.add("reshape", x=mean, shape=(x.shape[0],))


def _arithmetic(kind: str) -> Callable[..., Value]:
    def lowered(plan: Lowering, a: Any, b: Any, alpha: float = 1, **_: Any) -> Value:
        if alpha != 1:
            raise Unsupported("a sum with a factor")
        if isinstance(a, Value) and isinstance(b, Value):
            return plan.add(kind, a=a, b=b)
        if isinstance(a, Value):
            return _with_constant(plan, kind, a, b)
        if kind == "subtract":
            negative = plan.add("scale_shift", x=b, alpha=constant(-1.0), beta=constant(0.0))
            return _with_constant(plan, "add", negative, a)
        return _with_constant(plan, kind, b, a)

    return lowered


def _with_constant(plan: Lowering, kind: str, x: Value, other: Any) -> Value:
    numbers = _of_channels(x, other)
    if kind == "multiply":
        return plan.add("scale_shift", x=x, alpha=numbers, beta=torch.zeros_like(numbers))
    numbers = -numbers if kind == "subtract" else numbers
    return plan.add("scale_shift", x=x, alpha=torch.ones_like(numbers), beta=numbers)


def _of_channels(x: Value, other: float | Tensor) -> Tensor:
    """A constant with a number for each channel, or one for all."""
    if isinstance(other, int | float):
        return constant(float(other))
    if other.numel() == 1:
        return other.detach().flatten().float()
    if (other == other.flatten()[0]).all() and other.ndim <= len(x.shape) + 1:
        wide = (1, *x.shape)[len(x.shape) + 1 - other.ndim :]
        if all(size in (1, whole) for size, whole in zip(other.shape, wide, strict=True)):
            return other.detach().flatten()[:1].float()
    shape = (1,) * (len(x.shape) + 1 - other.ndim) + tuple(other.shape)
    if shape[1] != x.shape[0] or other.numel() != x.shape[0]:
        raise Unsupported("arithmetic with a constant that differs along rows or columns")
    return other.detach().flatten().float()


def _divide(plan: Lowering, x: Any, other: Any, **more: Any) -> Value:
    if more.get("rounding_mode") or isinstance(other, Value):
        raise Unsupported("a division by something that depends on the image")
    numbers = _of_channels(x, other)
    mantissa, _ = torch.frexp(numbers)
    if not (mantissa.abs() == 0.5).all():
        raise Unsupported("a division by a number that is no power of two, whose rounding a product does not have")
    return _with_constant(plan, "multiply", x, 1 / numbers)


def _compare(is_strict: bool, falls: bool) -> Callable[..., Value]:
    """1 where something holds, else 0: ``x > t`` is ``x ≥`` the next float, and ``x < t`` is not ``x ≥ t``."""

    def lowered(plan: Lowering, x: Any, other: Any) -> Value:
        if not isinstance(x, Value) or isinstance(other, Value):
            raise Unsupported("a comparison with something that depends on the image")
        threshold = _of_channels(x, other)
        if is_strict:
            threshold = torch.nextafter(threshold, torch.tensor(math.inf))
        turned = torch.ones_like(threshold) if falls else None
        signs = plan.add("binarize", x=x, threshold=threshold, falls=turned)
        return plan.add("scale_shift", x=signs, alpha=constant(0.5), beta=constant(0.5))

    return lowered


def _where(plan: Lowering, condition: Any, a: Any, b: Any) -> Value:
    if not isinstance(condition, Value) or isinstance(a, Value) or isinstance(b, Value):
        raise Unsupported("a choice between maps")
    high, low = _of_channels(condition, a), _of_channels(condition, b)
    if not ((high - low) + low == high).all():
        raise Unsupported("a choice between numbers whose difference is rounded")
    return plan.add("scale_shift", x=condition, alpha=high - low, beta=low.expand_as(high - low))


def _negative(plan: Lowering, x: Value) -> Value:
    return _with_constant(plan, "multiply", x, -1.0)


def _reverse_subtract(plan: Lowering, x: Value, other: Any) -> Value:
    return _arithmetic("subtract")(plan, other, x)


def _to(plan: Lowering, x: Value, *given: Any, **more: Any) -> Value:
    return x


def _shift_quarters(sampling: str) -> Callable[..., Value]:
    return lambda plan, x: plan.add("shift_quarters", x=x, sampling=sampling)


def _in_place_too(table: dict[str, Any]) -> dict[str, Any]:
    return table | {f"{name}_": function for name, function in table.items() if name.startswith("Tensor.")}


COMPARISONS = frozenset(
    {
        *("ge", "gt", "le", "lt"),
        *(f"Tensor.{under}{name}{under}" for name in ("ge", "gt", "le", "lt") for under in ("", "__")),
    }
)
"""Functions that give 0 or 1."""

FUNCTIONS: dict[str, Callable[..., Any]] = _in_place_too(
    {
        "nn.functional.conv2d": _conv2d,
        "conv2d": _conv2d,
        "nn.functional.linear": _linear,
        "nn.functional.batch_norm": _batch_norm,
        "nn.functional.prelu": _prelu,
        "nn.functional.relu": _relu,
        "relu": _relu,
        "Tensor.relu": _relu,
        "nn.functional.relu6": lambda plan, x, inplace=False: plan.add("clip", x=x, low=0.0, high=6.0),
        "nn.functional.hardtanh": _hardtanh,
        "nn.functional.leaky_relu": _leaky_relu,
        "clamp": _clip(),
        "clip": _clip(),
        "Tensor.clamp": _clip(),
        "Tensor.clip": _clip(),
        "sigmoid": _function("sigmoid"),
        "Tensor.sigmoid": _function("sigmoid"),
        "tanh": _function("tanh"),
        "Tensor.tanh": _function("tanh"),
        "sign": _function("sign"),
        "Tensor.sign": _function("sign"),
        "abs": _function("abs"),
        "Tensor.abs": _function("abs"),
        "nn.functional.dropout": _dropout,
        "nn.functional.max_pool2d": _max_pool,
        "max_pool2d": _max_pool,
        "nn.functional.avg_pool2d": _avg_pool,
        "nn.functional.adaptive_avg_pool2d": _adaptive_avg_pool,
        "flatten": _flatten,
        "Tensor.flatten": _flatten,
        "Tensor.view": _view,
        "Tensor.reshape": _view,
        "reshape": _view,
        "Tensor.unflatten": _unflatten,
        "cat": _cat,
        "nn.functional.pad": _pad,
        "Tensor.__getitem__": _getitem,
        "chunk": _chunk,
        "Tensor.chunk": _chunk,
        "split": _split,
        "Tensor.split": _split,
        "mean": _mean,
        "Tensor.mean": _mean,
        "add": _arithmetic("add"),
        "Tensor.add": _arithmetic("add"),
        "Tensor.__radd__": _arithmetic("add"),
        "sub": _arithmetic("subtract"),
        "Tensor.sub": _arithmetic("subtract"),
        "Tensor.__rsub__": _reverse_subtract,
        "mul": _arithmetic("multiply"),
        "Tensor.mul": _arithmetic("multiply"),
        "Tensor.__rmul__": _arithmetic("multiply"),
        "div": _divide,
        "Tensor.div": _divide,
        "neg": _negative,
        "Tensor.neg": _negative,
        "where": _where,
        **{name: _compare(False, False) for name in ("ge", "Tensor.ge", "Tensor.__ge__")},
        **{name: _compare(True, False) for name in ("gt", "Tensor.gt", "Tensor.__gt__")},
        **{name: _compare(False, True) for name in ("lt", "Tensor.lt", "Tensor.__lt__")},
        **{name: _compare(True, True) for name in ("le", "Tensor.le", "Tensor.__le__")},
        "Tensor.detach": _same,
        "Tensor.alias": _same,
        "Tensor.view_as": _same,
        "Tensor.type_as": _same,
        "Tensor.contiguous": _same,
        "Tensor.clone": _same,
        "Tensor.float": _same,
        "Tensor.to": _to,
        "bcdzoo.layers.shift.short_range": _shift_quarters("short-range"),
        "bcdzoo.layers.shift.long_range": _shift_quarters("long-range"),
    }
)
"""Torch's functions that a plan knows; what is not here is named as the reason why a network is no plan."""
