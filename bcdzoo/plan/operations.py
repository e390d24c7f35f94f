"""The operations that a plan is made of: a fixed set, each with its inputs, fields, constants and the shape it gives.

A *value* is what an operation gives for a batch of images. Its shape leaves the batch out: ``(C, H, W)`` is a map,
``(C,)`` a vector, ``(K, C, H, W)`` are K maps of small integers, the levels of K bases. All numbers are float32.
:mod:`bcdzoo.plan.reference` says what each operation computes.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
Number = int | float | str | tuple[int, ...] | tuple[str, ...]

WORD = 64
"""Bits of a word of weights."""

LARGEST_SIZE = 1 << 24
"""Largest dimension of a value, and largest whole number in a field."""

LOW_BIT = ("binary_unit", "binary_attention", "low_bit_conv")
"""Kinds of operations on bits."""

MOST_WEIGHT_BITS = 8
"""Most bits of a weight of a low-bit convolution."""

END = LARGEST_SIZE
"""``stop`` of a slice that has none."""


class PlanError(ValueError):
    """What is no plan: the message says where and why."""


@dataclass(frozen=True)
class Operation:
    """One step of a plan.

    Attributes:
        kind: Key in :data:`KINDS`.
        inputs: Number of the value for each input; 0 are the images, i what operation i - 1 gives.
        fields: Numbers, words, or tuples of either.
        constants: float32 arrays, or uint64 for bits of weights.
        name: Layer that it comes from.
    """

    kind: str
    inputs: Mapping[str, int]
    fields: Mapping[str, Number] = field(default_factory=dict)
    constants: Mapping[str, Array] = field(default_factory=dict)
    name: str = ""


@dataclass(frozen=True)
class Whole:
    """A whole number, or a tuple of ``count`` (-1: of any length)."""

    least: int = 0
    most: int = LARGEST_SIZE
    count: int = 0

    def check(self, value: object) -> bool:
        """Whether a value is one."""
        if self.count:
            ok = isinstance(value, tuple) and (self.count < 0 or len(value) == self.count)
            return ok and all(self._is_one(each) for each in value)  # type: ignore[attr-defined]
        return self._is_one(value)

    def _is_one(self, value: object) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and self.least <= value <= self.most


@dataclass(frozen=True)
class Real:
    """A number, which may be infinite."""

    def check(self, value: object) -> bool:
        """Whether a value is one."""
        return isinstance(value, float) and not math.isnan(value)


@dataclass(frozen=True)
class Word:
    """One of some words, or a tuple of such."""

    words: tuple[str, ...]
    several: bool = False

    def check(self, value: object) -> bool:
        """Whether a value is one."""
        if self.several:
            return isinstance(value, tuple) and 0 < len(value) <= 8 and all(each in self.words for each in value)
        return value in self.words


Field = Whole | Real | Word
_FLAG = Whole(0, 1)
_PAIR = Whole(1, 4096, count=2)

GEOMETRY: dict[str, Field] = {
    "stride": _PAIR,
    "padding": Whole(0, 4096, count=4),  # top, left, bottom, right
    "same": _FLAG,  # TensorFlow's padding in place of that
    "pad_value": Real(),
    "dilation": _PAIR,
    "groups": Whole(1),
}
"""Fields of everything that slides a window over a map."""

SAMPLINGS = ("none", "short-range", "long-range")
SHORTCUTS = ("none", "same", "average-pool", "duplicate", "given")


@dataclass(frozen=True)
class Kind:
    """What an operation of a kind must have.

    Attributes:
        inputs: Names of its inputs; one that ends in "?" may be absent, "*" stands for any number, x0, x1, ….
        fields: Its fields; all are needed.
        constants: Its constants, with the number of dimensions; one that ends in "?" may be absent.
        shape: The shape of what it gives, from the operation and its inputs' shapes; a :class:`PlanError` if they do
            not fit together.
    """

    inputs: tuple[str, ...]
    fields: Mapping[str, Field]
    constants: Mapping[str, int]
    shape: Callable[[Operation, Mapping[str, Shape]], Shape]


def require(holds: bool, what: str) -> None:
    """Raise a :class:`PlanError` unless something holds."""
    if not holds:
        raise PlanError(what)


def window(size: int, kernel: int, operation: Operation, axis: int) -> tuple[int, int, int]:
    """Output size, and the padding before and behind, of a window that slides over one axis of a map.

    Args:
        size: Height (axis 0) or width (axis 1) of the map.
        kernel: Taps of the window along it.
        operation: One with :data:`GEOMETRY`.
        axis: 0 or 1.
    """
    fields: Any = operation.fields
    stride, extent = fields["stride"][axis], fields["dilation"][axis] * (kernel - 1) + 1
    if fields["same"]:
        out = -(-size // stride)
        pad = max((out - 1) * stride + extent - size, 0)
        return out, pad // 2, pad - pad // 2
    before, behind = fields["padding"][axis], fields["padding"][axis + 2]
    return (size + before + behind - extent) // stride + 1, before, behind


def _a_map(shape: Shape, rank: int = 3) -> Shape:
    require(len(shape) == rank, f"an input has {len(shape)} dimensions, not {rank}")
    return shape


def _slid(operation: Operation, shape: Shape, channels: int, kernel: Sequence[int]) -> Shape:
    sizes = [window(size, k, operation, axis)[0] for axis, (size, k) in enumerate(zip(shape[1:], kernel, strict=True))]
    require(all(size >= 1 for size in sizes), "the window is larger than the map")
    return (channels, *sizes)


def _per_channel(operation: Operation, shape: Shape, channels: int | None = None) -> None:
    """Every constant has a number for each channel, or one for all."""
    channels = shape[0] if channels is None else channels
    for name, constant in operation.constants.items():
        require(constant.ndim == 1 and len(constant) in (1, channels), f"{name} is not of {channels} channels")


def _unchanged(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    require(len(shapes["x"]) in (1, 3), "an input is no map and no vector")
    _per_channel(operation, shapes["x"])
    return shapes["x"]


def _conv(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    shape, groups = _a_map(shapes["x"]), int(operation.fields["groups"])  # type: ignore[arg-type]
    c_out, c_in, *kernel = operation.constants["weight"].shape
    require(shape[0] == c_in * groups and c_out % groups == 0, "the weights do not fit the map's channels")
    for name in ("bias", "alpha", "beta"):
        if name in operation.constants:
            require(len(operation.constants[name]) == c_out, f"{name} is not of {c_out} channels")
    require(("alpha" in operation.constants) == ("beta" in operation.constants), "alpha and beta belong together")
    return _slid(operation, shape, c_out, kernel)


def planes_shape(c_out: int, c_in: int, kernel: Sequence[int]) -> tuple[int, int, int]:
    """The shape of bits of weights: an output channel, a tap, the words of its input channels."""
    return c_out, math.prod(kernel), -(-c_in // WORD)


def packed_bits(bits: Array) -> Array:
    """Pack 0 and 1 along the channels, (rows, c_in, k, k), to :func:`planes_shape`; bits beyond the channels are 0."""
    rows, c_in, *kernel = bits.shape
    shape = planes_shape(rows, c_in, kernel)
    spread = np.zeros((*shape[:2], shape[2] * WORD), np.uint8)
    spread[:, :, :c_in] = bits.reshape(rows, c_in, -1).transpose(0, 2, 1)
    packed: Array = np.packbits(spread, axis=-1, bitorder="little").view("<u8").astype(np.uint64)
    return packed


def unpacked_bits(planes: Array, c_in: int, kernel: Sequence[int]) -> Array:
    """The 0 and 1 of :func:`packed_bits`, (rows, c_in, *kernel)."""
    bits = np.unpackbits(np.ascontiguousarray(planes.astype("<u8")).view(np.uint8), axis=-1, bitorder="little")
    spread: Array = bits[:, :, :c_in].transpose(0, 2, 1).reshape(len(planes), c_in, *kernel)
    return spread


def experts(shapes: Mapping[str, Shape]) -> int:
    """Number of sets of weights, of which an image has the one with its highest score; 1 if there are no scores."""
    if "scores" not in shapes:
        return 1
    require(shapes["scores"][1:] in ((), (1, 1)), "the scores are no vector")
    return shapes["scores"][0]


def _low_bit_conv(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    fields: Any = operation.fields
    shape, sets = shapes["x"], experts(shapes)
    require(len(shape) in (3, 4), "the input is no map")
    bases = shape[0] if len(shape) == 4 else 1
    c_in, height, width = shape[-3:]
    w_bits, rows = operation.constants["planes"].shape[:2]
    groups, w_bases = fields["groups"], fields["w_bases"]
    require(rows % sets == 0, "the weights do not fit the scores")
    fits = rows // sets % (w_bases * groups) == 0 and c_in % groups == 0
    require(fits, "the weights do not fit the groups or the bases")
    require(w_bits <= MOST_WEIGHT_BITS, f"weights have at most {MOST_WEIGHT_BITS} bits")
    expected = planes_shape(rows, c_in // groups, fields["kernel"])
    require(operation.constants["planes"].shape[1:] == expected, "the weights do not fit the map's channels")
    require(len(operation.constants["scale"]) == rows, f"scale is not of {rows} channels")
    require(len(operation.constants["a_scale"]) == bases, f"a_scale is not of {bases} bases")
    return _slid(operation, (c_in, height, width), rows // (w_bases * sets), fields["kernel"])


def _linear(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    (c_in,) = _a_map(shapes["x"], 1)
    weight = operation.constants["weight"]
    require(weight.shape[1] == c_in, "the weights do not fit the vector")
    if "bias" in operation.constants:
        require(len(operation.constants["bias"]) == len(weight), "the bias does not fit the weights")
    return (len(weight),)


def _elementwise(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    a, b = shapes["a"], shapes["b"]
    require(len(a) == len(b), "the inputs differ in their dimensions")
    require(all(x == y or 1 in (x, y) for x, y in zip(a, b, strict=True)), "the inputs differ in their sizes")
    return tuple(max(x, y) for x, y in zip(a, b, strict=True))


def _concat(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    first, *others = (shapes[f"x{i}"] for i in range(len(shapes)))
    require(len(first) in (1, 3), "an input is no map and no vector")
    require(all(other[1:] == first[1:] for other in others), "the inputs differ in their sizes")
    return (sum(shape[0] for shape in shapes.values()), *first[1:])


def _stack(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    first, *others = shapes.values()
    require(all(other == first for other in others), "the inputs differ in their sizes")
    return (len(shapes), *_a_map(first))


def _slice(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    fields: Any = operation.fields
    shape, axis = list(shapes["x"]), fields["axis"]
    require(len(shape) in (1, 3), "the input is no map and no vector")
    require(axis < len(shape), "there is no such axis")
    shape[axis] = len(range(fields["start"], min(fields["stop"], shape[axis]), fields["step"]))
    require(shape[axis] >= 1, "nothing is left of the map")
    return tuple(shape)


def _pad(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    before: Any = operation.fields["before"]
    behind: Any = operation.fields["behind"]
    return tuple(b + size + a for b, size, a in zip(before, _a_map(shapes["x"]), behind, strict=True))


def _replicate(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    sides: Any = operation.fields["padding"]
    channels, height, width = _a_map(shapes["x"])
    return channels, sides[0] + height + sides[2], sides[1] + width + sides[3]


def _reshape(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    wanted: Any = operation.fields["shape"]
    require(len(shapes["x"]) in (1, 3), "the input is no map and no vector")
    size, known = math.prod(shapes["x"]), math.prod(n for n in wanted if n)
    require(wanted.count(0) <= 1 and len(wanted) in (1, 3), "the shape is none of a map or a vector")
    require(size % known == 0 and (0 in wanted or size == known), "the shape does not fit the value")
    return tuple(n or size // known for n in wanted)


def _permute(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    shape, axes = _a_map(shapes["x"]), operation.fields["axes"]
    require(sorted(axes) == [0, 1, 2], "an axis is given twice")  # type: ignore[arg-type]
    return tuple(shape[axis] for axis in axes)  # type: ignore[union-attr,index]


def _shift_quarters(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    shape = _a_map(shapes["x"])
    require(shape[0] % 4 == 0, "the channels are not divisible by 4")
    return shape


def _pool(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    fields: Any = operation.fields
    shape = _a_map(shapes["x"])
    sizes = [pooled(size, operation, axis) for axis, size in enumerate(shape[1:])]
    require(all(size >= 1 for size in sizes), "the window is larger than the map")
    require(all(2 * p <= k for p, k in zip(fields["padding"], fields["kernel"], strict=True)), "too much padding")
    return (shape[0], *sizes)


def pooled(size: int, operation: Operation, axis: int) -> int:
    """Output size of a pooling along one axis, as torch counts it."""
    fields: Any = operation.fields
    kernel, stride, padding = (fields[key][axis] for key in ("kernel", "stride", "padding"))
    spare = stride - 1 if fields["ceil"] else 0
    out = (size + 2 * padding - kernel + spare) // stride + 1
    if fields["ceil"] and (out - 1) * stride >= size + padding:  # a window may not begin in the padding behind
        out -= 1
    return int(out)


def _mean(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    axes: Any = operation.fields["axes"]
    shape = _a_map(shapes["x"])
    require(0 < len(axes) == len(set(axes)), "an axis is given twice, or none")
    return tuple(1 if axis in axes else size for axis, size in enumerate(shape))


def _context(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    shape = _a_map(shapes["x"])
    first, second = operation.constants["first"], operation.constants["second"]
    require(first.shape[1] == shape[0] and second.shape[1] == len(first), "the weights do not fit the map's channels")
    return (len(second), 1, 1)


def _binarize(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    shape = shapes["x"]
    require(len(shape) in (1, 3), "an input is no map and no vector")
    _per_channel(operation, shape)
    require(("threshold" in operation.constants) != ("threshold" in shapes), "there is one threshold")
    if "threshold" in shapes:
        require(shapes["threshold"] in ((shape[0], 1, 1), (1, 1, 1)), "the threshold does not fit the map")
    return shape


def _levels(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    bases = len(operation.constants["basis"]) if "basis" in operation.constants else 1
    require(bases <= 8, "a basis has at most 8 numbers")
    return (bases, *_a_map(shapes["x"]))


def _binary_attention(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    query, key, value = (_a_map(shapes[name]) for name in ("query", "key", "value"))
    heads: Any = operation.fields["heads"]
    divisor: Any = operation.fields["divisor"]
    require(key == value and key[0] == query[0], "the inputs differ in their sizes")
    require(query[0] % heads == 0, "the heads do not fit the channels")
    require(divisor > 0, "the divisor is not above 0")
    require(len(operation.constants["level"]) == 1, "there is one level")
    for name in ("query", "key", "value"):
        threshold = operation.constants[f"{name}_threshold"]
        require(len(threshold) == query[0], f"{name}_threshold is not of {query[0]} channels")
    return query


def _add_map(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    require(operation.constants["map"].shape == _a_map(shapes["x"]), "the map that is added is of another size")
    return shapes["x"]


def _upsample(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    channels, *sizes = _a_map(shapes["x"])
    factors: Any = operation.fields["factor"]
    return (channels, *(size * factor for size, factor in zip(sizes, factors, strict=True)))


def _binary_unit(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    fields: Any = operation.fields
    shape = _a_map(shapes["x"])
    constants, branches, sets = operation.constants, len(fields["samplings"]), experts(shapes)
    require(branches == 1 or sets == 1, "sampled branches have no scores")
    c_in, rows = shape[0], len(constants["planes"])
    c_out = rows // (branches * sets)
    require(rows % sets == 0, "the weights do not fit the scores")
    require(c_in % fields["groups"] == 0 and c_out % fields["groups"] == 0, "the groups do not fit the channels")
    expected = planes_shape(c_out * branches * sets, c_in // fields["groups"], fields["kernel"])
    require(constants["planes"].shape == expected, "the weights do not fit the map's channels")
    require(branches == 1 or fields["kernel"] == (1, 1), "sampled branches have 1×1 kernels")
    require(set(fields["samplings"]) == {"none"} or c_in % 4 == 0, "the channels are not divisible by 4")
    require(len(constants["scale"]) == rows, "scale does not fit the weights")
    for name in ("alpha", "beta", "shift_in", "slope", "shift_out", "inner_slope"):
        if name in constants:
            require(len(constants[name]) == c_out, f"{name} is not of {c_out} channels")
    require(("threshold" in constants) != ("threshold" in shapes), "there is one threshold")
    if "threshold" in constants:
        require(len(constants["threshold"]) == c_in, f"threshold is not of {c_in} channels")
    for name, channels in (("threshold", c_in), ("gate", c_out), ("offset", c_out)):
        if name in shapes:
            require(shapes[name] in ((channels, 1, 1), (1, 1, 1)), f"{name} does not fit the map")
    out = _slid(operation, shape, c_out, fields["kernel"])
    return _with_shortcut(operation, shapes, out)


def _with_shortcut(operation: Operation, shapes: Mapping[str, Shape], out: Shape) -> Shape:
    shape, shortcut = shapes["x"], operation.fields["shortcut"]
    require((shortcut == "given") == ("shortcut" in shapes), "a shortcut is given, or it is not")
    if operation.fields["append"]:
        require(shortcut == "none" and out[1:] == shape[1:], "what is appended does not fit the map")
        return (shape[0] + out[0], *out[1:])
    added = {
        "none": out,
        "same": (min(shape[0], out[0]), *shape[1:]),
        "average-pool": (shape[0], *(-(-size // 2) for size in shape[1:])),
        "duplicate": (2 * shape[0], *shape[1:]),
        "given": shapes.get("shortcut", ()),
    }[str(shortcut)]
    require(added == out, "the shortcut does not fit the output")
    return (shape[0], *out[1:]) if shortcut == "same" else out  # the last channels of a wider map are added to


_CONV_CONSTANTS = {"planes": 3, "scale": 1}
_ACTIVATION = {"shift_in?": 1, "slope?": 1, "shift_out?": 1}

KINDS: dict[str, Kind] = {
    # real-valued
    "conv": Kind(("x",), GEOMETRY | {"relu": _FLAG}, {"weight": 4, "bias?": 1, "alpha?": 1, "beta?": 1}, _conv),
    "linear": Kind(("x",), {}, {"weight": 2, "bias?": 1}, _linear),
    "scale_shift": Kind(("x",), {}, {"alpha": 1, "beta": 1}, _unchanged),
    "prelu": Kind(("x",), {}, {"slope": 1, "positive?": 1, "shift_in?": 1, "shift_out?": 1}, _unchanged),
    "clip": Kind(("x",), {"low": Real(), "high": Real()}, {}, _unchanged),
    "function": Kind(("x",), {"name": Word(("abs", "sigmoid", "sign", "tanh"))}, {}, _unchanged),
    "add": Kind(("a", "b"), {}, {}, _elementwise),
    "subtract": Kind(("a", "b"), {}, {}, _elementwise),
    "multiply": Kind(("a", "b"), {}, {}, _elementwise),
    "pool": Kind(
        ("x",),
        {
            "name": Word(("max", "average")),
            "kernel": _PAIR,
            "stride": _PAIR,
            "padding": Whole(0, 4096, count=2),
            "ceil": _FLAG,
            "count_padding": _FLAG,
        },
        {},
        _pool,
    ),
    "mean": Kind(("x",), {"axes": Whole(0, 2, count=-1), "double": _FLAG}, {}, _mean),
    "context": Kind(
        ("x",),
        {"hidden": Word(("none", "relu")), "output": Word(("none", "sigmoid"))},
        {"first": 2, "second": 2},
        _context,
    ),
    "add_map": Kind(("x",), {}, {"map": 3}, _add_map),
    # arrangement
    "concat": Kind(("*",), {}, {}, _concat),
    "slice": Kind(("x",), {"axis": Whole(0, 2), "start": Whole(), "stop": Whole(1), "step": Whole(1)}, {}, _slice),
    "pad": Kind(
        ("x",), {"before": Whole(0, 4096, count=3), "behind": Whole(0, 4096, count=3), "value": Real()}, {}, _pad
    ),
    "replicate": Kind(("x",), {"padding": Whole(0, 4096, count=4)}, {}, _replicate),  # top, left, bottom, right
    "reshape": Kind(("x",), {"shape": Whole(count=-1)}, {}, _reshape),  # 0: whatever is left
    "permute": Kind(("x",), {"axes": Whole(0, 2, count=3)}, {}, _permute),
    "shift_quarters": Kind(("x",), {"sampling": Word(SAMPLINGS[1:])}, {}, _shift_quarters),
    "upsample": Kind(("x",), {"factor": _PAIR}, {}, _upsample),
    "fill": Kind(("x",), {"value": Real()}, {}, _unchanged),  # for one image, which stands for all
    # of few bits
    "binarize": Kind(("x", "threshold?"), {}, {"threshold?": 1, "falls?": 1}, _binarize),
    "quantize": Kind(
        ("x",),
        {"low": Real(), "high": Real(), "step": Real(), "divide": _FLAG, "offset": Whole(), "bits": Whole(1, 16)},
        {},
        _levels,
    ),
    "encode": Kind(("x",), {}, {"basis": 1}, _levels),
    "stack": Kind(("*",), {}, {}, _stack),
    "low_bit_conv": Kind(
        ("x", "scores?"),
        GEOMETRY | {"kernel": _PAIR, "w_bases": Whole(1, 64), "a_bits": Whole(1, 16)},
        {"planes": 4, "scale": 1, "a_scale": 1},
        _low_bit_conv,
    ),
    "binary_attention": Kind(
        ("query", "key", "value"),
        {"heads": Whole(1), "divisor": Real()},
        {"query_threshold": 1, "key_threshold": 1, "value_threshold": 1, "level": 1},
        _binary_attention,
    ),
    # fused: binarize, binary convolutions, gate and offset, PReLU, scale and shift, shortcut, activation, clip
    "binary_unit": Kind(
        ("x", "scores?", "shortcut?", "threshold?", "gate?", "offset?"),
        GEOMETRY
        | {
            "kernel": _PAIR,
            "samplings": Word(SAMPLINGS, several=True),
            "shortcut": Word(SHORTCUTS),
            "activation_first": _FLAG,
            "append": _FLAG,
            "limit": Real(),
        },
        _CONV_CONSTANTS | {"threshold?": 1, "alpha?": 1, "beta?": 1, "inner_slope?": 1} | _ACTIVATION,
        _binary_unit,
    ),
}
"""Every kind of operation, by its name."""


def check_operation(operation: Operation, shapes: Mapping[str, Shape]) -> Shape:
    """Check an operation against its kind.

    Args:
        operation: Operation.
        shapes: Shapes of its inputs.

    Returns:
        The shape of what it gives.

    Raises:
        PlanError: It is no such operation, or does not fit its inputs.
    """
    kind = KINDS.get(operation.kind)
    require(kind is not None, "there is no such kind of operation")
    assert kind is not None
    _check_inputs(kind, operation)
    require(operation.fields.keys() == kind.fields.keys(), "its fields are not those of its kind")
    for name, field_ in kind.fields.items():
        require(field_.check(operation.fields[name]), f"{name} is out of range")
    _check_constants(kind, operation)
    shape = kind.shape(operation, shapes)
    require(all(1 <= size <= LARGEST_SIZE for size in shape), "a value is empty or too large")
    return shape


def _check_inputs(kind: Kind, operation: Operation) -> None:
    given = operation.inputs.keys()
    if kind.inputs == ("*",):
        require(0 < len(given) <= 64 and list(given) == [f"x{i}" for i in range(len(given))], "its inputs are wrong")
        return
    needed = {name for name in kind.inputs if not name.endswith("?")}
    require(needed <= given <= {name.rstrip("?") for name in kind.inputs}, "its inputs are not those of its kind")


def _check_constants(kind: Kind, operation: Operation) -> None:
    given = operation.constants
    needed = {name for name in kind.constants if not name.endswith("?")}
    ranks = {name.rstrip("?"): rank for name, rank in kind.constants.items()}
    require(needed <= given.keys() <= ranks.keys(), "its constants are not those of its kind")
    for name, array in given.items():
        dtype = np.uint64 if name == "planes" else np.float32
        require(array.ndim == ranks[name] and array.dtype == dtype, f"{name} is of a wrong type or rank")
        require(array.size > 0, f"{name} is empty")
        require(name == "planes" or not np.isnan(array).any(), f"{name} has values that are not numbers")
