"""ONNX's and QONNX's operators on each number by itself: arithmetic, activations, normalization, quantizers."""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bcdzoo.interchange.qonnx_values import Given, Quantization, Refused, Value, of_channels, single
from bcdzoo.layers.binary_conv import Accumulate
from bcdzoo.layers.qonnx import ROUNDINGS, Affine, Function, PRelu, Product, Sum, Thresholds, Uniform, UniformToEven
from bcdzoo.layers.quantizers.sign import clipped_sign
from bcdzoo.plan.operations import Array

if TYPE_CHECKING:
    from bcdzoo.interchange.from_qonnx import Builder

_MOST_BITS = 8


def _affine(kind: str) -> Callable[["Builder", Given], Value]:
    def build(b: "Builder", given: Given) -> Value:
        first, second = given.inputs
        if isinstance(first, Value) and isinstance(second, Value):
            return _of_two(b, kind, first, second)
        x, array = given.value(int(isinstance(second, Value))), given.array(int(isinstance(first, Value)))
        assert array is not None
        is_turned = isinstance(second, Value)
        if kind == "Div" and is_turned:
            raise Refused("a division by something that depends on the image")
        if kind == "Sub" and is_turned:
            x = with_constant(b, "Mul", x, np.array([-1], np.float32))
            return with_constant(b, "Add", x, array)
        return with_constant(b, "Add", x, -array) if kind == "Sub" else with_constant(b, kind, x, array)

    return build


def with_constant(b: "Builder", kind: str, x: Value, array: Array) -> Value:
    """A value times, divided by or plus a constant."""
    numbers = of_channels(array.astype(np.float32), x)
    if kind == "Div" and not numbers.all():
        raise Refused("a division by 0")
    single = float(numbers[0]) if len(numbers) == 1 else None
    if single is not None and (kept := _absorbed(kind, x, single)):
        return kept
    are_signs = x.is_signs and kind == "Mul" and bool((numbers.abs() == 1).all()) and not any(x.pads)
    if are_signs:
        return replace(b.run(Affine("Mul", numbers), x), is_signs=True, scale=x.scale)
    plain = b.plain(x)
    found = b.run(Affine(kind, numbers), plain)
    bounds = None
    if plain.bounds and single is not None:
        compute = {"Mul": lambda v: v * single, "Div": lambda v: v / single, "Add": lambda v: v + single}[kind]
        low, high = sorted(map(compute, plain.bounds))
        bounds = low, high
    return replace(found, is_sum=plain.is_sum and kind == "Mul", bounds=bounds)


def _absorbed(kind: str, x: Value, number: float) -> Value | None:
    """A product or sum that the quantizer before it takes up; None if it does not."""
    if kind == "Mul" and x.is_signs and number > 0:
        scale = float(np.float32(x.scale) * np.float32(number))
        return replace(x, scale=scale, pad_value=x.pad_value)
    q = x.quantizer
    if kind == "Add" and isinstance(q, Uniform) and not any(x.pads) and (number / q.scale).is_integer():
        minus = q.minus - number / q.scale
        return replace(x, quantizer=type(q)(q.bits, q.scale, q.low, q.high, q.zero, minus, q.rounding))
    return None


def _of_two(b: "Builder", kind: str, first: Value, second: Value) -> Value:
    if len(first.shape) != len(second.shape):
        raise Refused(f"values of {first.shape} and {second.shape} do not fit together")
    if kind == "Div":
        raise Refused("a division by something that depends on the image")
    x, y = b.plain(first), b.plain(second)
    if kind == "Mul":
        return b.run(Product(), x, y)
    if kind == "Sub":
        return b.run(Sum(), x, b.run(Affine("Mul", torch.tensor([-1.0])), y))
    if x.is_sum and y.is_sum and x.meta.shape == y.meta.shape:
        return replace(b.run(_Accumulated(), x, y), is_sum=True)
    return b.run(Sum(), x, y)


