"""Fuse the operations of a plan: a binary convolution with all that stands around it becomes one binary unit.

A unit packs bits by a threshold, convolves, and applies to each output channel what there is of gate, offset, PReLU,
scale and shift, shortcut, activation and clip, in this order. What a unit has not taken stays as it is.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from bcdzoo.graph.groups import without_groups
from bcdzoo.graph.recognise import obstacle_to_signs
from bcdzoo.layers.folding import least_reaching
from bcdzoo.plan.operations import END, Array, Operation, Shape, packed_bits
from bcdzoo.plan.plan import Plan, shapes_of, without_dead


def fuse(plan: Plan) -> Plan:
    """Fuse a recorded plan; it gives the same logits.

    Args:
        plan: Plan from :func:`bcdzoo.graph.record.record`.
    """
    graph = _Graph(plan)
    for number, operation in enumerate(plan.operations):
        if operation.kind == "low_bit_conv" and not obstacle(operation) and graph.is_there(number):
            _Unit(graph, number).fuse()
        elif operation.kind == "conv":
            _fuse_conv(graph, number)
    fused = without_dead(replace(plan, operations=tuple(graph.operations)))
    return without_groups(fused)


def obstacle(conv: Operation) -> str:
    """Why a low-bit convolution is no part of a binary unit; "" if it is."""
    fields: Any = conv.fields
    if conv.constants["planes"].shape[0] > 1 or fields["w_bases"] > 1:
        return "weights of several bits or bases"
    if fields["a_bits"] > 1 or len(conv.constants["a_scale"]) > 1:
        return "activations of several bits or bases"
    return ""


class _Graph:
    """The operations of a plan while they are fused: operation i gives value i + 1."""

    def __init__(self, plan: Plan) -> None:
        self.operations: list[Operation] = list(plan.operations)
        self.shapes: list[Shape] = shapes_of(plan)
        self.users: list[set[int]] = [set() for _ in self.shapes]
        for number, operation in enumerate(plan.operations):
            self._use(number, operation)
        self.users[-1].add(len(plan.operations))  # whoever takes the logits

    def _use(self, number: int, operation: Operation) -> None:
        for value in operation.inputs.values():
            self.users[value].add(number)

    def maker(self, value: int) -> Operation | None:
        """The operation that gives a value; None for the images."""
        return self.operations[value - 1] if value else None

    def only_user(self, value: int) -> tuple[int, Operation] | None:
        """The operation that alone reads a value, and reads it once, with its number."""
        if len(self.users[value]) != 1:
            return None
        (number,) = self.users[value]
        if number == len(self.operations):
            return None
        operation = self.operations[number]
        return (number, operation) if list(operation.inputs.values()).count(value) == 1 else None

    def is_there(self, number: int) -> bool:
        """Whether anything reads what an operation gives."""
        return bool(self.users[number + 1])

    def put(self, number: int, operation: Operation) -> None:
        """Put an operation in the place of another one, and drop what nothing reads then."""
        before = self.operations[number]
        self.operations[number] = operation
        self._use(number, operation)
        self._drop(number, set(before.inputs.values()) - set(operation.inputs.values()))

    def _drop(self, number: int, values: set[int]) -> None:
        """An operation does not read some values any more."""
        for value in values:
            self.users[value].discard(number)
            if value and not self.users[value]:
                self._drop(value - 1, set(self.operations[value - 1].inputs.values()))


def _fuse_conv(graph: _Graph, number: int) -> None:
    """Take padding before a real-valued convolution, and normalization and ReLU after it, into it."""
    conv = graph.operations[number]
    fields, constants, inputs = dict(conv.fields), dict(conv.constants), dict(conv.inputs)
    pad = graph.maker(inputs["x"])
    if pad is not None and pad.kind == "pad" and not any(fields["padding"]) and not fields["same"]:  # type: ignore[arg-type]
        before: Any = pad.fields["before"]
        behind: Any = pad.fields["behind"]
        if before[0] == behind[0] == 0:
            fields |= {"padding": (*before[1:], *behind[1:]), "pad_value": pad.fields["value"]}
            inputs["x"] = pad.inputs["x"]
    last = number
    if (following := graph.only_user(last + 1)) and _is_of_channels(following[1], len(constants["weight"])):
        last, normalization = following
        constants |= normalization.constants
    if (following := graph.only_user(last + 1)) and _is_relu(following[1]):
        last, fields["relu"] = following[0], 1
    graph.put(last, Operation("conv", inputs, fields, constants, conv.name))


def _is_of_channels(operation: Operation, channels: int) -> bool:
    return operation.kind == "scale_shift" and len(operation.constants["alpha"]) == channels


def _is_relu(operation: Operation) -> bool:
    return operation.kind == "clip" and (operation.fields["low"], operation.fields["high"]) == (0, math.inf)


@dataclass
class _Threshold:
    """How the bits of a unit are taken from a map.

    Attributes:
        x: The map.
        constants: ``threshold``, of its channels, or nothing.
        inputs: ``threshold``, of each image, or nothing.
        falls: Channels whose bits are turned.
    """

    x: int
    constants: dict[str, Array] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)
    falls: Array = field(default_factory=lambda: np.zeros(1, bool))


class _Unit:
    """A binary unit in the making, from its convolution on."""

    def __init__(self, graph: _Graph, number: int) -> None:
        self.graph, self.first, self.last = graph, number, number
        conv = graph.operations[number]
        self.name = conv.name
        self.planes, self.scales = [conv.constants["planes"][0]], [conv.constants["scale"]]
        self.conv = conv
        self.inputs = {role: value for role, value in conv.inputs.items() if role == "scores"}
        self.constants: dict[str, Array] = {}
        window = ("stride", "padding", "same", "pad_value", "dilation", "groups", "kernel")
        self.fields: dict[str, Any] = {key: conv.fields[key] for key in window}
        self.fields |= {"shortcut": "none", "activation_first": 0, "append": 0, "limit": math.inf}
        self.samplings = ["none"]

    def fuse(self) -> None:
        """Find what belongs to the unit, and put it in the place of the last of that."""
        sign = self._sign()
        if sign is None:
            return
        number, operation = sign
        found = _threshold(self.graph, operation, may_turn=not self.fields["pad_value"])
        if found is None:
            return
        self.x, self.channels = found.x, self.graph.shapes[self.last + 1][0]
        self.inputs |= found.inputs
        self.constants |= found.constants
        self._branches(number + 1)
        for step in (self._gate, self._offset, self._inner, self._normalization):
            step()
        if not self._append() and not self._newest():
            self._shortcut_and_activation()
            self._limit()
        if found.falls.any():
            groups = int(self.fields["groups"])
            self.planes = [_turned(planes, found.falls, groups, self.channels) for planes in self.planes]
        self.constants |= {"planes": np.concatenate(self.planes), "scale": np.concatenate(self.scales)}
        self.fields["samplings"] = tuple(self.samplings)
        self.graph.put(
            self.last, Operation("binary_unit", {"x": self.x} | self.inputs, self.fields, self.constants, self.name)
        )

    def _sign(self) -> tuple[int, Operation] | None:
        """The sign of what is convolved; a branch that samples it is known to be one."""
        value = self.conv.inputs["x"]
        operation = self.graph.maker(value)
        if operation is not None and operation.kind == "shift_quarters" and self.fields["kernel"] == (1, 1):
            self.samplings = [str(operation.fields["sampling"])]
            value = operation.inputs["x"]
            operation = self.graph.maker(value)
        if operation is not None and operation.kind == "pool":
            value, operation = self._before_pooling(value, operation)
        elif operation is not None and operation.kind == "reshape":
            value, operation = self._before_reshape(value, operation)
        if operation is None or operation.kind != "binarize":
            return None
        return value - 1, operation

    def _before_pooling(self, value: int, pool: Operation) -> tuple[int, Operation | None]:
        """A sign whose max pooling is convolved becomes the sign of the pooled map, which is the same."""
        sign = self.graph.maker(pool.inputs["x"])
        is_max = pool.fields["name"] == "max" and self.graph.only_user(value) is not None
        if (
            not is_max
            or sign is None
            or sign.kind != "binarize"
            or "threshold" in sign.inputs
            or "falls" in sign.constants
        ):
            return value, pool
        self.graph.put(value - 1, replace(pool, inputs={"x": sign.inputs["x"]}))
        return value, replace(sign, inputs={"x": value})

    def _before_reshape(self, value: int, reshape: Operation) -> tuple[int, Operation | None]:
        """A sign whose map is flattened and then convolved becomes the sign of the flattened map, which is the same.

        It is where each new channel is of one channel of the map.
        """
        sign = self.graph.maker(reshape.inputs["x"])
        before, after = self.graph.shapes[reshape.inputs["x"]][0], self.graph.shapes[value][0]
        is_read_alone = self.graph.only_user(value) is not None
        if not is_read_alone or sign is None or sign.kind != "binarize" or "threshold" in sign.inputs or after % before:
            return value, reshape
        constants = {key: np.repeat(_spread(array, before), after // before) for key, array in sign.constants.items()}
        self.graph.put(value - 1, replace(reshape, inputs={"x": sign.inputs["x"]}))
        return value, replace(sign, inputs={"x": value}, constants=constants)

    def _next(self, kind: str) -> tuple[int, Operation] | None:
        """What alone reads the unit's output so far, if it is of a kind."""
        found = self.graph.only_user(self.last + 1)
        return found if found and found[1].kind == kind else None

    def _other(self, operation: Operation) -> int:
        """The other operand."""
        a, b = operation.inputs["a"], operation.inputs["b"]
        return b if a == self.last + 1 else a

    def _branches(self, sign: int) -> None:
        """Further convolutions of the same bits that are added: BCDNet's sampled branches."""
        while (found := self._next("add")) and self._is_branch(self._other(found[1]), sign):
            conv = self.graph.maker(self._other(found[1]))
            assert conv is not None
            sampled = self.graph.maker(conv.inputs["x"])
            assert sampled is not None
            self.samplings.append(str(sampled.fields["sampling"]) if sampled.kind == "shift_quarters" else "none")
            self.planes.append(conv.constants["planes"][0])
            self.scales.append(conv.constants["scale"])
            self.last = found[0]

    def _is_branch(self, value: int, sign: int) -> bool:
        conv = self.graph.maker(value)
        if conv is None or conv.kind != "low_bit_conv" or obstacle(conv) or self.graph.only_user(value) is None:
            return False
        if conv.fields["kernel"] != (1, 1) or self.fields["kernel"] != (1, 1):
            return False
        if any(conv.fields[key] != self.conv.fields[key] for key in conv.fields) or len(self.planes) == 3:
            return False
        if {"scores"} & {*conv.inputs, *self.conv.inputs}:
            return False
        sampled = self.graph.maker(conv.inputs["x"])
        return conv.inputs["x"] == sign or (
            sampled is not None and sampled.kind == "shift_quarters" and sampled.inputs["x"] == sign
        )

    def _per_image(self, kind: str, name: str) -> None:
        found = self._next(kind)
        if found and self.graph.shapes[other := self._other(found[1])] in ((self.channels, 1, 1), (1, 1, 1)):
            if self.graph.shapes[self.last + 1] == (self.channels, 1, 1):
                return  # a map of one pixel
            self.inputs[name], self.last = other, found[0]

    def _gate(self) -> None:
        self._per_image("multiply", "gate")

    def _offset(self) -> None:
        self._per_image("add", "offset")

    def _inner(self) -> None:
        """A PReLU or ReLU that a normalization follows."""
        slope = None
        if (found := self._next("prelu")) and found[1].constants.keys() == {"slope"}:
            slope = found[1].constants["slope"]
        elif (found := self._next("clip")) and _is_relu(found[1]):
            slope = np.zeros(1, np.float32)
        behind = self.graph.only_user(found[0] + 1) if found else None
        if slope is not None and found and behind and _is_of_channels(behind[1], self.channels):
            self.constants["inner_slope"], self.last = _spread(slope, self.channels), found[0]

    def _normalization(self) -> None:
        if (found := self._next("scale_shift")) and _is_of_channels(found[1], self.channels):
            self.constants |= found[1].constants
            self.last = found[0]

    def _append(self) -> bool:
        """The output behind the channels of the input."""
        found = self._next("concat")
        if not found or list(found[1].inputs.values()) != [self.x, self.last + 1] or "alpha" in self.constants:
            return False
        self.fields["append"], self.last = 1, found[0]
        return True

    def _newest(self) -> bool:
        """The output added to the last channels of the input."""
        found = self._next("add")
        if not found or "alpha" in self.constants:
            return False
        kept = self.graph.shapes[self.x][0] - self.channels
        if kept <= 0 or not self._is_slice(self._other(found[1]), kept, END):
            return False
        joined = self.graph.only_user(found[0] + 1)
        if not joined or joined[1].kind != "concat" or len(joined[1].inputs) != 2:
            return False
        older, newest = joined[1].inputs.values()
        if newest != found[0] + 1 or not self._is_slice(older, 0, kept):
            return False
        self.fields["shortcut"], self.last = "same", joined[0]
        return True

    def _is_slice(self, value: int, start: int, stop: int) -> bool:
        found = self.graph.maker(value)
        wanted = {"axis": 0, "start": start, "stop": stop, "step": 1}
        return found is not None and found.kind == "slice" and found.inputs["x"] == self.x and found.fields == wanted

    def _shortcut_and_activation(self) -> None:
        if self._shortcut():
            self._activation()
            return
        before = self.last
        self._activation()
        if self.last != before:
            self.fields["activation_first"] = int(self._shortcut())

    def _shortcut(self) -> bool:
        found = self._next("add")
        if not found:
            return False
        other = self._other(found[1])
        if self.graph.shapes[other] != self.graph.shapes[self.last + 1]:
            return False
        self.fields["shortcut"] = self._kind_of_shortcut(other)
        if self.fields["shortcut"] == "given":
            self.inputs["shortcut"] = other
        self.last = found[0]
        return True

    def _kind_of_shortcut(self, value: int) -> str:
        if value == self.x:
            return "same"
        made = self.graph.maker(value)
        halving = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "ceil": 1, "name": "average"}
        if made is None or set(made.inputs.values()) != {self.x}:
            return "given"
        if made.kind == "pool" and all(made.fields[key] == value for key, value in halving.items()):
            return "average-pool"
        return "duplicate" if made.kind == "concat" and len(made.inputs) == 2 else "given"

    def _activation(self) -> None:
        if (found := self._next("prelu")) and "positive" not in found[1].constants:
            self.constants |= {key: _spread(array, self.channels) for key, array in found[1].constants.items()}
            self.last = found[0]
        elif (found := self._next("clip")) and _is_relu(found[1]):
            self.constants["slope"] = np.zeros(self.channels, np.float32)
            self.last = found[0]

    def _limit(self) -> None:
        if (found := self._next("clip")) and found[1].fields["low"] == -float(found[1].fields["high"]):  # type: ignore[arg-type]
            self.fields["limit"], self.last = found[1].fields["high"], found[0]


