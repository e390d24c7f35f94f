"""Small plans: each kind of operation with as little as it needs, and with everything that it may have."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bcdzoo.plan.operations import END, Array, Operation
from bcdzoo.plan.plan import Plan

IMAGE = (4, 5, 6)
GEOMETRY: dict[str, Any] = {
    "stride": (1, 1),
    "padding": (1, 1, 1, 1),
    "same": 0,
    "pad_value": -1.0,
    "dilation": (1, 1),
    "groups": 1,
}
UNIT = GEOMETRY | {
    "kernel": (3, 3),
    "samplings": ("none",),
    "shortcut": "same",
    "activation_first": 0,
    "append": 0,
    "limit": float("inf"),
}
SAMPLED = {"kernel": (1, 1), "padding": (0, 0, 0, 0), "samplings": ("none", "short-range", "long-range")}
POOL: dict[str, Any] = {
    "name": "max",
    "kernel": (3, 2),
    "stride": (2, 1),
    "padding": (1, 0),
    "ceil": 1,
    "count_padding": 0,
}
QUANTIZE: dict[str, Any] = {"low": -1.0, "high": 1.0, "step": 1.5, "divide": 0, "offset": 2, "bits": 2}
LEVELS = Operation("quantize", {"x": 0}, QUANTIZE)
LOW_BIT = GEOMETRY | {"kernel": (3, 3), "w_bases": 1, "a_bits": 2}
_DICE = np.random.default_rng(0)


def real(*shape: int) -> Array:
    """Real constants."""
    return _DICE.normal(size=shape).astype(np.float32)


def bits(*shape: int) -> Array:
    """Words of weights."""
    return _DICE.integers(0, 1 << 63, shape, np.uint64)


def chain(count: int, make: Callable[[int], Operation]) -> tuple[Operation, ...]:
    """So many operations, each made from its number."""
    return tuple(make(number) for number in range(count))


def to_logits(*operations: Operation, rank: int = 3) -> Plan:
    """A plan of these operations, and what makes logits of their last value."""
    ending = []
    if rank == 4:
        shapes = {"planes": bits(1, 2, 9, 1), "scale": real(2), "a_scale": real(len_of(operations))}
        ending.append(Operation("low_bit_conv", {"x": len(operations)}, LOW_BIT, shapes))
    if rank >= 3:
        ending.append(Operation("mean", {"x": len(operations) + len(ending)}, {"axes": (1, 2), "double": 0}))
        ending.append(Operation("reshape", {"x": len(operations) + len(ending)}, {"shape": (0,)}))
    return Plan(IMAGE, (*operations, *ending))


def len_of(operations: tuple[Operation, ...]) -> int:
    """Bases of what the last operation gives."""
    last = operations[-1]
    return len(last.inputs) if last.kind == "stack" else len(last.constants.get("basis", [0]))


def unit(fields: Mapping[str, Any], inputs: Mapping[str, int] | None = None, **constants: Array) -> Operation:
    """A binary unit on the images."""
    given = {"planes": bits(4, 9, 1), "scale": real(4)} | constants
    return Operation("binary_unit", {"x": 0} | dict(inputs or {}), UNIT | dict(fields), given)


def examples() -> dict[str, Plan]:
    """Plans by what is special about them; the name begins with the kind of operation."""
    vector = Operation("reshape", {"x": 0}, {"shape": (0,)}, name="flat")
    gate = Operation("mean", {"x": 0}, {"axes": (1, 2), "double": 1})
    scores = (gate, Operation("slice", {"x": 1}, {"axis": 0, "start": 1, "stop": 4, "step": 1}))
    weight = {"weight": real(6, 2, 3, 3)}
    plans = {
        "conv": to_logits(Operation("conv", {"x": 0}, GEOMETRY | {"groups": 2, "relu": 0}, weight)),
        "conv with all": to_logits(
            Operation(
                "conv",
                {"x": 0},
                GEOMETRY | {"groups": 2, "relu": 1, "same": 1, "stride": (2, 3), "dilation": (2, 1)},
                weight | {"bias": real(6), "alpha": real(6), "beta": real(6)},
            )
        ),
        "linear": to_logits(vector, Operation("linear", {"x": 1}, {}, {"weight": real(3, 120)}), rank=1),
        "linear with all": to_logits(
            vector, Operation("linear", {"x": 1}, {}, {"weight": real(3, 120), "bias": real(3)}), rank=1
        ),
        "scale_shift": to_logits(Operation("scale_shift", {"x": 0}, {}, {"alpha": real(4), "beta": real(1)})),
        "prelu": to_logits(Operation("prelu", {"x": 0}, {}, {"slope": real(4)})),
        "prelu with all": to_logits(
            Operation(
                "prelu",
                {"x": 0},
                {},
                {"slope": real(4), "positive": real(4), "shift_in": real(4), "shift_out": real(4)},
            )
        ),
        "clip": to_logits(Operation("clip", {"x": 0}, {"low": -float("inf"), "high": 1.5})),
        "function": to_logits(Operation("function", {"x": 0}, {"name": "tanh"})),
        **{kind: to_logits(gate, Operation(kind, {"a": 0, "b": 1})) for kind in ("add", "subtract", "multiply")},
        "pool": to_logits(Operation("pool", {"x": 0}, POOL)),
        "mean": to_logits(Operation("mean", {"x": 0}, {"axes": (0,), "double": 1})),
        "context": to_logits(
            Operation(
                "context", {"x": 0}, {"hidden": "relu", "output": "none"}, {"first": real(2, 4), "second": real(3, 2)}
            )
        ),
        "concat": to_logits(Operation("concat", {f"x{i}": 0 for i in range(12)})),
        "slice": to_logits(Operation("slice", {"x": 0}, {"axis": 1, "start": 1, "stop": END, "step": 2})),
        "pad": to_logits(Operation("pad", {"x": 0}, {"before": (0, 1, 2), "behind": (3, 0, 1), "value": -0.0})),
        "reshape": to_logits(Operation("reshape", {"x": 0}, {"shape": (2, 0, 5)})),
        "permute": to_logits(Operation("permute", {"x": 0}, {"axes": (2, 0, 1)})),
        "replicate": to_logits(Operation("replicate", {"x": 0}, {"padding": (0, 2, 1, 0)})),
        "shift_quarters": to_logits(Operation("shift_quarters", {"x": 0}, {"sampling": "long-range"})),
        "add_map": to_logits(Operation("add_map", {"x": 0}, {}, {"map": real(*IMAGE)})),
        "upsample": to_logits(Operation("upsample", {"x": 0}, {"factor": (2, 3)})),
        "fill": to_logits(Operation("fill", {"x": 0}, {"value": 0.1})),
        "binarize": to_logits(Operation("binarize", {"x": 0}, {}, {"threshold": real(4), "falls": real(4)})),
        "binarize at a threshold that is given": to_logits(gate, Operation("binarize", {"x": 0, "threshold": 1})),
        "quantize": to_logits(LEVELS, rank=4),
        "encode": to_logits(Operation("encode", {"x": 0}, {}, {"basis": real(3)}), rank=4),
        "stack": to_logits(Operation("stack", {"x0": 0, "x1": 0}), rank=4),
        "low_bit_conv": to_logits(
            LEVELS,
            Operation(
                "low_bit_conv",
                {"x": 1},
                LOW_BIT | {"w_bases": 2, "groups": 2},
                {"planes": bits(3, 8, 9, 1), "scale": real(8), "a_scale": real(1)},
            ),
        ),
        "low_bit_conv of weights that an image chooses": to_logits(
            *scores,
            LEVELS,
            Operation(
                "low_bit_conv",
                {"x": 3, "scores": 2},
                LOW_BIT,
                {"planes": bits(2, 6, 9, 1), "scale": real(6), "a_scale": real(1)},
            ),
        ),
        "binary_attention": to_logits(
            Operation("pool", {"x": 0}, POOL),
            Operation(
                "binary_attention",
                {"query": 0, "key": 1, "value": 1},
                {"heads": 2, "divisor": 1.5},
                {f"{name}_threshold": real(4) for name in ("query", "key", "value")}
                | {"level": np.array([0.2], np.float32)},
            ),
        ),
        "binary_unit": to_logits(unit({}, threshold=real(4))),
        "binary_unit of weights that an image chooses": to_logits(
            *scores, unit({"groups": 2}, {"scores": 2}, threshold=real(4), planes=bits(12, 9, 1), scale=real(12))
        ),
        "binary_unit with all": to_logits(
            gate,
            unit(
                {"activation_first": 1, "shortcut": "given", "limit": 3.0},
                {"shortcut": 0, "threshold": 1, "gate": 1, "offset": 1},
                **{name: real(4) for name in ("alpha", "beta", "inner_slope", "shift_in", "slope", "shift_out")},
            ),
        ),
        "binary_unit of three branches": to_logits(
            unit(SAMPLED, threshold=real(4), planes=bits(12, 1, 1), scale=real(12))
        ),
        "binary_unit that appends": to_logits(unit({"append": 1, "shortcut": "none"}, threshold=real(4))),
    }
    named = Plan(
        IMAGE,
        plans["fill"].operations,
        "bcdnet-ä",
        "resize=256,crop=224,mean=0.5,std=0.5",
        ("tench", "", "žluva", "大"),
        {"licence": "MIT", "sha256": "0" * 64, "": ""},
    )
    return plans | {"fill, of a plan with names": named}
