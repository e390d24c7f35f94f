"""Random plans, small and odd: operations of every kind on earlier values, with what numpy says that they give.

Where possible, numbers are multiples of a power of two, so that sums of real numbers are exact in any order. What is
not exact (functions, and sums of anything else) is kept away from comparisons.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from bcdzoo.plan.operations import (
    SAMPLINGS,
    Array,
    Operation,
    PlanError,
    Shape,
    check_operation,
    packed_bits,
    planes_shape,
)
from bcdzoo.plan.plan import Plan
from bcdzoo.plan.reference import RUN

IMAGES = 5
_CHANNELS = (1, 2, 3, 8, 16, 17, 32, 33, 40, 48, 64, 65, 128)
_MOST_CHANNELS = 400  # of what a window slides over
_MOST_NUMBERS = 300_000  # of a value of one image
_MOST_PRODUCTS = 3e7
_EXACT = 1 << 24


class Value(NamedTuple):
    """A value of the plan.

    Attributes:
        array: What it is for all images.
        exact: Whether every implementation gives the same bits.
        a_bits: Bits of its levels; 0 if it is none of small integers.
    """

    array: Array
    exact: bool = True
    a_bits: int = 0

    @property
    def shape(self) -> Shape:
        """Shape for an image."""
        return (self.array.shape[0], *self.array.shape[2:]) if self.array.ndim == 5 else self.array.shape[1:]


class Example(NamedTuple):
    """A plan with what it gives.

    Attributes:
        plan: Plan.
        images: Images.
        expected: What the plan gives for them.
        exact: Whether every implementation gives the same bits.
    """

    plan: Plan
    images: Array
    expected: Array
    exact: bool


def random_plan(seed: int, large: bool = False) -> Example:
    """A plan by its number; ``large``: of maps so large that they are computed band by band."""
    return _Draft(np.random.default_rng(seed), large).example()


def difference(got: Array, expected: Array, exact: bool) -> str:
    """Where something differs from what it should be, more than it may; "" if nowhere."""
    got, expected = got.reshape(-1), expected.reshape(-1)
    allowed = 0.0 if exact else 2e-5 * float(np.abs(expected).max())
    wrong = np.flatnonzero(~(np.abs(got - expected) <= allowed))
    return f"{len(wrong)} of {got.size} numbers differ, from number {wrong[0]} on" if len(wrong) else ""


def _grid(x: Array) -> int | None:
    """How many bits behind the point numbers have; None if these are many."""
    for bits in range(12):
        scaled = x * np.float32(2**bits)
        if np.array_equal(scaled, np.rint(scaled)):
            return bits
    return None


def _is_pixel_of(channels: int) -> Callable[[Value], bool]:
    return lambda value: value.shape in ((channels, 1, 1), (1, 1, 1))


class _Draft:
    def __init__(self, dice: np.random.Generator, large: bool) -> None:
        self.dice, self.large = dice, large
        channels = self.one(*_CHANNELS)
        sides = (int(self.dice.integers(36, 75)), int(self.dice.integers(30, 60))) if large else self.sides()
        self.images = self.dyadic(IMAGES, channels, *sides)
        self.values = [Value(self.images)]
        self.operations: list[Operation] = []

    def example(self) -> Example:
        makers = [getattr(self, name) for name in dir(self) if name.startswith("make_")]
        for _ in range(self.one(0, 0, 0, 2)):
            self.try_to_add(self.make_scores)
        if self.chance(0.3):  # a trunk of units, whose maps grow and are added to; only the last one may give floats
            for _ in range(self.one(2, 3, 4, 6)):
                self.try_to_add(self.trunk_unit)
        often = {"make_unit": 6.0, "make_low_bit_conv": 6.0, "make_binarize": 3.0, "make_stack": 3.0}
        often |= {"make_arrangement": 2.5, "make_scores": 2.0}
        weights = np.array([often.get(maker.__name__, 1.0) for maker in makers])
        wanted = int(self.dice.integers(1, 14)) if not self.operations or self.chance(0.7) else 0
        for _ in range(20 * wanted):
            if len(self.operations) < wanted:
                self.try_to_add(makers[self.dice.choice(len(makers), p=weights / weights.sum())])
        if not self.operations or self.chance(0.4):
            self.try_to_add(self.make_concat_of_many)
        if not self.operations:
            self.try_to_add(self.make_clip)
        if self.chance(0.2):  # a classifier
            self.try_to_add(self.vector)
            self.try_to_add(self.make_linear)
        last = self.values[-1]
        expected = last.array.swapaxes(0, 1) if last.array.ndim == 5 else last.array
        expected = np.repeat(expected, IMAGES // len(expected), axis=0)
        return Example(Plan(self.images.shape[1:], tuple(self.operations)), self.images, expected, last.exact)

    def try_to_add(self, make: Callable[[], tuple[Operation, bool, int] | None]) -> None:
        """Add an operation, if it can be one and is not too large."""
        made = make()
        if made is None:
            return
        operation, exact, a_bits = made
        inputs = {role: self.values[number] for role, number in operation.inputs.items()}
        try:
            shape = check_operation(operation, {role: value.shape for role, value in inputs.items()})
        except PlanError:
            return
        pixels = int(np.prod(shape[-2:])) if len(shape) > 1 else 1
        weights = sum(each.size * (64 if each.dtype == np.uint64 else 1) for each in operation.constants.values())
        if np.prod(shape) > _MOST_NUMBERS or weights * pixels > _MOST_PRODUCTS:
            return
        if operation.kind == "binary_attention" and np.prod(inputs["key"].shape) * pixels > _MOST_PRODUCTS / 10:
            return
        with np.errstate(all="ignore"):
            array = RUN[operation.kind](operation, **{role: value.array for role, value in inputs.items()})
        if not np.isfinite(array).all() or np.abs(array).max() > 1e6:
            return
        self.operations.append(operation)
        self.values.append(Value(array, exact and all(value.exact for value in inputs.values()), a_bits))

    # Dice

    def chance(self, share: float) -> bool:
        return bool(self.dice.random() < share)

    def one(self, *options: Any) -> Any:
        return options[self.dice.integers(len(options))]

    def sides(self) -> tuple[int, int]:
        return self.one(1, 2, 3, 5, 7, 8, 12, 15), self.one(1, 2, 3, 4, 6, 9, 11, 14)

    def dyadic(self, *shape: int) -> Array:
        numbers: Array = self.dice.integers(-8, 9, shape) / self.one(1, 2, 4)
        return numbers.astype(np.float32)

    def numbers(self, count: int) -> Array:
        """Constants, of which half the time anything becomes of the values."""
        return self.dice.normal(size=count).astype(np.float32) if self.chance(0.4) else self.dyadic(count) / 2

    def some(self, count: int, **names: float) -> dict[str, Array]:
        return {name: self.numbers(count) for name, share in names.items() if self.chance(share)}

    def pick(
        self, *ranks: int, exact: bool = False, most: int = 1 << 24, fits: Callable[[Value], bool] = lambda _: True
    ) -> int | None:
        """A value of some ranks and at most so many channels: often the latest one."""
        known = [
            number
            for number, value in enumerate(self.values)
            if len(value.shape) in ranks and (value.exact or not exact) and value.shape[-3:][0] <= most and fits(value)
        ]
        if not known:
            return None
        return known[-1] if self.chance(0.55) else int(self.dice.choice(known))

    def sums(self, x: Value, weight: Array) -> bool:
        """Whether sums of products are exact in any order."""
        here, there = _grid(x.array), _grid(weight)
        if here is None or there is None:
            return False
        rows = np.abs(weight.reshape(len(weight), -1)).sum(1).max()
        return bool(rows * (np.abs(x.array).max() + 1) * 2.0 ** (here + there + 3) < _EXACT)

    def geometry(self, keeps_size: bool = False, halves: bool = False) -> tuple[dict[str, Any], tuple[int, int]]:
        """A window, and its taps."""
        fields: dict[str, Any] = {"stride": (1, 1), "same": 0, "dilation": (1, 1), "groups": 1}
        fields["pad_value"] = float(self.one(0.0, 1.0, -1.0))
        kernel = self.one((1, 1), (3, 3), (3, 3), (1, 3), (5, 3), (7, 7))
        if self.chance(0.2):
            fields["dilation"] = self.one((2, 2), (1, 3), (2, 1))
        around = tuple((k // 2) * d for k, d in zip(kernel, fields["dilation"], strict=True))
        fields["padding"] = (*around, *around)
        if keeps_size or halves:
            fields["stride"] = (2, 2) if halves else (1, 1)
            return fields, kernel
        fields["stride"] = self.one((1, 1), (1, 1), (2, 2), (1, 2), (3, 1))
        if self.chance(0.3):
            fields["padding"] = tuple(map(int, self.dice.integers(0, 4, 4)))
        kernel = self.one((2, 2), (4, 1)) if self.chance(0.1) else kernel
        fields["same"] = int(self.chance(0.15))
        return fields, kernel

    def fitting(self, c_out: int, c_in: int) -> tuple[int, int]:
        """Channels of the output, more often such that a panel of weights belongs to a group; and the groups."""
        if self.chance(0.15) and (several := [by for by in (2, 3, 4) if c_in % by == 0]):
            groups = self.one(*several)
            return 32 * groups * self.one(1, 1, 2), groups
        return c_out, self.groups(c_in, c_out)

    def groups(self, *channels: int) -> int:
        fitting = [by for by in (2, 3, 4, 8, 16, 17, 32, 64, *channels) if all(count % by == 0 for count in channels)]
        return int(self.one(*fitting)) if fitting and self.chance(0.3) else 1

    # Operations; each gives itself, whether it is exact, and the bits of its levels

    def make_conv(self) -> tuple[Operation, bool, int] | None:
        number = self.pick(3, most=_MOST_CHANNELS)
        if number is None:
            return None
        x, c_out = self.values[number], self.one(*_CHANNELS)
        fields, kernel = self.geometry()
        c_in = x.shape[0]
        c_out = c_in * self.one(1, 2) if self.chance(0.3) else c_out
        groups = c_in if self.chance(0.2) and c_out % c_in == 0 else self.groups(c_in, c_out)
        fields |= {"groups": groups, "relu": int(self.chance(0.3)), "pad_value": self.one(0.0, 0.0, -1.0, 0.5)}
        weight = (self.dice.integers(-2, 3, (c_out, c_in // groups, *kernel)) / self.one(1, 2)).astype(np.float32)
        constants = {"weight": weight} | ({"bias": self.dyadic(c_out)} if self.chance(0.4) else {})
        if self.chance(0.4):
            constants |= {"alpha": self.numbers(c_out), "beta": self.numbers(c_out)}
        return Operation("conv", {"x": number}, fields, constants), self.sums(x, weight), 0

    def make_linear(self) -> tuple[Operation, bool, int] | None:
        number = self.pick(1, most=_MOST_CHANNELS)
        if number is None:
            return None
        x, c_out = self.values[number], self.one(*_CHANNELS)
        weight = self.dice.integers(-2, 3, (c_out, x.shape[0])).astype(np.float32)
        bias = {"bias": self.dyadic(c_out)} if self.chance(0.5) else {}
        return Operation("linear", {"x": number}, {}, {"weight": weight} | bias), self.sums(x, weight), 0

    def make_pointwise(self) -> tuple[Operation, bool, int] | None:
        number = self.pick(1, 3)
        if number is None:
            return None
        count = self.one(1, self.values[number].shape[0])
        if self.chance(0.5):
            constants = {"alpha": self.numbers(count), "beta": self.numbers(count)}
            return Operation("scale_shift", {"x": number}, {}, constants), True, 0
        constants = self.some(count, slope=1, positive=0.3, shift_in=0.5, shift_out=0.5)
        return Operation("prelu", {"x": number}, {}, constants), True, 0

    def make_clip(self) -> tuple[Operation, bool, int] | None:
        number = self.pick(1, 3)
        fields = {"low": self.one(-np.inf, -1.0, 0.0), "high": self.one(np.inf, 1.0, 2.5)}
        return None if number is None else (Operation("clip", {"x": number}, fields), True, 0)

    def make_function(self) -> tuple[Operation, bool, int] | None:
        name = self.one("abs", "sign", "sigmoid", "tanh")
        number = self.pick(1, 3, exact=name == "sign")
        if number is None:
            return None
        return Operation("function", {"x": number}, {"name": name}), name in ("abs", "sign"), 0

    def make_elementwise(self) -> tuple[Operation, bool, int] | None:
        a = self.pick(1, 3, 4)
        if a is None:
            return None
        shape = self.values[a].shape

        def fits(other: Value) -> bool:
            pairs = zip(other.shape, shape, strict=False)
            return len(other.shape) == len(shape) and all(x == y or 1 in (x, y) for x, y in pairs)

        b = self.pick(len(shape), fits=fits)
        assert b is not None
        a, b = (a, b) if self.chance(0.5) else (b, a)
        return Operation(self.one("add", "subtract", "multiply"), {"a": a, "b": b}), True, 0

    def make_pool(self) -> tuple[Operation, bool, int] | None:
        number = self.pick(3)
        fields: dict[str, Any] = {
            "name": self.one("max", "average"),
            "kernel": self.one((2, 2), (3, 3), (3, 2), (1, 1)),
        }
        fields |= {"stride": self.one((2, 2), (1, 1), (2, 1), (3, 3)), "padding": self.one((0, 0), (1, 1), (1, 0))}
        fields |= {"ceil": int(self.chance(0.5)), "count_padding": int(self.chance(0.5))}
        if number is None:
            return None
        return Operation("pool", {"x": number}, fields), True, self.values[number].a_bits * (fields["name"] == "max")

    def make_mean(self) -> tuple[Operation, bool, int] | None:
        number = self.pick(3)
        if number is None:
            return None
        axes = (1, 2) if self.chance(0.7) else self.one((0,), (2, 1), (1,), (0, 1, 2))
        exact = _grid(self.values[number].array) is not None
        return Operation("mean", {"x": number}, {"axes": axes, "double": int(self.chance(0.5))}), exact, 0

    def make_context(self) -> tuple[Operation, bool, int] | None:
        number = self.pick(3, most=_MOST_CHANNELS)
        if number is None:
            return None
        x, hidden = self.values[number], self.one(1, 3, 8)
        outputs = self.one(1, x.shape[0], *_CHANNELS)
        constants = {"first": self.dyadic(hidden, x.shape[0]), "second": self.dyadic(outputs, hidden) / 16}
        fields = {"hidden": self.one("none", "relu"), "output": self.one("none", "none", "sigmoid")}
        pixels = x.shape[1] * x.shape[2]
        exact = fields["output"] == "none" and _grid(x.array) is not None and pixels & (pixels - 1) == 0
        return Operation("context", {"x": number}, fields, constants), exact, 0

    def make_concat_of_many(self) -> tuple[Operation, bool, int] | None:
        number = self.pick(1, 3)
        if number is None:
            return None
        shape = self.values[number].shape
        others = [
            i for i, value in enumerate(self.values) if len(value.shape) == len(shape) and value.shape[1:] == shape[1:]
        ]
        chosen = self.dice.permutation(others)[: self.one(1, 2, 3, 8)]
        return Operation("concat", {f"x{i}": int(value) for i, value in enumerate(chosen)}), True, 0

    def make_slice(self) -> tuple[Operation, bool, int] | None:
        number = self.pick(1, 3)
        if number is None:
            return None
        shape = self.values[number].shape
        axis = 0 if self.chance(0.7) else int(self.dice.integers(len(shape)))
        start = int(self.dice.integers(shape[axis]))
        stop = int(self.dice.integers(start + 1, shape[axis] + 2))
        fields = {"axis": axis, "start": start, "stop": stop, "step": self.one(1, 1, 1, 2)}
        return Operation("slice", {"x": number}, fields), True, self.values[number].a_bits

    def make_arrangement(self) -> tuple[Operation, bool, int] | None:
        number = self.pick(3)
        if number is None:
            return None
        kind = self.one("pad", "replicate", "permute", "shift_quarters", "fill", "upsample")
        numbers = tuple(map(int, self.dice.integers(0, 3, 6)))
        fields: dict[str, Any] = {
            "pad": {"before": numbers[:3], "behind": numbers[3:], "value": self.one(0.0, -1.0)},
            "replicate": {"padding": numbers[:4]},
            "permute": {"axes": tuple(map(int, self.dice.permutation(3)))},
            "shift_quarters": {"sampling": self.one(*SAMPLINGS[1:])},
            "fill": {"value": self.one(0.0, 2.0)},
            "upsample": {"factor": self.one((1, 2), (2, 2), (3, 1))},
        }
        return Operation(kind, {"x": number}, fields[kind]), True, 0

    def make_reshape(self) -> tuple[Operation, bool, int] | None:
        number = self.pick(1, 3)
        if number is None:
            return None
        size = int(np.prod(self.values[number].shape))
        shape = self.one((0,), (0, 1, 1), (1, 0, 1), (size, 1, 1), (0, 2, 2))
        return Operation("reshape", {"x": number}, {"shape": shape}), True, 0

    def vector(self) -> tuple[Operation, bool, int] | None:
        number = self.pick(1, 3)
        return None if number is None else (Operation("reshape", {"x": number}, {"shape": (0,)}), True, 0)

    def make_binarize(self) -> tuple[Operation, bool, int] | None:
        number = self.pick(1, 3, exact=True)
        if number is None:
            return None
        x = self.values[number]
        limits = self.pick(3, exact=True, fits=lambda value: value.shape in ((x.shape[0], 1, 1), (1, 1, 1)))
        count = self.one(1, x.shape[0])
        falls = {"falls": self.dice.integers(0, 2, count).astype(np.float32)} if self.chance(0.4) else {}
        if limits is not None and len(x.shape) == 3 and self.chance(0.5):
            return Operation("binarize", {"x": number, "threshold": limits}, {}, falls), True, 1
        return Operation("binarize", {"x": number}, {}, {"threshold": self.thresholds(x, count)} | falls), True, 1

    def thresholds(self, x: Value, count: int) -> Array:
        """Numbers that are among the values."""
        return self.dice.choice(x.array.reshape(-1), count).astype(np.float32)

    def make_quantize(self) -> tuple[Operation, bool, int] | None:
        number = self.pick(3, exact=True)
        if number is None:
            return None
        bits = self.one(1, 2, 3, 4)
        top = 2**bits - 1
        fields: dict[str, Any] = {"low": 0.0, "high": float(top), "step": 1.0, "offset": 0}
        if self.chance(0.5):
            fields |= {"high": 1.0, "step": float(top)}
        if self.chance(0.3) and bits > 1:
            fields |= {"low": -1.0, "high": 1.0, "step": (top - 1) / 2, "offset": (top - 1) // 2 + 1}
        fields |= {"divide": int(fields["step"] == 1.0), "bits": bits}
        return Operation("quantize", {"x": number}, fields), True, max(bits, 2)

    def make_encode(self) -> tuple[Operation, bool, int] | None:
        number = self.pick(3, exact=True)
        basis = np.abs(self.dyadic(self.one(1, 2, 3))) + np.float32(0.25)
        return None if number is None else (Operation("encode", {"x": number}, {}, {"basis": basis}), True, 2)

    def make_add_map(self) -> tuple[Operation, bool, int] | None:
        number = self.pick(3)
        if number is None:
            return None
        return Operation("add_map", {"x": number}, {}, {"map": self.dyadic(*self.values[number].shape)}), True, 0

    def make_attention(self) -> tuple[Operation, bool, int] | None:
        """Heads of whole dwords where that can be; a query's own map, or another one, has keys and values."""
        number = self.pick(3, exact=True, most=_MOST_CHANNELS)
        if number is None:
            return None
        channels = self.values[number].shape[0]
        key = self.pick(3, exact=True, fits=lambda value: value.shape[0] == channels)
        assert key is not None
        value = self.pick(3, exact=True, fits=lambda value: value.shape == self.values[key].shape)
        assert value is not None
        heads = self.one(*(by for by in (1, 2, 3, 4) if channels % by == 0))
        inputs = {"query": number, "key": key, "value": value}
        constants = {f"{role}_threshold": self.thresholds(self.values[each], channels) for role, each in inputs.items()}
        constants["level"] = np.array([self.one(0.01, 0.2, 0.75, 1.0, -0.5)], np.float32)
        fields = {"heads": heads, "divisor": float(self.one(0.5, 1.0, 8.0, 11.0))}
        return Operation("binary_attention", inputs, fields, constants), True, 0

    def make_stack(self) -> tuple[Operation, bool, int] | None:
        number = self.pick(3, fits=lambda value: value.a_bits == 1)
        if number is None:
            return None
        shape = self.values[number].shape
        others = [i for i, value in enumerate(self.values) if value.shape == shape and value.a_bits == 1]
        chosen = [int(self.dice.choice(others)) for _ in range(self.one(1, 2, 3))]
        return Operation("stack", {f"x{i}": value for i, value in enumerate(chosen)}), True, 1

    def make_low_bit_conv(self) -> tuple[Operation, bool, int] | None:
        number = self.pick(3, 4, exact=True, most=_MOST_CHANNELS, fits=lambda value: value.a_bits > 0)
        if number is None:
            return None
        x = self.values[number]
        bases, c_in = x.shape[0] if len(x.shape) == 4 else 1, x.shape[-3]
        fields, kernel = self.geometry()
        c_out, w_bits, w_bases = self.one(*_CHANNELS), self.one(1, 1, 2, 3), self.one(1, 1, 2)
        c_out, groups = self.fitting(c_out, c_in)
        fields |= {"kernel": kernel, "groups": groups, "w_bases": w_bases, "a_bits": x.a_bits}
        fields["pad_value"] = fields["pad_value"] if x.a_bits == 1 or self.chance(0.2) else 0.0
        inputs, experts = self.scores({"x": number})
        rows = c_out * w_bases * experts
        planes = np.stack([self.weights(rows, c_in // groups, kernel) for _ in range(w_bits)])
        constants = {"planes": planes, "scale": self.numbers(rows), "a_scale": self.numbers(bases)}
        return Operation("low_bit_conv", inputs, fields, constants), True, 0

    def scores(self, inputs: dict[str, int]) -> tuple[dict[str, int], int]:
        """The inputs with scores, now and then, by which an image chooses its weights; and their number."""
        found = self.pick(1, 3, exact=True, fits=lambda value: value.shape in ((2,), (3,), (3, 1, 1), (5, 1, 1)))
        if found is None or self.chance(0.2):
            return inputs, 1
        return inputs | {"scores": found}, self.values[found].shape[0]

    def make_scores(self) -> tuple[Operation, bool, int] | None:
        """A few numbers of each image, for :meth:`scores`; they are not the same in every image."""
        number = self.pick(3, exact=True)
        if number is None:
            return None
        channels = self.values[number].shape[0]
        if self.values[number].shape[1:] == (1, 1) and channels > 4:
            count = self.one(3, 5) if channels > 5 else 3
            start = int(self.dice.integers(channels - count + 1))
            fields = {"axis": 0, "start": start, "stop": start + count, "step": 1}
            return Operation("slice", {"x": number}, fields), True, 0
        top: dict[str, Any] = {
            "name": "max",
            "kernel": self.values[number].shape[1:],
            "stride": (1, 1),
            "padding": (0, 0),
        }
        return Operation("pool", {"x": number}, top | {"ceil": 0, "count_padding": 0}), True, 0

    def weights(self, rows: int, c_in: int, kernel: tuple[int, int]) -> Array:
        """Bits, of which those beyond the channels are anything, half the time."""
        if self.chance(0.5):
            return packed_bits(self.dice.integers(0, 2, (rows, c_in, *kernel)))
        return self.dice.integers(0, 1 << 63, planes_shape(rows, c_in, kernel), np.uint64)

    def trunk_unit(self) -> tuple[Operation, bool, int] | None:
        """A unit on the latest map that appends to it, adds to its last channels or stands alone."""
        number = len(self.values) - 1
        x = self.values[number]
        c_in = x.shape[0] if len(x.shape) == 3 else _MOST_CHANNELS
        if c_in >= _MOST_CHANNELS or not x.exact:
            return None
        append, shortcut = self.one((1, "none"), (0, "same"), (0, "same"), (0, "none"))
        counts = [count for count in _CHANNELS if count <= c_in] if shortcut == "same" else _CHANNELS
        c_out = self.one(*counts[-5:])
        fields, kernel = self.geometry(keeps_size=True)
        fields |= {"kernel": kernel, "samplings": ("none",), "shortcut": shortcut, "append": append}
        fields |= {"activation_first": 0, "limit": np.inf}
        constants = {"planes": self.weights(c_out, c_in, kernel), "scale": self.dyadic(c_out)}
        constants["threshold"] = self.thresholds(x, c_in)
        return Operation("binary_unit", {"x": number}, fields, constants), True, 0

    def make_unit(self) -> tuple[Operation, bool, int] | None:
        number = self.pick(3, exact=True, most=_MOST_CHANNELS)
        if number is None:
            return None
        x = self.values[number]
        c_in = x.shape[0]
        shortcut, append = self.one("none", "same", "same", "average-pool", "duplicate", "given"), False
        inputs = {"x": number}
        if shortcut == "given":
            shortcut_of = self.pick(3, fits=lambda value: value.shape[1:] == x.shape[1:])
            assert shortcut_of is not None
            inputs["shortcut"] = shortcut_of
            c_out = self.values[shortcut_of].shape[0]
        else:
            append = shortcut == "none" and self.chance(0.5)
            smaller = int(self.dice.integers(1, c_in + 1)) if self.chance(0.4) else c_in
            c_out = {"none": self.one(*_CHANNELS), "same": smaller, "average-pool": c_in, "duplicate": 2 * c_in}[
                shortcut
            ]
        c_out, groups = self.fitting(c_out, c_in) if shortcut == "none" else (c_out, self.groups(c_in, c_out))
        fields, kernel = self.geometry(append or shortcut not in ("none", "average-pool"), shortcut == "average-pool")
        samplings: tuple[str, ...] = ("none",)
        if c_in % 4 == 0 and self.chance(0.25):
            samplings, kernel = self.one(SAMPLINGS, ("short-range",), ("none", "long-range")), (1, 1)
            fields["padding"] = (0, 0, 0, 0) if self.chance(0.9) else fields["padding"]
        fields |= {"kernel": kernel, "groups": groups, "samplings": samplings, "shortcut": shortcut}
        fields |= {
            "append": int(append),
            "activation_first": int(self.chance(0.4)),
            "limit": self.one(np.inf, np.inf, 3.0),
        }
        for role, channels in (("threshold", c_in), ("gate", c_out), ("offset", c_out)):
            found = self.pick(3, exact=role == "threshold", fits=_is_pixel_of(channels))
            if found is not None and self.chance(0.4):
                inputs[role] = found
        inputs, experts = self.scores(inputs) if len(samplings) == 1 else (inputs, 1)
        rows = c_out * len(samplings) * experts
        constants = {"planes": self.weights(rows, c_in // groups, kernel), "scale": self.numbers(rows)}
        constants |= self.some(c_out, alpha=0.5, beta=0.5, inner_slope=0.3, shift_in=0.4, slope=0.5, shift_out=0.4)
        if "threshold" not in inputs:
            constants["threshold"] = self.thresholds(x, c_in)
        return Operation("binary_unit", inputs, fields, constants), True, 0
