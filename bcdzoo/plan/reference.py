"""What every operation of a plan computes, in plain numpy: slow and obvious, the truth for every kernel.

A value has the batch in front: a map is (N, C, H, W), a vector (N, C); levels are (K, N, C, H, W), bases first. A value
of one image stands for all. Unless an operation says otherwise, each of its steps is rounded to float32; what is absent
does nothing.

Promise: sums of small integers, comparisons, single steps and :func:`fused` equal torch bit for bit. (Bases are summed
in sequence; torch's order depends on its memory if there are five or more.) Sums of real numbers (conv, linear, mean,
context) and functions are computed in float64 and rounded once; torch's are close to that.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bcdzoo.plan.operations import Array, Operation, pooled, require, window
from bcdzoo.plan.plan import Plan, last_uses, shapes_of

Op = Any  # an Operation, whose fields have the types that its kind asks for


def run(plan: Plan, images: Array) -> Array:
    """Run a plan.

    Args:
        plan: Plan.
        images: float32 of shape (N, C, H, W); their size need not be the plan's own.

    Returns:
        Logits, float32 of shape (N, classes).

    Raises:
        PlanError: The images are no such array, or not finite (comparisons would hide a NaN), or do not fit the plan.
    """
    what = "the images are no finite float32 array of shape (N, C, H, W)"
    require(isinstance(images, np.ndarray) and images.dtype == np.float32 and images.ndim == 4, what)
    require(images.size > 0 and bool(np.isfinite(images).all()), what)
    shapes_of(plan, images.shape[1:])
    last = last_uses(plan)
    values = {0: images}
    with np.errstate(all="ignore"):  # what overflows is infinite, as in torch
        for number, operation in enumerate(plan.operations):
            inputs = {name: values[value] for name, value in operation.inputs.items()}
            values[number + 1] = RUN[operation.kind](operation, **inputs)
            values = {value: array for value, array in values.items() if last[value] > number}
    (logits,) = values.values()
    return _for_batch(logits, len(images))


def fused(x: Array, alpha: Array, beta: Array) -> Array:
    """``x·alpha + beta`` of float32, rounded once, as torch's batch normalization does it."""
    product = x.astype(np.float64) * alpha  # exact
    total = np.asarray(product + beta)
    part = total - product
    error = (product - (total - part)) + (beta - part)  # of the sum, exactly (Knuth's two-sum)
    # An inexact sum becomes the neighbour whose last bit is 1: the second rounding cannot take that for a tie.
    is_even = total.view(np.int64) & 1 == 0
    odd = np.nextafter(total, np.copysign(np.inf, error))
    return np.where(is_even & (np.abs(error) > 0), odd, total).astype(np.float32)


def _constant(op: Op, name: str, x: Array, absent: float = 0.0) -> Array:
    """A constant of each channel, in the dimensions of a map or vector."""
    constant: Array = op.constants.get(name, np.full(1, absent, np.float32))
    return constant.reshape(-1, *(1,) * (x.ndim - 2))


def _for_batch(x: Array, images: int) -> Array:
    return x if len(x) == images else np.repeat(x, images, axis=0)


def _joined(values: Sequence[Array]) -> Array:
    images = max(len(value) for value in values)
    return np.concatenate([_for_batch(value, images) for value in values], axis=1)


def _sum(terms: Sequence[Array]) -> Array:
    """In sequence, because float32 depends on it."""
    total, *others = terms
    for term in others:
        total = total + term
    return total


def _taps(x: Array, op: Op, kernel: Sequence[int], out: Sequence[int]) -> Iterator[tuple[int, int, Array]]:
    """Row and column of each tap of a window, and what it sees of a padded map at every output pixel."""
    stride, dilation = op.fields["stride"], op.fields.get("dilation", (1, 1))
    for row, column in np.ndindex(*kernel):
        top, left = row * dilation[0], column * dilation[1]
        rows = slice(top, top + (out[0] - 1) * stride[0] + 1, stride[0])
        columns = slice(left, left + (out[1] - 1) * stride[1] + 1, stride[1])
        yield row, column, x[..., rows, columns]


