"""Plans in which the engine shares, moves or reuses memory, each with every instruction set against numpy.

Numbers are multiples of a power of two and sums small, so that everything is exact in any order.
"""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest

from bcdzoo.packed import native
from bcdzoo.plan.file import encode
from bcdzoo.plan.operations import Array, Operation, packed_bits
from bcdzoo.plan.plan import Plan
from bcdzoo.plan.reference import run
from tests.engine.random_plans import IMAGES, Example
from tests.engine.test_random_plans import disagreement
from tests.packed.instructions import each_instruction_set
from tests.plan.examples import GEOMETRY, POOL, UNIT


class Draft:
    """A plan that grows; every method adds an operation and returns the number of its value."""

    def __init__(self, *shape: int) -> None:
        self.dice = np.random.default_rng(0)
        self.shape = shape
        self.operations: list[Operation] = []
        self.channels = [shape[0]]

    def add(self, kind: str, channels: int, inputs: Mapping[str, int], fields: Any = None, **constants: Array) -> int:
        self.operations.append(Operation(kind, inputs, fields or {}, constants))
        self.channels.append(channels)
        return len(self.operations)

    def halves(self, *shape: int) -> Array:
        return (self.dice.integers(-6, 7, shape) / 2).astype(np.float32)

    def unit(self, x: int, c_out: int, kernel: int = 3, inputs: Mapping[str, int] | None = None, **fields: Any) -> int:
        """A unit with everything behind its convolution; it keeps the size of its map."""
        c_in, around = self.channels[x], fields.get("dilation", (1, 1))[0] * (kernel // 2)
        branches = len(fields.get("samplings", ("none",)))
        of_group = c_in // fields.get("groups", 1)
        bits = packed_bits(self.dice.integers(0, 2, (branches * c_out, of_group, kernel, kernel)))
        given = {"x": x} | dict(inputs or {})
        whole = UNIT | {"kernel": (kernel, kernel), "padding": (around,) * 4, "shortcut": "none"} | fields
        constants = {"planes": bits, "scale": np.full(branches * c_out, 0.25, np.float32)}
        constants |= {name: self.halves(c_out) for name in ("alpha", "beta", "shift_in", "slope", "shift_out")}
        if "threshold" not in given:
            constants["threshold"] = self.halves(c_in)
        channels = c_in + c_out if whole["append"] else c_in if whole["shortcut"] == "same" else c_out
        return self.add("binary_unit", channels, given, whole, **constants)

    def clip(self, x: int) -> int:
        return self.add("clip", self.channels[x], {"x": x}, {"low": -8.0, "high": 8.0})

    def conv(self, x: int, c_out: int, kernel: int = 3, groups: int = 1, **fields: Any) -> int:
        weight = self.dice.integers(-1, 2, (c_out, self.channels[x] // groups, kernel, kernel)).astype(np.float32)
        whole = GEOMETRY | {"padding": (kernel // 2,) * 4, "pad_value": 0.0, "groups": groups, "relu": 1} | fields
        return self.clip(self.add("conv", c_out, {"x": x}, whole, weight=weight))

    def pool(self, x: int, **fields: Any) -> int:
        return self.add("pool", self.channels[x], {"x": x}, POOL | fields)

    def concat(self, *values: int) -> int:
        inputs = {f"x{i}": value for i, value in enumerate(values)}
        return self.add("concat", sum(self.channels[value] for value in values), inputs)

    def slice(self, x: int, start: int, stop: int) -> int:
        fields = {"axis": 0, "start": start, "stop": stop, "step": 1}
        return self.add("slice", stop - start, {"x": x}, fields)

    def plus(self, a: int, b: int) -> int:
        return self.add("add", self.channels[a], {"a": a, "b": b})

    def pixel(self, x: int, channels: int) -> int:
        """What is one for each image, (channels, 1, 1): its maxima, of some channels."""
        most = self.pool(x, kernel=self.shape[1:], stride=self.shape[1:], padding=(0, 0), ceil=0)
        return self.slice(most, 0, channels)


def grown_by_odd_numbers(d: Draft) -> None:
    x, old = d.conv(0, 33), 0
    for count in (1, 17, 32, 3):
        x, old = d.unit(x, count, append=1), x
    d.concat(d.clip(old), x)


def added_to_at_odd_offsets(d: Draft) -> None:
    x = d.conv(0, 48)
    for count in (33, 17, 1, 48):
        x = d.unit(x, count, shortcut="same")
    d.clip(x)


def grown_and_added_to_as_in_meliusnet(d: Draft) -> None:
    x = d.conv(0, 64)
    for _ in range(3):
        x = d.unit(x, 64, append=1)
        x = d.unit(x, 64, shortcut="same")
    d.pool(x, name="max", kernel=(2, 2), stride=(2, 2), padding=(0, 0))


def only_bits_are_read_of_a_sum_on_the_last_channels(d: Draft) -> None:
    x = d.unit(0, 128, append=1)
    x = d.unit(x, (32, 64, 128)[d.shape[1] % 3], shortcut="same")
    d.unit(x, 64)


def levels_that_nobody_states(d: Draft) -> None:
    window = GEOMETRY | {"kernel": (3, 3), "pad_value": 0.0, "w_bases": 1, "a_bits": 1}
    words = packed_bits(d.dice.integers(0, 2, (48, d.shape[0], 3, 3)))[None]
    ones = {"scale": np.full(48, 0.5, np.float32), "a_scale": np.ones(1, np.float32)}
    d.add("low_bit_conv", 48, {"x": 0}, window, planes=words, **ones)


def an_old_map_is_read_after_it_could_have_been_overwritten(d: Draft) -> None:
    x = d.conv(0, 48)
    y = d.unit(d.unit(x, 48, shortcut="same"), 48, shortcut="same")
    z = d.unit(x, 48, shortcut="given", inputs={"shortcut": y})
    d.concat(z, x, d.unit(y, 17))


def bits_of_few_values_are_made_before_their_map_is_overwritten(d: Draft) -> None:
    x = d.conv(0, 33)
    fields = {"low": 0.0, "high": 3.0, "step": 1.0, "divide": 1, "offset": 0, "bits": 2}
    levels = d.add("quantize", 33, {"x": x}, fields)
    y = d.unit(x, 33, shortcut="same")
    window = GEOMETRY | {"kernel": (3, 3), "pad_value": 0.0, "w_bases": 2, "a_bits": 2}
    words = np.stack([packed_bits(d.dice.integers(0, 2, (34, 33, 3, 3))) for _ in range(2)])
    ones = {"scale": np.full(34, 0.5, np.float32), "a_scale": np.ones(1, np.float32)}
    d.concat(y, d.add("low_bit_conv", 17, {"x": levels}, window, planes=words, **ones))


def bases_of_signs(d: Draft) -> None:
    x = d.conv(0, 17)
    signs = [d.add("binarize", 17, {"x": x}, {}, threshold=d.halves(count)) for count in (1, 17, 17)]
    bases = d.add("stack", 17, {f"x{i}": sign for i, sign in enumerate(signs)})
    y = d.unit(x, 17, shortcut="same")
    window = GEOMETRY | {"kernel": (3, 3), "w_bases": 1, "a_bits": 1, "stride": (2, 2), "pad_value": 1.0}
    words = packed_bits(d.dice.integers(0, 2, (48, 17, 3, 3)))[None]
    factors = {"scale": np.full(48, 0.5, np.float32), "a_scale": np.array([1, 0.5, 0.25], np.float32)}
    z = d.add("low_bit_conv", 48, {"x": bases}, window, planes=words, **factors)
    d.concat(z, d.pool(y, kernel=(2, 2), stride=(2, 2), padding=(0, 0), ceil=1))


def slices_of_a_map_that_is_written_later(d: Draft) -> None:
    x = d.conv(0, 65)
    first, second = d.slice(x, 0, 31), d.slice(x, 31, 65)
    y = d.unit(first, 31, shortcut="same")
    z = d.clip(d.unit(second, 34, append=1))
    d.concat(d.clip(x), y, z, d.unit(second, 17), first)


def everything_of_an_image(d: Draft) -> None:
    x = d.conv(0, 48)
    for channels in (48, 1):
        gate, offset, limit = d.pixel(x, channels), d.pixel(0, min(channels, d.channels[0])), d.pixel(x, channels)
        inputs = {"gate": gate, "threshold": limit}
        if d.channels[offset] in (1, 48):
            inputs["offset"] = offset
        x = d.clip(d.unit(x, 48, inputs=inputs, shortcut="same"))
    d.unit(x, 33, activation_first=1, limit=1.5)


def shortcuts_of_every_kind(d: Draft) -> None:
    x = d.unit(d.conv(0, 33), 66, shortcut="duplicate")
    x = d.unit(x, 66, shortcut="average-pool", stride=(2, 2))
    x = d.unit(x, 64)
    x = d.unit(x, 128, kernel=1, shortcut="duplicate", activation_first=1)
    d.unit(x, 128, kernel=1, shortcut="same", samplings=("none", "short-range", "long-range"))


def windows_of_every_kind(d: Draft) -> None:
    x = d.conv(0, 48)
    window: dict[str, Any] = {"stride": (2, 1), "dilation": (2, 2), "pad_value": -1.0, "padding": (2, 0, 3, 1)}
    y = d.unit(x, 33, **window)
    z = d.unit(x, 17, **window | {"pad_value": 1.0})
    groups = d.unit(x, 17, **window | {"pad_value": 0.0, "same": 0})
    d.concat(y, z, groups, d.conv(x, 96, groups=48, **window), d.conv(x, 48, groups=48, **window))


def units_of_groups(d: Draft) -> None:
    """Of whole dwords and of parts of them, on maps that are written at once and channel by channel."""
    x = d.unit(d.conv(0, 64), 128, groups=4)
    y = d.unit(x, 128, groups=2, shortcut="same", inputs={"gate": d.pixel(x, 128)})
    x = d.unit(y, 64, append=1)
    x = d.unit(x, 192, kernel=1, groups=6)
    d.concat(x, d.unit(x, 64, groups=2), d.unit(y, 256, groups=8, shortcut="duplicate"), d.clip(y))


def windows_of_groups(d: Draft) -> None:
    """Of 48, 32 and 16 channels with every border, and of fewer outputs than a panel, which no kernel knows."""
    x = d.conv(0, 96)
    window: dict[str, Any] = {"stride": (2, 1), "dilation": (2, 2), "padding": (2, 0, 3, 1)}
    signs = [d.unit(x, 192, groups=by, pad_value=value, **window) for by, value in ((2, 0.0), (3, 1.0), (6, -1.0))]
    d.concat(*signs, d.unit(x, 48, groups=3, **window))


def a_large_network(d: Draft) -> None:
    """Bands: a stem, residuals, concatenations, poolings and strides on maps that fill the second cache."""
    x = d.conv(0, 64, stride=(2, 2))
    y = d.unit(x, 64, shortcut="same")
    z = d.clip(d.unit(y, 32, kernel=1))
    y = d.concat(z, d.unit(y, 33), z)
    y = d.unit(y, 17, append=1)
    a = d.pool(y, name="average", ceil=0, kernel=(3, 3), stride=(2, 2), padding=(1, 1))
    b = d.unit(y, d.channels[y], stride=(2, 2), shortcut="average-pool")
    d.concat(d.plus(a, b), d.conv(b, d.channels[b], groups=d.channels[b]), d.unit(a, 48, shortcut="none"))


def a_large_map_in_place(d: Draft) -> None:
    """In bands what overwrites a map must not run ahead of who reads it with a window."""
    x = d.conv(0, 48)
    y = d.pool(x, name="max", kernel=(3, 3), stride=(1, 1), padding=(1, 1))
    z = d.conv(x, 33)
    x = d.clip(d.unit(x, 48, shortcut="same"))
    d.concat(d.plus(y, x), z, d.unit(x, 16, kernel=5, shortcut="same"))


PLANS: tuple[tuple[Callable[[Draft], None], tuple[int, ...]], ...] = (
    *((make, (3, 13, 11)) for make in (grown_by_odd_numbers, added_to_at_odd_offsets)),
    *((make, (1, 56, 50)) for make in (grown_by_odd_numbers, added_to_at_odd_offsets)),
    *((make, (3, side, side)) for make in (grown_and_added_to_as_in_meliusnet,) for side in (7, 64)),
    *((only_bits_are_read_of_a_sum_on_the_last_channels, (64, side, 50)) for side in (6, 7, 8, 54, 55, 56)),
    (levels_that_nobody_states, (17, 9, 8)),
    *((an_old_map_is_read_after_it_could_have_been_overwritten, (3, side, 50)) for side in (5, 60)),
    *((bits_of_few_values_are_made_before_their_map_is_overwritten, (3, side, 50)) for side in (5, 60)),
    *((bases_of_signs, (1, side, 49)) for side in (5, 60)),
    *((slices_of_a_map_that_is_written_later, (17, side, 48)) for side in (5, 60)),
    *((everything_of_an_image, (3, side, 44)) for side in (6, 60)),
    *((shortcuts_of_every_kind, (3, side, 40)) for side in (5, 60)),
    *((windows_of_every_kind, (3, side, 41)) for side in (9, 56)),
    *((units_of_groups, (3, side, 45)) for side in (7, 60)),
    *((windows_of_groups, (3, side, 45)) for side in (7, 60)),
    (a_large_network, (3, 96, 112)),
    (a_large_map_in_place, (3, 60, 48)),
)


@each_instruction_set
@pytest.mark.parametrize(("make", "shape"), PLANS, ids=[f"{make.__name__} {shape}" for make, shape in PLANS])
def test_a_plan_gives_what_numpy_gives(
    make: Callable[[Draft], None], shape: tuple[int, ...], instructions: str
) -> None:
    draft = Draft(*shape)
    make(draft)
    plan, images = Plan(shape, tuple(draft.operations)), draft.halves(IMAGES, *shape)
    assert not disagreement(Example(plan, images, run(plan, images), True), instructions)


def test_a_plan_of_very_many_operations_is_prepared_in_time() -> None:
    draft = Draft(16, 8, 8)
    draft.add("clip", 16, {"x": 0}, {"low": -1.0, "high": 1.0})
    for value in range(2, 10_003):
        draft.add("subtract", 16, {"a": value - 1, "b": value - 2})
    content = np.frombuffer(encode(Plan(draft.shape, tuple(draft.operations))), np.uint8)
    module = native.kernels()
    assert module is not None
    start = time.process_time()
    network = module.Network(content, hashed=False, map=True)
    assert time.process_time() - start < 5
    image = np.random.default_rng(0).integers(-3, 4, (1, 16, 8, 8)).astype(np.float32)
    got = np.full((1, 16 * 8 * 8), np.nan, np.float32)
    network.run(image, got, 1, native.instruction_sets()[0])
    values = [image, image.clip(-1, 1)]  # differences of neighbours come again after six steps
    for _ in range(4):
        values.append(values[-1] - values[-2])
    np.testing.assert_array_equal(got.reshape(image.shape), values[10_002 % 6])


@each_instruction_set
@pytest.mark.parametrize(
    ("channels", "heads", "side", "keys"), [(128, 2, 14, 7), (64, 1, 9, 9), (96, 3, 5, 1), (40, 5, 6, 3)], ids=str
)
def test_attention_is_that_of_the_reference_with_heads_of_any_width(
    channels: int, heads: int, side: int, keys: int, instructions: str
) -> None:
    """Heads of whole dwords are on the kernels, others are not; keys fill several dwords, a part of one, or are one."""
    draft = Draft(channels, side, side)
    window = {"name": "max", "kernel": (side // keys,) * 2, "stride": (side // keys,) * 2}
    pooled = draft.add("pool", channels, {"x": 0}, window | {"padding": (0, 0), "ceil": 0, "count_padding": 0})
    constants = {f"{role}_threshold": draft.halves(channels) for role in ("query", "key", "value")}
    inputs = {"query": 0, "key": pooled, "value": pooled}
    fields = {"heads": heads, "divisor": 4.0}
    seen = draft.add(
        "binary_attention", channels, inputs, fields, **constants, level=np.array([0.125 / keys], np.float32)
    )
    again = draft.add("upsample", channels, {"x": seen}, {"factor": (2, 3)})
    draft.add("add_map", channels, {"x": again}, {}, map=draft.halves(channels, 2 * side, 3 * side))
    images = draft.halves(IMAGES, channels, side, side)
    plan = Plan(draft.shape, tuple(draft.operations))
    assert not disagreement(Example(plan, images, run(plan, images), True), instructions)
