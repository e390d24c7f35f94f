"""Recognise binary layers that somebody wrote in plain torch: signs of any spelling, and weights of ± one scale.

What a comparison gives, and what is computed from that alone, has a few values, with steps at thresholds; where these
are -1 and +1 it is a sign. A convolution of signs by weights that are ± one number in each output channel is a binary
convolution. Its sums are integers then, scaled once: closer to the truth than torch's, which rounds each product.
"""

from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import numpy as np

from bcdzoo.graph.record import WINDOW
from bcdzoo.plan.operations import Array, Operation, packed_bits
from bcdzoo.plan.plan import Plan, shapes_of, without_dead
from bcdzoo.plan.reference import RUN

_TINY = np.nextafter(np.float32(0), np.float32(1))
_OF_STEPS = ("scale_shift", "clip", "function", "prelu")
_ARRANGES = ("reshape", "slice", "concat", "shift_quarters", "permute")
NEARLY = "its activations are only nearly -1 and +1: s - x + x is rounded, unless x is clipped to [-1, 1]"
SIGN_OF_ZERO = "torch.sign is 0 at 0, which is no bit: write it as a comparison, x >= 0"


def recognise(plan: Plan) -> Plan:
    """Write signs as signs and binary convolutions as binary convolutions.

    Args:
        plan: Plan from :func:`bcdzoo.graph.record.record`.
    """
    reader = _Reader(plan)
    for number, operation in enumerate(plan.operations):
        reader.read(number, operation)
    return without_dead(replace(plan, operations=tuple(reader.operations)))


def scale_of(weight: Array) -> Array | None:
    """The one absolute value of each output channel's weights; None if there are several, or 0."""
    absolute = np.abs(weight.reshape(len(weight), -1))
    scale: Array = absolute[:, 0].copy()
    return scale if bool((scale > 0).all() and (absolute == scale[:, None]).all()) else None


@dataclass(frozen=True)
class _Steps:
    """A value that has a few numbers, by where another one lies.

    Attributes:
        x: The other value.
        thresholds: Ascending, (steps, channels).
        numbers: Below the first threshold, from the first one on, …, (steps + 1, channels).
    """

    x: int
    thresholds: Array
    numbers: Array

    def without_idle(self) -> "_Steps":
        """Without thresholds at which nothing changes."""
        needed = (self.numbers[1:] != self.numbers[:-1]).any(axis=1)
        return _Steps(self.x, self.thresholds[needed], self.numbers[np.append(True, needed)])

    @property
    def is_sign(self) -> bool:
        """Whether the numbers are -1 and +1, in either order."""
        return len(self.thresholds) == 1 and bool((np.abs(self.numbers) == 1).all() and not self.numbers.sum(0).any())


