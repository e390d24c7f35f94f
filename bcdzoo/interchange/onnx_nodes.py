"""Every kind of operation of a plan as ONNX nodes.

:mod:`bcdzoo.plan.reference` says what each one computes, and in which order; the nodes follow it. A map is
(N, C, H, W), a vector (N, C), and levels of K bases are K maps.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import TensorProto

from bcdzoo.interchange.onnx_graph import Graph, whole
from bcdzoo.plan.operations import Array, Operation, Shape, pooled, unpacked_bits, window


@dataclass(frozen=True)
class Step:
    """An operation among its values.

    Attributes:
        operation: Operation.
        shapes: Shapes of its inputs, by name.
        out: Shape of what it gives.
    """

    operation: Operation
    shapes: Mapping[str, Shape]
    out: Shape

    @property
    def fields(self) -> Mapping[str, Any]:
        """Its fields."""
        return self.operation.fields

    def has(self, name: str) -> bool:
        """Whether it has a constant."""
        return name in self.operation.constants

    def constant(self, name: str) -> Array:
        """A constant of each channel, in the dimensions of its first input."""
        return self.operation.constants[name].reshape(-1, *(1,) * (len(self.shapes["x"]) - 1))


def _number(value: float) -> Array:
    return np.array(value, np.float32)


def _sum(graph: Graph, terms: Sequence[str]) -> str:
    """In sequence, because float32 depends on it."""
    total, *others = terms
    for term in others:
        total = graph("Add", total, term)
    return total


def _cast(graph: Graph, x: str, kind: int) -> str:
    return graph("Cast", x, to=kind)


def _convolved(graph: Graph, step: Step, x: str, weight: str | Array, kernel: Sequence[int], *bias: Array) -> str:
    """A convolution; what is padded with anything but 0 is padded before it."""
    fields, sizes = step.fields, step.shapes["x"][-2:]
    _, before, behind = zip(*(window(sizes[i], kernel[i], step.operation, i) for i in (0, 1)), strict=True)
    pads = [*before, *behind]
    if fields["pad_value"] and any(pads):
        x = graph("Pad", x, whole(0, 0, *before, 0, 0, *behind), _number(fields["pad_value"]))
        pads = [0] * 4
    stride, dilation = list(fields["stride"]), list(fields["dilation"])
    groups, shape = fields["groups"], list(kernel)
    return graph(
        "Conv", x, weight, *bias, kernel_shape=shape, strides=stride, pads=pads, dilations=dilation, group=groups
    )


def _scaled(graph: Graph, x: str, alpha: Array, beta: Array) -> str:
    """Rounded twice, not once: ONNX has no fused multiply-add."""
    return graph("Add", graph("Mul", x, alpha), beta)


def _conv(graph: Graph, step: Step, x: str) -> str:
    weight = step.operation.constants["weight"]
    bias = [step.operation.constants["bias"]] if step.has("bias") else []
    y = _convolved(graph, step, x, weight, weight.shape[2:], *bias)
    y = _scaled(graph, y, step.constant("alpha"), step.constant("beta")) if step.has("alpha") else y
    return graph("Relu", y) if step.fields["relu"] else y


def _linear(graph: Graph, step: Step, x: str) -> str:
    constants = step.operation.constants
    bias = [constants["bias"]] if step.has("bias") else []
    return graph("Gemm", x, constants["weight"], *bias, transB=1)


def _activation(graph: Graph, step: Step, x: str) -> str:
    """``y·positive`` where y = x + shift_in is above 0, else ``y·slope``; + shift_out."""
    y = graph("Add", x, step.constant("shift_in")) if step.has("shift_in") else x
    if step.has("positive"):
        above = graph("Greater", y, _number(0))
        y = graph("Where", above, graph("Mul", y, step.constant("positive")), graph("Mul", y, step.constant("slope")))
    elif step.has("slope"):
        y = graph("PRelu", y, step.constant("slope"))
    return graph("Add", y, step.constant("shift_out")) if step.has("shift_out") else y


def _clipped(graph: Graph, x: str, low: float, high: float) -> str:
    bounds = [_number(bound) if math.isfinite(bound) else "" for bound in (low, high)]
    return x if bounds == ["", ""] else graph("Clip", x, *bounds)


def _clip(graph: Graph, step: Step, x: str) -> str:
    return _clipped(graph, x, step.fields["low"], step.fields["high"])


def _function(graph: Graph, step: Step, x: str) -> str:
    return graph(step.fields["name"].capitalize(), x)


def _elementwise(kind: str) -> Callable[..., Any]:
    def nodes(graph: Graph, step: Step, a: Any, b: Any) -> Any:
        if isinstance(a, str):
            return graph(kind, a, b)
        bases = max(len(a), len(b))
        return [graph(kind, a[i % len(a)], b[i % len(b)]) for i in range(bases)]

    return nodes


def _pool(graph: Graph, step: Step, x: str) -> str:
    """With as much padding behind as the last window needs, so that there is nothing to round up."""
    fields, sizes = step.fields, step.shapes["x"][1:]
    kernel, stride, before = (fields[key] for key in ("kernel", "stride", "padding"))
    out = [pooled(sizes[i], step.operation, i) for i in (0, 1)]
    behind = [max((out[i] - 1) * stride[i] + kernel[i] - before[i] - sizes[i], 0) for i in (0, 1)]
    geometry: dict[str, Any] = {"kernel_shape": list(kernel), "strides": list(stride), "pads": [*before, *behind]}
    if fields["name"] == "max":
        return graph("MaxPool", x, **geometry)
    y = graph("AveragePool", x, count_include_pad=fields["count_padding"], **geometry)
    if not fields["count_padding"] or all(more <= padding for more, padding in zip(behind, before, strict=True)):
        return y
    counts = [  # a window that was rounded up counts no further than to the padding's end
        np.minimum(kernel[i], sizes[i] + 2 * before[i] - np.arange(out[i], dtype=np.float32) * stride[i])
        for i in (0, 1)
    ]
    return graph("Mul", y, (np.prod(kernel) / np.outer(*counts)).astype(np.float32))


def _mean(graph: Graph, step: Step, x: str) -> str:
    axes = [axis + 1 for axis in step.fields["axes"]]
    if not step.fields["double"]:
        return graph("ReduceMean", x, axes=axes)
    return _cast(graph, graph("ReduceMean", _cast(graph, x, TensorProto.DOUBLE), axes=axes), TensorProto.FLOAT)


def _context(graph: Graph, step: Step, x: str) -> str:
    """In float64, as thresholds that come of it are compared with."""
    first, second = (step.operation.constants[name].T.astype(np.float64) for name in ("first", "second"))
    mean = graph("ReduceMean", _cast(graph, x, TensorProto.DOUBLE), axes=[2, 3], keepdims=0)
    y = graph("MatMul", mean, first)
    y = graph("MatMul", graph("Relu", y) if step.fields["hidden"] == "relu" else y, second)
    y = graph("Sigmoid", y) if step.fields["output"] == "sigmoid" else y
    return graph("Reshape", _cast(graph, y, TensorProto.FLOAT), whole(0, *step.out))


def _concat(graph: Graph, step: Step, **values: str) -> str:
    return graph("Concat", *values.values(), axis=1)


def _slice(graph: Graph, step: Step, x: str) -> str:
    start, stop, axis, stride = (whole(step.fields[key]) for key in ("start", "stop", "axis", "step"))
    return graph("Slice", x, start, stop, axis + 1, stride)


def _pad(graph: Graph, step: Step, x: str) -> str:
    borders = whole(0, *step.fields["before"], 0, *step.fields["behind"])
    return graph("Pad", x, borders, _number(step.fields["value"]))


def _replicate(graph: Graph, step: Step, x: str) -> str:
    top, left, bottom, right = step.fields["padding"]
    return graph("Pad", x, whole(0, 0, top, left, 0, 0, bottom, right), mode="edge")


def _reshape(graph: Graph, step: Step, x: str) -> str:
    return graph("Reshape", x, whole(0, *step.out))


def _permute(graph: Graph, step: Step, x: str) -> str:
    return graph("Transpose", x, perm=[0, *(axis + 1 for axis in step.fields["axes"])])


def _channels(graph: Graph, x: str, start: int, stop: int, axis: int = 1) -> str:
    return graph("Slice", x, whole(start), whole(stop), whole(axis))


def _rolled(graph: Graph, x: str, by: int, size: int, axis: int) -> str:
    by %= size
    if not by:
        return x
    ends = _channels(graph, x, size - by, size, axis), _channels(graph, x, 0, size - by, axis)
    return graph("Concat", *ends, axis=axis)


def _sampled(graph: Graph, x: str, shape: Shape, sampling: str) -> str:
    """Roll the quarters of the channels down, up, right and left, by a pixel or half the map."""
    if sampling == "none":
        return x
    channels, *sizes = shape
    by = (1, 1) if sampling == "short-range" else (sizes[0] // 2, sizes[1] // 2)
    rolled = []
    for number, (axis, sign) in enumerate(((0, 1), (0, -1), (1, 1), (1, -1))):
        quarter = _channels(graph, x, number * channels // 4, (number + 1) * channels // 4)
        rolled.append(_rolled(graph, quarter, sign * by[axis], sizes[axis], axis + 2))
    return graph("Concat", *rolled, axis=1)


def _shift_quarters(graph: Graph, step: Step, x: str) -> str:
    return _sampled(graph, x, step.shapes["x"], step.fields["sampling"])


def _fill(graph: Graph, step: Step, x: str) -> str:
    return graph("Expand", _number(step.fields["value"]), graph("Shape", x))


def _binarize(graph: Graph, step: Step, x: str, threshold: str | None = None) -> str:
    falls = step.constant("falls") != 0 if step.has("falls") else np.array(False)
    if threshold is None:
        return graph.signs(x, step.constant("threshold"), falls)
    flat = len(step.shapes["x"]) == 1
    return graph.signs(x, graph("Reshape", threshold, whole(0, -1)) if flat else threshold, falls)


def _quantize(graph: Graph, step: Step, x: str) -> list[str]:
    fields = step.fields
    clipped = _clipped(graph, x, fields["low"], fields["high"])
    rounded = graph("Round", graph("Div" if fields["divide"] else "Mul", clipped, _number(fields["step"])))
    return [graph("Add", rounded, _number(fields["offset"]))]


def _encode(graph: Graph, step: Step, x: str) -> list[str]:
    """Bits of the nearest sum of some of the basis; between two of them the lower one."""
    basis = step.operation.constants["basis"]
    bits = ((np.arange(2 ** len(basis))[:, None] >> np.arange(len(basis))) & 1).astype(np.float32)
    sums = np.zeros(len(bits), np.float32)
    for column, number in zip(bits.T, basis, strict=True):
        sums += column * number
    order = np.argsort(sums, kind="stable")
    middles = (sums[order][1:] + sums[order][:-1]) / np.float32(2)
    above = [_cast(graph, graph("Greater", x, _number(middle)), TensorProto.INT32) for middle in middles]
    nearest = _sum(graph, above)
    return [graph("Gather", table, nearest) for table in bits[order].T]


def _stack(graph: Graph, step: Step, **values: str) -> list[str]:
    return list(values.values())


def _binary_sums(graph: Graph, step: Step, signs: str, bits: Array) -> str:
    """A convolution of signs by signs, which is remembered as one."""
    sums = _convolved(graph, step, signs, graph.weight(bits), bits.shape[2:])
    if step.fields["groups"] == 1 and step.fields["pad_value"] in (-1, 0, 1):
        graph.binary[sums] = bits
    return graph.unfolded(sums)


def _low_bit_sums(graph: Graph, step: Step, levels: str) -> str:
    """Sums of levels by ``Σ 2^j·s_j``, of planes of signs (w_bits, rows, taps, words)."""
    kernel, c_in = step.fields["kernel"], step.shapes["x"][-3] // step.fields["groups"]
    planes = [unpacked_bits(plane, c_in, kernel) for plane in step.operation.constants["planes"]]
    if len(planes) == 1 and levels in graph.are_signs:
        return _binary_sums(graph, step, levels, planes[0])
    signs = [graph.weight(bits) for bits in planes]
    weight = _sum(graph, [graph("Mul", sign, _number(2**j)) if j else sign for j, sign in enumerate(signs)])
    return graph.unfolded(_convolved(graph, step, levels, weight, kernel))


def _low_bit_conv(graph: Graph, step: Step, x: str | list[str]) -> str:
    """Sums of integers × scale, summed over bases of weights; × a_scale, summed over bases of activations."""
    constants, bases = step.operation.constants, step.fields["w_bases"]
    scale, terms = constants["scale"].reshape(-1, 1, 1), []
    for levels, a_scale in zip([x] if isinstance(x, str) else x, constants["a_scale"], strict=True):
        scaled = graph("Mul", _low_bit_sums(graph, step, levels), scale)
        rows = len(scale) // bases
        parts = [_channels(graph, scaled, i * rows, (i + 1) * rows) for i in range(bases)] if bases > 1 else [scaled]
        terms.append(graph("Mul", _sum(graph, parts), _number(a_scale)))
    return _sum(graph, terms)


def _binary_attention(graph: Graph, step: Step, query: str, key: str, value: str) -> str:
    """Softmax is in float64, as what a threshold is compared with."""
    constants, heads = step.operation.constants, step.fields["heads"]

    def of_heads(x: str, name: str) -> str:
        signs = graph.signs(x, constants[f"{name}_threshold"].reshape(-1, 1, 1), np.array(False))
        return graph("Reshape", signs, whole(0, heads, step.out[0] // heads, -1))

    q, k, v = (of_heads(x, name) for x, name in ((query, "query"), (key, "key"), (value, "value")))
    sums = _cast(graph, graph("MatMul", graph("Transpose", q, perm=[0, 1, 3, 2]), k), TensorProto.DOUBLE)
    weights = graph("Softmax", graph("Div", sums, np.array(step.fields["divisor"])), axis=3)
    ratio = graph("Div", _cast(graph, weights, TensorProto.FLOAT), constants["level"])
    seen = _cast(graph, graph("Greater", ratio, _number(0.5)), TensorProto.FLOAT)
    out = graph("MatMul", v, graph("Transpose", seen, perm=[0, 1, 3, 2]))
    return graph("Reshape", graph("Mul", out, constants["level"]), whole(0, *step.out))


def _upsample(graph: Graph, step: Step, x: str) -> str:
    channels, height, width = step.shapes["x"]
    rows, columns = step.fields["factor"]
    apart = graph("Reshape", x, whole(0, channels, height, 1, width, 1))
    return graph("Reshape", graph("Tile", apart, whole(1, 1, 1, rows, 1, columns)), whole(0, *step.out))


_HALVING: dict[str, Any] = {"kernel_shape": [2, 2], "strides": [2, 2]}


def _shortcut(graph: Graph, step: Step, x: str, given: str | None, channels: int) -> str:
    shape = step.shapes["x"]
    match step.fields["shortcut"]:
        case "same":
            return x if channels == shape[0] else _channels(graph, x, shape[0] - channels, shape[0])
        case "average-pool":
            behind = [size % 2 for size in shape[1:]]
            return graph("AveragePool", x, **_HALVING, pads=[0, 0, *behind])
        case "duplicate":
            return graph("Concat", x, x, axis=1)
    assert given is not None
    return given


def _binary_unit(
    graph: Graph,
    step: Step,
    x: str,
    shortcut: str | None = None,
    threshold: str | None = None,
    gate: str | None = None,
    offset: str | None = None,
) -> str:
    fields, constants, shape = step.fields, step.operation.constants, step.shapes["x"]
    samplings, kernel = fields["samplings"], fields["kernel"]
    bits = _binarize(graph, step, x, threshold)
    rows = len(constants["planes"]) // len(samplings)
    terms = []
    for number, sampling in enumerate(samplings):
        part = slice(number * rows, (number + 1) * rows)
        weight = unpacked_bits(constants["planes"][part], shape[0] // fields["groups"], kernel)
        sums = _binary_sums(graph, step, _sampled(graph, bits, shape, sampling), weight)
        terms.append(graph("Mul", sums, constants["scale"][part, None, None]))
    v = _sum(graph, terms)
    v = graph("Mul", v, gate) if gate else v
    v = graph("Add", v, offset) if offset else v
    v = graph("PRelu", v, step.constant("inner_slope")) if step.has("inner_slope") else v
    v = graph("Mul", v, step.constant("alpha")) if step.has("alpha") else v
    v = graph("Add", v, step.constant("beta")) if step.has("beta") else v
    v = _activation(graph, step, v) if fields["activation_first"] else v
    if fields["shortcut"] != "none":
        v = graph("Add", v, _shortcut(graph, step, x, shortcut, rows))
    v = v if fields["activation_first"] else _activation(graph, step, v)
    v = _clipped(graph, v, -fields["limit"], fields["limit"])
    if fields["append"]:
        return graph("Concat", x, v, axis=1)
    kept = shape[0] - rows  # channels in front of those that are added to
    if kept and fields["shortcut"] == "same":
        return graph("Concat", _channels(graph, x, 0, kept), v, axis=1)
    return v


def _chosen(write: Callable[..., str], rows: int) -> Callable[..., str]:
    """An operation that may have scores: with the weights of each set, of which every image keeps what is its own.

    Args:
        write: The operation without them.
        rows: Dimension of the weights' planes that is divided.
    """

    def by_image(graph: Graph, step: Step, x: str | list[str], scores: str | None = None, **others: str) -> str:
        if scores is None:
            return write(graph, step, x, **others)
        constants, count = step.operation.constants, step.shapes["scores"][0]
        planes, scales = np.split(constants["planes"], count, axis=rows), np.split(constants["scale"], count)
        best = graph("ArgMax", graph("Reshape", scores, whole(0, count, 1, 1)), axis=1, keepdims=1)
        found = ""
        for expert in range(count):
            own = replace(step.operation, constants={**constants, "planes": planes[expert], "scale": scales[expert]})
            made = write(graph, replace(step, operation=own), x, **others)
            found = graph("Where", graph("Equal", best, whole(expert)), made, found) if found else made
        return found

    return by_image


NODES: Mapping[str, Callable[..., str | list[str]]] = {
    "conv": _conv,
    "linear": _linear,
    "scale_shift": lambda graph, step, x: _scaled(graph, x, step.constant("alpha"), step.constant("beta")),
    "prelu": _activation,
    "clip": _clip,
    "function": _function,
    "add": _elementwise("Add"),
    "subtract": _elementwise("Sub"),
    "multiply": _elementwise("Mul"),
    "add_map": lambda graph, step, x: graph("Add", x, step.operation.constants["map"]),
    "pool": _pool,
    "mean": _mean,
    "context": _context,
    "concat": _concat,
    "slice": _slice,
    "pad": _pad,
    "replicate": _replicate,
    "reshape": _reshape,
    "permute": _permute,
    "shift_quarters": _shift_quarters,
    "upsample": _upsample,
    "fill": _fill,
    "binarize": _binarize,
    "quantize": _quantize,
    "encode": _encode,
    "stack": _stack,
    "low_bit_conv": _chosen(_low_bit_conv, rows=1),
    "binary_attention": _binary_attention,
    "binary_unit": _chosen(_binary_unit, rows=0),
}
"""What writes each kind of operation, from a graph, the operation and its inputs by name."""