def _convolved(op: Op, x: Array, weight: Array) -> Array:
    """Convolution in float64, which is exact for integers."""
    (images, c_in), (c_out, _, *kernel), groups = x.shape[:2], weight.shape, op.fields["groups"]
    out, before, behind = zip(*(window(x.shape[2 + i], kernel[i], op, i) for i in (0, 1)), strict=True)
    borders = ((0, 0), (0, 0), *zip(before, behind, strict=True))
    padded = np.pad(x.astype(np.float64), borders, constant_values=np.float32(op.fields["pad_value"]))
    weight = weight.astype(np.float64).reshape(groups, c_out // groups, c_in // groups, *kernel)
    weight = np.ascontiguousarray(np.moveaxis(weight, (-2, -1), (0, 1)))  # many times as fast a product
    total = np.zeros((images, groups, c_out // groups, out[0] * out[1]))
    for row, column, seen in _taps(padded, op, kernel, out):
        total += weight[row, column] @ seen.reshape(images, groups, c_in // groups, -1)
    return total.reshape(images, c_out, *out)


def _conv(op: Op, x: Array) -> Array:
    y = (_convolved(op, x, op.constants["weight"]) + _constant(op, "bias", x)).astype(np.float32)
    y = fused(y, _constant(op, "alpha", x, 1), _constant(op, "beta", x))
    return np.maximum(y, np.float32(0)) if op.fields["relu"] else y


def _linear(op: Op, x: Array) -> Array:
    sums = x.astype(np.float64) @ op.constants["weight"].T.astype(np.float64)
    return np.asarray(sums + _constant(op, "bias", x), np.float32)


def _prelu(op: Op, x: Array) -> Array:
    """``y·positive`` where y = x + shift_in is above 0, else ``y·slope``; + shift_out."""
    y = x + _constant(op, "shift_in", x)
    y = np.where(y > 0, y * _constant(op, "positive", x, 1), y * _constant(op, "slope", x, 1))
    return y + _constant(op, "shift_out", x)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-x)))


_FUNCTIONS: Mapping[str, Callable[[Array], Array]] = {
    "abs": np.abs,
    "sigmoid": _sigmoid,
    "sign": lambda x: (x > 0).astype(np.float64) - (x < 0),  # -1, 0 or +1, and 0 of a NaN, as torch's
    "tanh": np.tanh,
}


def _pool(op: Op, x: Array) -> Array:
    """Padding is -inf for the maximum and 0 for the average; a window is cut where the padding ends."""
    kernel, stride, padding = (op.fields[key] for key in ("kernel", "stride", "padding"))
    out = [pooled(x.shape[2 + i], op, i) for i in (0, 1)]
    ends = [(out[i] - 1) * stride[i] + kernel[i] for i in (0, 1)]
    borders = [(padding[i], max(ends[i] - padding[i] - x.shape[2 + i], 0)) for i in (0, 1)]
    is_max = op.fields["name"] == "max"
    start = -np.inf if is_max else 0.0
    padded = np.pad(x, ((0, 0), (0, 0), *borders), constant_values=start)
    y = np.full((*x.shape[:2], *out), start, np.float32)
    for _, _, seen in _taps(padded, op, kernel, out):
        y = np.maximum(y, seen) if is_max else y + seen
    return y if is_max else y / np.outer(*(_counts(op, x.shape[2 + i], out[i], i) for i in (0, 1)))


def _counts(op: Op, size: int, out: int, axis: int) -> Array:
    """How many rows (or columns) of each window count for its average."""
    kernel, stride, padding = (op.fields[key][axis] for key in ("kernel", "stride", "padding"))
    begin = np.arange(out) * stride - padding
    end = np.minimum(begin + kernel, size + padding)
    if not op.fields["count_padding"]:
        begin, end = np.maximum(begin, 0), np.minimum(end, size)
    return np.asarray(end - begin, np.float32)


def _mean(op: Op, x: Array) -> Array:
    """In float64, whether ``double`` asks for it or torch's float32 mean is as good."""
    axes = tuple(axis + 1 for axis in op.fields["axes"])
    return np.asarray(x.mean(axes, np.float64, keepdims=True), np.float32)


def _context(op: Op, x: Array) -> Array:
    """Mean of each channel → ``first`` → ReLU if any → ``second`` → sigmoid if any, all in float64."""
    first, second = (op.constants[name].astype(np.float64) for name in ("first", "second"))
    hidden = x.mean((2, 3), np.float64) @ first.T
    y = (np.maximum(hidden, 0) if op.fields["hidden"] == "relu" else hidden) @ second.T
    y = _sigmoid(y) if op.fields["output"] == "sigmoid" else y
    return np.expand_dims(y.astype(np.float32), (2, 3))


def _slice(op: Op, x: Array) -> Array:
    part = slice(op.fields["start"], op.fields["stop"], op.fields["step"])
    return np.asarray(x[(slice(None),) * (op.fields["axis"] + 1) + (part,)])


def _pad(op: Op, x: Array) -> Array:
    borders = ((0, 0), *zip(op.fields["before"], op.fields["behind"], strict=True))
    return np.pad(x, borders, constant_values=op.fields["value"])


def _replicate(op: Op, x: Array) -> Array:
    top, left, bottom, right = op.fields["padding"]
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), mode="edge")