class _Reader:
    """Writes a plan anew, operation by operation."""

    def __init__(self, plan: Plan) -> None:
        self.operations: list[Operation] = []
        self.shapes = shapes_of(plan)
        self.uses = np.bincount([value for each in plan.operations for value in each.inputs.values()])
        self.value = {0: 0}  # of the plan that is read: of the one that is written
        self.steps: dict[int, _Steps] = {}
        self.signs: set[int] = set()
        self.recognised: set[int] = set()
        self.known: dict[tuple[Any, ...], int] = {}

    def read(self, number: int, operation: Operation) -> None:
        """Read one operation."""
        inputs = {key: self.value[value] for key, value in operation.inputs.items()}
        self.value[number + 1] = self._written(operation, replace(operation, inputs=inputs))

    def _put(self, operation: Operation) -> int:
        """Write an operation, once if it is there already."""
        key = (operation.kind, *operation.inputs.items(), *operation.fields.items())
        if not operation.constants and key in self.known:
            return self.known[key]
        self.operations.append(operation)
        self.known[key] = len(self.operations)
        return len(self.operations)

    def _written(self, old: Operation, operation: Operation) -> int:
        """The value that stands for what an operation gives."""
        x = operation.inputs.get("x", -1)
        channels = self.shapes[old.inputs["x"]][0] if x >= 0 else 0
        if operation.kind == "binarize" and "threshold" in operation.constants:
            return self._as_steps(operation, _of_binarize(operation, channels))
        if operation.kind == "function" and operation.fields["name"] == "sign" and x not in self.steps:
            return self._as_steps(operation, _Steps(x, _spread([0, _TINY], channels), _spread([-1, 0, 1], channels)))
        if operation.kind in _OF_STEPS and x in self.steps:
            return self._as_steps(operation, _computed(operation, self.steps[x]))
        if operation.kind == "add" and (sign := self._estimated(operation)):
            return sign
        if operation.kind in ("conv", "linear") and (signs := self._signs(x)) is not None:
            return self._binary(old, operation, *signs)
        if operation.kind == "scale_shift" and x in self.recognised and self.uses[old.inputs["x"]] == 1:
            return self._rescaled(operation)
        value = self._put(operation)
        if self._keeps_signs(operation):
            self.signs.add(value)
        return value

    def _as_steps(self, operation: Operation, steps: _Steps) -> int:
        """What an operation gives that gives steps: or their sign, if they are one."""
        steps = steps.without_idle()
        if not steps.is_sign:
            value = self._put(operation)
            self.steps[value] = steps
            return value
        falls = (steps.numbers[0] > 0).astype(np.float32)
        constants = {"threshold": steps.thresholds[0]} | ({"falls": falls} if falls.any() else {})
        value = self._put(Operation("binarize", {"x": steps.x}, {}, constants, operation.name))
        self.steps[value] = steps
        self.signs.add(value)
        return value

    def _keeps_signs(self, operation: Operation) -> bool:
        is_max = operation.kind == "pool" and operation.fields["name"] == "max"
        is_dynamic = operation.kind == "binarize"
        inputs = set(operation.inputs.values())
        return is_dynamic or ((is_max or operation.kind in _ARRANGES) and inputs <= self.signs)

    def _estimated(self, operation: Operation) -> int:
        """The sign s of ``s - c + c``, which straight-through estimators write; 0 if it is not exactly s.

        It is where c is the same map clipped to [-1, 1]: s - c is then in [-1, 1] too, so that its rounding is half of
        the last place of a number around 1 at most, a tie that the sum rounds to the even ±1 (and 0 stays 0).
        """
        for difference, c in permutations(operation.inputs.values()):
            minus, clip = (self.operations[value - 1] if value else None for value in (difference, c))
            if minus is None or minus.kind != "subtract" or minus.inputs["b"] != c:
                continue
            steps = self.steps.get(minus.inputs["a"])
            if steps is None or clip is None or clip.kind != "clip" or clip.inputs["x"] != steps.x:
                continue
            rises = (np.diff(steps.numbers, axis=0) > 0).all() and (steps.numbers[[0, -1]] == [[-1], [1]]).all()
            at_zero = np.isin(steps.thresholds, (0, _TINY)).all() and np.isin(steps.numbers, (-1, 0, 1)).all()
            if rises and at_zero and -1 <= clip.fields["low"] <= 0 <= clip.fields["high"] <= 1:  # type: ignore[operator]
                return minus.inputs["a"]
        return 0

    def _signs(self, x: int) -> tuple[int, Operation | None] | None:
        """The signs that are convolved, and the padding around them."""
        if x in self.signs:
            return x, None
        pad = self.operations[x - 1] if x else None
        if pad is None or pad.kind != "pad" or pad.inputs["x"] not in self.signs:
            return None
        has_channels = pad.fields["before"][0] or pad.fields["behind"][0]  # type: ignore[index]
        return None if has_channels else (pad.inputs["x"], pad)

    def _binary(self, old: Operation, operation: Operation, x: int, pad: Operation | None) -> int:
        weight = operation.constants["weight"]
        scale = scale_of(weight)
        fields: dict[str, Any] = dict(operation.fields)
        if scale is None or (pad is not None and (any(fields["padding"]) or fields["same"])):
            return self._put(operation)
        if operation.kind == "linear":
            weight = weight[:, :, None, None]
            fields = dict(WINDOW)
            x = self._as_map(x, weight.shape[1])
        if pad is not None:
            before, behind = np.array(pad.fields["before"]).tolist(), np.array(pad.fields["behind"]).tolist()
            fields |= {"padding": (*before[1:], *behind[1:]), "pad_value": pad.fields["value"]}
        fields.pop("relu", None)
        fields |= {"kernel": weight.shape[2:], "w_bases": 1, "a_bits": 1}
        constants = {"planes": packed_bits(weight > 0)[None], "scale": scale, "a_scale": np.ones(1, np.float32)}
        value = self._put(Operation("low_bit_conv", {"x": x}, fields, constants, operation.name))
        if "bias" in operation.constants:
            constants = {"alpha": np.ones(len(scale), np.float32), "beta": operation.constants["bias"]}
            value = self._put(Operation("scale_shift", {"x": value}, {}, constants, operation.name))
        self.recognised.add(value)
        if operation.kind == "linear":
            value = self._put(Operation("reshape", {"x": value}, {"shape": (len(scale),)}, {}, operation.name))
        return value

    def _as_map(self, x: int, channels: int) -> int:
        """Signs of a vector as those of a map of one pixel."""
        sign = self.operations[x - 1]
        shape = {"shape": (channels, 1, 1)}
        if sign.kind != "binarize" or "threshold" in sign.inputs:
            return self._put(Operation("reshape", {"x": x}, shape, {}, sign.name))
        value = self._put(Operation("reshape", {"x": sign.inputs["x"]}, shape, {}, sign.name))
        return self._put(replace(sign, inputs={"x": value}))

    def _rescaled(self, operation: Operation) -> int:
        """A scale and shift of a recognised convolution, in one with the scale or bias that it has."""
        value = self._put(self._in_one(operation))
        self.recognised.add(value)
        return value

    def _in_one(self, operation: Operation) -> Operation:
        before = self.operations[operation.inputs["x"] - 1]
        alpha, beta = (operation.constants[key].astype(np.float64) for key in ("alpha", "beta"))
        if before.kind == "low_bit_conv" and not beta.any():
            scale = (before.constants["scale"] * alpha).astype(np.float32)
            return replace(before, constants={**before.constants, "scale": scale})
        if before.kind != "scale_shift":
            return operation
        constants = {"alpha": before.constants["alpha"] * alpha, "beta": before.constants["beta"] * alpha + beta}
        arrays = {key: value.astype(np.float32) for key, value in constants.items()}
        return Operation("scale_shift", dict(before.inputs), {}, arrays, operation.name)


