"""Nodes that do not depend on the image: they are computed while the file is read, and become constants."""

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bcdzoo.interchange.qonnx_values import Given, Quantization, Refused, Stored, Value, moved, reshaped, transposed
from bcdzoo.layers.qonnx import ROUNDINGS
from bcdzoo.plan.operations import Array

if TYPE_CHECKING:
    from bcdzoo.interchange.from_qonnx import Builder

Fold = Callable[["Builder", Given], Stored]


def _folded_quant(b: "Builder", given: Given) -> Stored:
    q, x = Quantization(given), given.stored(0).array.astype(np.float32)
    b.grow(3 * x.size)
    y = x / q.scale + np.float32(q.zero)
    if y.shape != x.shape:
        raise Refused("its scale does not fit")
    if q.is_bipolar:
        levels = np.where(y >= 0, np.float32(1), np.float32(-1)) - np.float32(q.zero)
    else:
        levels = ROUNDINGS[q.rounding](torch.from_numpy(np.clip(y, q.low, q.high))).numpy() - np.float32(q.zero)
    usual = q.zero == 0 and (q.signed or q.is_bipolar)
    return Stored(levels * q.scale, levels if usual else None, q.scale, q.bits)


def _folded_bipolar(b: "Builder", given: Given) -> Stored:
    x, scale = given.stored(0).array, given.stored(1).array.astype(np.float32)
    if not (np.isfinite(scale).all() and (scale > 0).all()):
        raise Refused("its scale is not above 0, or not finite")
    b.grow(2 * x.size)
    levels = np.where(x >= 0, np.float32(1), np.float32(-1))
    product = levels if scale.size == 1 and scale == 1 else levels * scale
    if product.shape != levels.shape:
        raise Refused("its scale does not fit")
    return Stored(product, levels, scale, 1)


def _folded_transpose(b: "Builder", given: Given) -> Stored:
    x = given.stored(0)
    axes = tuple(given.attribute("perm") or range(x.array.ndim)[::-1])
    return transposed(x, axes)


def _folded_reshape(b: "Builder", given: Given) -> Stored:
    x, wanted = given.stored(0), [int(size) for size in given.stored(1).array.reshape(-1)]
    given.attribute("allowzero")
    shape = tuple(x.array.shape[place] if size == 0 else size for place, size in enumerate(wanted))
    return reshaped(x, shape)


def _folded_axes(kind: str) -> Fold:
    def fold(b: "Builder", given: Given) -> Stored:
        x, axes = given.stored(0), given.numbers("axes", 1)
        if kind == "Squeeze":
            return moved(x, lambda array: array.squeeze(None if axes is None else tuple(axes)))
        return moved(x, lambda array: np.expand_dims(array, tuple(axes or ())))

    return fold


def _folded(function: Callable[..., Array]) -> Fold:
    """Arithmetic, in float32 or whole numbers as ONNX has it."""

    def fold(b: "Builder", given: Given) -> Stored:
        arrays = [given.stored(place).array for place in range(len(given.inputs))]
        b.grow(math.prod(np.broadcast_shapes(*(array.shape for array in arrays))), 8)
        with np.errstate(all="ignore"):
            found = np.asarray(function(*arrays))
        if found.dtype.kind == "f":
            found = found.astype(np.float32)
            if np.isnan(found).any():
                raise Refused("it gives what is no number")
        return Stored(found)

    return fold


def _divided(x: Array, y: Array) -> Array:
    if x.dtype.kind == "f" or y.dtype.kind == "f":
        return x / y
    if not y.all():
        raise Refused("a division by 0")
    return np.trunc(x / y).astype(x.dtype)


def _folded_concat(b: "Builder", given: Given) -> Stored:
    arrays = [given.stored(place).array for place in range(len(given.inputs))]
    b.grow(sum(array.size for array in arrays), 8)
    return Stored(np.concatenate(arrays, given.attribute("axis")))


def _folded_gather(b: "Builder", given: Given) -> Stored:
    x, index, axis = given.stored(0).array, given.stored(1).array, given.attribute("axis", 0)
    b.grow(index.size * x.size // max(x.shape[axis], 1), 8)
    return Stored(np.take(x, index, axis))


def _folded_cast(b: "Builder", given: Given) -> Stored:
    kinds: dict[int, Any] = {1: np.float32, 11: np.float32, 6: np.int64, 7: np.int64}  # float, double, int32, int64
    kind = kinds.get(given.attribute("to"))
    given.attribute("saturate")
    if kind is None:
        raise Refused("a cast to something that is not float or whole numbers")
    x = given.stored(0)
    b.grow(x.array.size, 8)
    return x if x.array.dtype == kind else Stored(x.array.astype(kind))


def _constant(b: "Builder", given: Given) -> Stored:
    kinds: dict[str, Any] = {"value_float": np.float32, "value_floats": np.float32}
    kinds |= {"value_int": np.int64, "value_ints": np.int64}
    for name, kind in kinds.items():
        if (found := given.attribute(name)) is not None:
            return Stored(np.array(found, kind))
    array = given.attribute("value")
    if not isinstance(array, np.ndarray):
        raise Refused("it has no value")
    return Stored(array)


def shape_of(b: "Builder", given: Given) -> Stored:
    """The shape of something, which no image changes."""
    shape = given.value().shape if isinstance(given.inputs[0], Value) else given.stored(0).array.shape
    return Stored(np.array(shape[given.attribute("start", 0) : given.attribute("end")], np.int64))


FOLDED: Mapping[str, Fold] = {
    "Constant": _constant,
    "Identity": lambda b, given: given.stored(0),
    "Transpose": _folded_transpose,
    "Reshape": _folded_reshape,
    "Squeeze": _folded_axes("Squeeze"),
    "Unsqueeze": _folded_axes("Unsqueeze"),
    "Concat": _folded_concat,
    "Gather": _folded_gather,
    "Cast": _folded_cast,
    "Shape": shape_of,
    "Add": _folded(np.add),
    "Sub": _folded(np.subtract),
    "Mul": _folded(np.multiply),
    "Div": _folded(_divided),
    "Pow": _folded(np.power),
    "Sqrt": _folded(np.sqrt),
    "Neg": _folded(np.negative),
    "Abs": _folded(np.abs),
    "Reciprocal": _folded(lambda x: 1 / x),
}
"""What becomes of nodes that do not depend on the image."""

FOLDED_QUANTIZERS: Mapping[str, Fold] = {
    "BipolarQuant": _folded_bipolar,
    "Quant": _folded_quant,
    "IntQuant": _folded_quant,
}