def _sampled(x: Array, sampling: str) -> Array:
    """Roll the quarters of the channels down, up, right and left, by a pixel or half the map."""
    if sampling == "none":
        return x
    rows, columns = (1, 1) if sampling == "short-range" else (x.shape[2] // 2, x.shape[3] // 2)
    down, up, right, left = np.split(x, 4, axis=1)
    rolled = np.roll(down, rows, 2), np.roll(up, -rows, 2), np.roll(right, columns, 3), np.roll(left, -columns, 3)
    return np.concatenate(rolled, axis=1)


def _binarize(op: Op, x: Array, threshold: Array | None = None) -> Array:
    """+1 where x ≥ threshold, else -1; the other way round where ``falls`` is 1.

    A NaN is not ≥ anything, so it gives -1, and +1 where it falls. (The zoo's own sign of a NaN is +1.)
    """
    given = _constant(op, "threshold", x) if threshold is None else threshold.reshape(threshold.shape[: x.ndim])
    return np.where((x >= given) ^ (_constant(op, "falls", x) != 0), np.float32(1), np.float32(-1))


def _quantize(op: Op, x: Array) -> Array:
    """Clip, multiply by the step (or divide), round halves to even, add the offset: levels of one basis."""
    low, high, step, offset = (np.float32(op.fields[key]) for key in ("low", "high", "step", "offset"))
    clipped = np.clip(x, low, high)
    return (np.rint(clipped / step if op.fields["divide"] else clipped * step) + offset)[None]


def _encode(op: Op, x: Array) -> Array:
    """Bits of the nearest sum of some of the basis; between two of them the lower one."""
    basis = op.constants["basis"]
    bits = ((np.arange(2 ** len(basis))[:, None] >> np.arange(len(basis))) & 1).astype(np.float32)
    sums = _sum(list(bits.T * basis[:, None]))
    order = np.argsort(sums, kind="stable")
    middles = (sums[order][1:] + sums[order][:-1]) / np.float32(2)
    nearest = _sum([(x > middle).astype(np.int64) for middle in middles])
    return np.moveaxis(bits[order][nearest], -1, 0)


def _weights(planes: Array, c_in: int, kernel: Sequence[int]) -> Array:
    """``Σ 2^j·s_j`` of planes of signs (w_bits, rows, taps, words): (rows, c_in, *kernel)."""
    octets = np.ascontiguousarray(planes, "<u8").view(np.uint8)
    signs = 2.0 * np.unpackbits(octets, axis=-1, bitorder="little")[..., :c_in] - 1
    weights = _sum([2**j * plane for j, plane in enumerate(signs)])
    return weights.swapaxes(1, 2).reshape(-1, c_in, *kernel)


def _low_bit_conv(op: Op, x: Array) -> Array:
    """Sums of integers × scale, summed over bases of weights; × a_scale, summed over bases of activations.

    Padding is a level of ``pad_value``.
    """
    bases = x if x.ndim == 5 else x[None]
    weight = _weights(op.constants["planes"], bases.shape[2] // op.fields["groups"], op.fields["kernel"])
    terms = []
    for levels, a_scale in zip(bases, op.constants["a_scale"], strict=True):
        sums = _convolved(op, levels, weight).astype(np.float32) * _constant(op, "scale", levels)
        terms.append(_sum(np.split(sums, op.fields["w_bases"], axis=1)) * a_scale)
    return _sum(terms)


def _binary_unit(
    op: Op,
    x: Array,
    shortcut: Array | None = None,
    threshold: Array | None = None,
    gate: Array | None = None,
    offset: Array | None = None,
) -> Array:
    """Binarize; sample, convolve and scale for each branch; then, step by step, everything behind the convolution.

    These are: ``v·gate + offset``; inner PReLU; ``v·alpha + beta``, rounded once; the shortcut, before or after the
    activation ``prelu(v + shift_in, slope) + shift_out``; clip to ±limit.
    """
    samplings, constants = op.fields["samplings"], op.constants
    bits = _binarize(op, x, threshold)
    weight = _weights(constants["planes"][None], x.shape[1] // op.fields["groups"], op.fields["kernel"])
    weights = np.split(weight, len(samplings))
    scales = np.split(constants["scale"][:, None, None], len(samplings))
    sums = [_convolved(op, _sampled(bits, by), weight) for by, weight in zip(samplings, weights, strict=True)]
    v = _sum([s.astype(np.float32) * scale for s, scale in zip(sums, scales, strict=True)])
    v = v if gate is None else v * gate
    v = v if offset is None else v + offset
    v = np.where(v > 0, v, v * _constant(op, "inner_slope", v, 1))
    v = fused(v, _constant(op, "alpha", v, 1), _constant(op, "beta", v))
    v = _prelu(op, v) if op.fields["activation_first"] else v
    v = v + _shortcut(op.fields["shortcut"], x, shortcut, v.shape[1])
    v = v if op.fields["activation_first"] else _prelu(op, v)
    v = np.clip(v, np.float32(-op.fields["limit"]), np.float32(op.fields["limit"]))
    if op.fields["append"]:
        return _joined([x, v])
    kept = x.shape[1] - v.shape[1]  # channels in front of those that are added to
    return _joined([x[:, :kept], v]) if kept and op.fields["shortcut"] == "same" else v


def _binary_attention(op: Op, query: Array, key: Array, value: Array) -> Array:
    """Signs of all three → in each head: products of queries and keys / divisor → softmax → 0 or ``level`` → · values.

    A weight of attention is ``level`` where it is above half of it, in float32; softmax is computed in float64.
    """
    given = {"query": query, "key": key, "value": value}
    heads, images = op.fields["heads"], max(map(len, given.values()))
    q, k, v = (
        _for_batch(np.where(x >= _constant(op, f"{name}_threshold", x), 1.0, -1.0), images).reshape(
            images, heads, x.shape[1] // heads, -1
        )
        for name, x in given.items()
    )
    sums = q.swapaxes(2, 3) @ k
    weights = np.exp((sums - sums.max(3, keepdims=True)) / op.fields["divisor"])
    weights = (weights / weights.sum(3, keepdims=True)).astype(np.float32)
    level = op.constants["level"]
    sums = v @ (weights / level > np.float32(0.5)).swapaxes(2, 3)
    return np.asarray((sums.astype(np.float32) * level).reshape(images, *query.shape[1:]))


_HALVING = {"name": "average", "kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "ceil": 1, "count_padding": 0}


def _shortcut(name: str, x: Array, given: Array | None, channels: int) -> Array:
    match name:
        case "none":
            return np.zeros(1, np.float32)
        case "same":
            return x[:, -channels:]
        case "average-pool":
            return _pool(Operation("pool", {}, _HALVING), x)  # type: ignore[arg-type]
        case "duplicate":
            return np.concatenate([x, x], axis=1)
    assert given is not None
    return given


def _chosen(run: Callable[..., Array], rows: int) -> Callable[..., Array]:
    """Run an operation that may have scores: then an image has its share of the weights, that of its highest score.

    Args:
        run: The operation without them.
        rows: Dimension of the weights' planes that is divided.
    """

    def by_image(op: Op, x: Array, scores: Array | None = None, **others: Array) -> Array:
        if scores is None:
            return run(op, x, **others)
        images = max(x.shape[-4], *(len(each) for each in (scores, *others.values())))
        experts = _for_batch(scores.reshape(len(scores), -1).argmax(1), images)
        count = scores.shape[1]
        planes = np.split(op.constants["planes"], count, axis=rows)
        scales = np.split(op.constants["scale"], count)
        parts = []
        for image, expert in enumerate(experts):
            own = replace(op, constants=op.constants | {"planes": planes[expert], "scale": scales[expert]})
            seen = {name: _for_batch(each, images)[image : image + 1] for name, each in others.items()}
            maps = x if x.shape[-4] == 1 else x[..., image : image + 1, :, :, :]
            parts.append(run(own, maps, **seen))
        return np.concatenate(parts)

    return by_image


RUN: Mapping[str, Callable[..., Array]] = {
    "conv": _conv,
    "linear": _linear,
    "scale_shift": lambda op, x: fused(x, _constant(op, "alpha", x), _constant(op, "beta", x)),
    "prelu": _prelu,
    "clip": lambda op, x: np.clip(x, np.float32(op.fields["low"]), np.float32(op.fields["high"])),
    "function": lambda op, x: _FUNCTIONS[op.fields["name"]](x.astype(np.float64)).astype(np.float32),
    "add": lambda op, a, b: a + b,
    "subtract": lambda op, a, b: a - b,
    "multiply": lambda op, a, b: a * b,
    "add_map": lambda op, x: x + op.constants["map"],
    "pool": _pool,
    "mean": _mean,
    "context": _context,
    "concat": lambda op, **values: _joined(list(values.values())),
    "slice": _slice,
    "pad": _pad,
    "replicate": _replicate,
    "reshape": lambda op, x: x.reshape(len(x), *(size or -1 for size in op.fields["shape"])),
    "permute": lambda op, x: x.transpose(0, *(axis + 1 for axis in op.fields["axes"])),
    "shift_quarters": lambda op, x: _sampled(x, op.fields["sampling"]),
    "upsample": lambda op, x: x.repeat(op.fields["factor"][0], 2).repeat(op.fields["factor"][1], 3),
    "fill": lambda op, x: np.full((1, *x.shape[1:]), op.fields["value"], np.float32),
    "binarize": _binarize,
    "quantize": _quantize,
    "encode": _encode,
    "stack": lambda op, **values: _joined([value[:, None] for value in values.values()]).swapaxes(0, 1),
    "low_bit_conv": _chosen(_low_bit_conv, rows=1),
    "binary_attention": _binary_attention,
    "binary_unit": _chosen(_binary_unit, rows=0),
}
"""What computes each kind of operation, from the operation and its inputs by name."""