def _spread(numbers: list[Any], channels: int) -> Array:
    return np.repeat(np.array(numbers, np.float32)[:, None], channels, axis=1)


def _of_binarize(operation: Operation, channels: int) -> _Steps:
    falls = np.broadcast_to(operation.constants.get("falls", np.zeros(1)) != 0, (channels,))
    threshold = np.broadcast_to(operation.constants["threshold"], (1, channels))
    low = np.where(falls, 1, -1).astype(np.float32)
    return _Steps(operation.inputs["x"], threshold, np.stack([low, -low]))


def _computed(operation: Operation, steps: _Steps) -> _Steps:
    """What an operation makes of a few numbers."""
    maps = RUN[operation.kind](operation, steps.numbers[:, :, None, None])
    return replace(steps, numbers=maps[:, :, 0, 0])


def obstacle_to_signs(plan: Plan, conv: Operation) -> str:
    """Why a real-valued convolution that looks as if it were meant to be binary is none; "" if it does not look so."""
    maker = plan.operations[conv.inputs["x"] - 1] if conv.inputs["x"] else conv
    if maker.kind == "pad":
        maker = plan.operations[maker.inputs["x"] - 1] if maker.inputs["x"] else conv
    is_sign = maker.kind == "function" and maker.fields["name"] == "sign"
    made = [plan.operations[value - 1] for value in maker.inputs.values() if value] if maker.kind == "add" else []
    is_estimate = any(each.kind == "subtract" and each.inputs["b"] in maker.inputs.values() for each in made)
    if not (is_sign or is_estimate) or scale_of(conv.constants["weight"]) is None:
        return ""
    return SIGN_OF_ZERO if is_sign else NEARLY