def _spread(array: Array, channels: int) -> Array:
    return np.broadcast_to(array, (channels,)).copy()


def _threshold(graph: _Graph, sign: Operation, may_turn: bool) -> _Threshold | None:
    """The threshold of a sign, with the scales and shifts that come before it.

    Args:
        graph: The operations.
        sign: The sign.
        may_turn: Whether bits may be turned: not where a border of ones would have to be turned, too.

    Returns:
        None where bits would have to be turned but may not.
    """
    x = sign.inputs["x"]
    channels = graph.shapes[x][0]
    if "threshold" in sign.inputs:
        return _Threshold(x, inputs={"threshold": sign.inputs["threshold"]})
    threshold = _spread(sign.constants["threshold"], channels)
    falls = _spread(sign.constants["falls"] != 0, channels) if "falls" in sign.constants else np.zeros(channels, bool)
    chain: list[Operation] = []
    while (made := graph.maker(x)) is not None and made.kind == "scale_shift" and len(graph.shapes[x]) == 3:
        chain.append(made)
        x = made.inputs["x"]
    through, turned = _through(chain[::-1], threshold, falls) if chain else (threshold, falls)
    if may_turn or not turned.any():
        return _Threshold(x, {"threshold": through}, falls=turned)
    return None if falls.any() else _Threshold(sign.inputs["x"], {"threshold": threshold}, falls=falls)