class _Accumulated(Accumulate):
    """The same, of two arguments."""

    def forward(self, *terms: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(terms)

    def lower(self, plan: Any, *terms: Any) -> Any:
        return super().lower(plan, terms)


def _elementwise(function: Callable[..., Tensor], **arguments: Any) -> Callable[["Builder", Given], Value]:
    return lambda b, given: b.run(Function(given.node.kind, function, **arguments), b.plain(given.value()))


def _same(b: "Builder", given: Given) -> Value:
    given.attribute("ratio")
    if (training := given.array(2)) is not None and training.any():
        raise Refused("it is in training mode")
    return given.value()


def _cast(b: "Builder", given: Given) -> Value:
    if given.attribute("to") not in (1, 11):  # FLOAT, DOUBLE: computed in float32, as everything is
        raise Refused("a cast to something that is not float")
    return given.value()


def _clip(b: "Builder", given: Given) -> Value:
    low, high = given.number("min", 1), given.number("max", 2)
    x = b.plain(given.value())
    low, high = (
        None if bound is None or math.isinf(bound) or abs(bound) >= 2.0**100 else bound for bound in (low, high)
    )
    if low is None and high is None:
        return x
    found = b.run(Function("Clip", torch.clamp, min=low, max=high), x)
    return replace(found, bounds=None if low is None or high is None else (low, high))


def _leaky_relu(b: "Builder", given: Given) -> Value:
    slope = float(given.attribute("alpha", 0.01))
    return b.run(PRelu(torch.tensor([slope])), b.plain(given.value()))


def _prelu(b: "Builder", given: Given) -> Value:
    x = b.plain(given.value())
    return b.run(PRelu(of_channels(given.stored(1).array.astype(np.float32), x)), x)


def _round(b: "Builder", given: Given) -> Value:
    """Whole numbers, where it is known how many."""
    x = b.plain(given.value())
    if x.bounds is None:
        raise Refused("it rounds something of which no bounds are known")
    low, high = min(round(x.bounds[0]), 0), round(x.bounds[1])
    bits = (high - low).bit_length()
    if not 1 <= bits <= 16:
        raise Refused(f"it rounds to {high - low + 1} levels")
    return replace(x, quantizer=UniformToEven(bits, 1.0, low, high))


def _batch_norm(b: "Builder", given: Given) -> Value:
    x = b.plain(given.value())
    norm = nn.BatchNorm2d(x.meta.shape[1], float(given.attribute("epsilon", 1e-5)))
    arrays = [torch.from_numpy(given.stored(place).array.astype(np.float32)) for place in range(1, 5)]
    names = ("weight", "bias", "running_mean", "running_var")
    if not all(array.isfinite().all() for array in arrays) or not (arrays[3] + norm.eps > 0).all():
        raise Refused("its statistics are not finite, or a variance is negative")
    norm.load_state_dict(dict(zip(names, arrays, strict=True)), strict=False)
    return b.run(norm, x)


def _scalar(array: Array | None, default: float) -> float:
    return default if array is None else single(array)


def _bipolar(b: "Builder", given: Given) -> Value:
    x = b.plain(given.value())
    return _signs(b, x, _scalar(given.array(1), 1.0))


def _signs(b: "Builder", x: Value, scale: float) -> Value:
    if not scale > 0 or math.isinf(scale):
        raise Refused("its scale is not above 0, or not finite")
    return replace(b.once("signs", x, clipped_sign), shape=x.shape, is_signs=True, scale=scale)


def _quant(b: "Builder", given: Given) -> Value:
    q, x = Quantization(given), b.plain(given.value())
    if q.scale.size > 1:
        return _quantized_by_channel(b, q, x)
    scale = single(q.scale)
    if q.is_bipolar:
        return _signs(b, with_constant(b, "Add", x, np.array([q.zero * scale], np.float32)) if q.zero else x, scale)
    if q.bits > _MOST_BITS:
        raise Refused(f"activations of {q.bits} bits: at most {_MOST_BITS} are read")
    kind = UniformToEven if ROUNDINGS[q.rounding] is torch.round else Uniform
    return replace(x, quantizer=kind(q.bits, scale, q.low, q.high, q.zero, q.zero, q.rounding))


def _quantized_by_channel(b: "Builder", q: Quantization, x: Value) -> Value:
    """Real numbers, for what follows: a scale of each channel cannot be applied to sums over channels."""
    if q.is_bipolar or q.bits > _MOST_BITS:
        raise Refused("activations with a scale for each channel are read of 2 to 8 bits")
    kind = UniformToEven if ROUNDINGS[q.rounding] is torch.round else Uniform
    scaled = with_constant(b, "Div", x, q.scale)
    levels = replace(scaled, quantizer=kind(q.bits, 1.0, q.low, q.high, q.zero, q.zero, q.rounding))
    return with_constant(b, "Mul", levels, q.scale)


def _thresholds(b: "Builder", given: Given) -> Value:
    given.attribute("out_dtype")
    if given.attribute("data_layout", "") not in ("", "NCHW", "NC"):
        raise Refused("channels last: convert it to channels first")
    scale, bias = float(given.attribute("out_scale", 1.0)), float(given.attribute("out_bias", 0.0))
    x, thresholds = b.plain(given.value()), given.stored(1).array.astype(np.float32)
    if thresholds.ndim != 2 or len(thresholds) not in (1, x.meta.shape[1]) or not 1 <= thresholds.shape[1] <= 255:
        raise Refused("its thresholds do not fit its input, or are none, or more than 255")
    if not np.isfinite(thresholds).all() or not scale > 0 or not math.isfinite(scale):
        raise Refused("a threshold is infinite, or its scale is not above 0")
    if thresholds.shape[1] == 1 and bias == -scale / 2:
        column = thresholds if len(x.shape) == 2 else thresholds[:, :, None]
        return _signs(b, with_constant(b, "Add", x, -column.reshape(-1, *(1,) * (len(x.shape) - 2))), scale / 2)
    return replace(x, quantizer=Thresholds(torch.from_numpy(thresholds), scale, -bias / scale))


ELEMENTS: Mapping[str, Callable[["Builder", Given], Value]] = {
    "BatchNormalization": _batch_norm,
    "Add": _affine("Add"),
    "Sub": _affine("Sub"),
    "Mul": _affine("Mul"),
    "Div": _affine("Div"),
    "Neg": lambda b, given: with_constant(b, "Mul", given.value(), np.array([-1], np.float32)),
    "Relu": _elementwise(F.relu),
    "PRelu": _prelu,
    "LeakyRelu": _leaky_relu,
    "Sigmoid": _elementwise(torch.sigmoid),
    "Tanh": _elementwise(torch.tanh),
    "Abs": _elementwise(torch.abs),
    "Sign": _elementwise(torch.sign),
    "Clip": _clip,
    "Round": _round,
    "Identity": _same,
    "Dropout": _same,
    "Cast": _cast,
}
"""What becomes of ONNX's own operators."""

QUANTIZING: Mapping[str, Callable[["Builder", Given], Value]] = {
    "BipolarQuant": _bipolar,
    "Quant": _quant,
    "IntQuant": _quant,
    "MultiThreshold": _thresholds,
}
"""What becomes of QONNX's."""