def _through(chain: list[Operation], threshold: Array, falls: Array) -> tuple[Array, Array]:
    """The comparison of what a chain of scales and shifts gives as one of what it is given, exact for every float."""
    pairs = [
        tuple(torch.from_numpy(_spread(step.constants[key], len(threshold))).double() for key in ("alpha", "beta"))
        for step in chain
    ]
    turned = torch.zeros(len(threshold), dtype=torch.bool)
    constant = torch.zeros(len(threshold), dtype=torch.bool)
    for alpha, _ in pairs:
        turned ^= alpha < 0
        constant |= alpha == 0
    wanted = torch.from_numpy(threshold)

    def reaches(x: torch.Tensor) -> torch.Tensor:
        for alpha, beta in pairs:
            x = (alpha * x.double() + beta).float()  # rounded as the operation does
        return x >= wanted

    found = least_reaching(lambda x: reaches(x) ^ turned, len(threshold))
    always = torch.where(reaches(torch.zeros(len(threshold))), -math.inf, math.inf)
    return torch.where(constant, always, found).numpy(), falls ^ (turned & ~constant).numpy()


def _turned(planes: Array, falls: Array, groups: int, channels: int) -> Array:
    """Weights, maybe several sets, with the signs of some input channels turned, to match turned bits."""
    rows, taps, _ = planes.shape
    masks = [
        packed_bits(np.broadcast_to(part[None, :, None], (1, len(part), taps)).astype(np.uint8))
        for part in np.split(falls, groups)
    ]
    of_a_set = np.repeat(np.concatenate(masks), channels // groups, axis=0)
    turned: Array = planes ^ np.tile(of_a_set, (rows // channels, 1, 1))
    return turned


def low_bit_layers(plan: Plan) -> Iterator[tuple[str, str]]:
    """Every layer of few bits, with "" where it is part of a unit, and else why it stands alone."""
    for operation in plan.operations:
        if operation.kind in ("binary_unit", "binary_attention"):
            yield operation.name, ""
        elif operation.kind == "low_bit_conv":
            yield operation.name, obstacle(operation) or "its input is no sign"
        elif operation.kind in ("conv", "linear") and (reason := obstacle_to_signs(plan, operation)):
            yield operation.name, reason
