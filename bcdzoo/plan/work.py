"""The products that a plan cannot do without: of bits, and of real numbers."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from bcdzoo.plan.operations import LOW_BIT, Operation, Shape, experts, window
from bcdzoo.plan.plan import Plan, shapes_of


class Work(NamedTuple):
    """Multiply-accumulates for one image.

    Attributes:
        binary: Those of bits; a layer of several bits or bases counts each pair of bit planes.
        real: Those of real numbers, in convolutions and linear layers.
    """

    binary: int
    real: int


def work(plan: Plan) -> Work:
    """Count the products of a plan; those with a border's numbers are none.

    A border of zeros adds nothing, and one of ±1 a constant.
    """
    of_operations = work_of(plan)
    return Work(sum(each.binary for each in of_operations), sum(each.real for each in of_operations))


def work_of(plan: Plan) -> list[Work]:
    """Count the products of each operation of a plan."""
    shapes = shapes_of(plan)
    return [_work(plan, operation, shapes) for operation in plan.operations]


def bit_products(plan: Plan) -> list[int]:
    """Products of bits of each operation, those with a border's numbers among them, as layers count them."""
    shapes = shapes_of(plan)
    return [_bit_products(plan, each, shapes, out) for each, out in zip(plan.operations, shapes[1:], strict=True)]


def _bit_products(plan: Plan, operation: Operation, shapes: Sequence[Shape], out: Shape) -> int:
    if operation.kind == "binary_attention":
        return _of_attention(operation, shapes)
    if operation.kind not in LOW_BIT:
        return 0
    kernel: Any = operation.fields["kernel"]
    return _planes(plan, operation, shapes) * math.prod((*kernel, *out[-2:]))


def _of_attention(operation: Operation, shapes: Sequence[Shape]) -> int:
    """A query with a key, and a weight with a value, in each channel."""
    return 2 * math.prod(shapes[operation.inputs["query"]]) * math.prod(shapes[operation.inputs["key"]][1:])


def _planes(plan: Plan, operation: Operation, shapes: Sequence[Shape]) -> int:
    """Products of bits for one output pixel and tap: pairs of planes and channels."""
    shape = shapes[operation.inputs["x"]]
    fields: Any = operation.fields
    rows = math.prod(operation.constants["planes"].shape[:-2])  # of all bit planes and bases of the weights
    given = plan.operations[operation.inputs["x"] - 1].kind if operation.inputs["x"] else ""
    a_bits = 1 if given == "encode" else fields.get("a_bits", 1)  # a learned basis has a bit for each number
    sets = experts({role: shapes[value] for role, value in operation.inputs.items()})  # of which an image has one
    return int(rows // sets * a_bits * math.prod(shape[:-3]) * (shape[-3] // fields["groups"]))


def _work(plan: Plan, operation: Operation, shapes: Sequence[Shape]) -> Work:
    shape, constants = shapes[operation.inputs.get("x", 0)], operation.constants
    fields: Any = operation.fields
    if operation.kind == "binary_attention":
        return Work(_of_attention(operation, shapes), 0)
    if operation.kind in LOW_BIT:
        return Work(_planes(plan, operation, shapes) * _pairs(operation, shape, fields["kernel"]), 0)
    if operation.kind == "conv":
        c_out, c_in, *kernel = constants["weight"].shape
        return Work(0, c_out * c_in * _pairs(operation, shape, kernel))
    if operation.kind in ("linear", "context"):
        return Work(0, sum(array.size for array in constants.values() if array.ndim == 2))
    return Work(0, 0)


def _pairs(operation: Operation, shape: Shape, kernel: Sequence[int]) -> int:
    """Pairs of an output pixel and a tap that lies inside the map."""
    return math.prod(
        _pairs_along(size, taps, operation, axis)
        for axis, (size, taps) in enumerate(zip(shape[-2:], kernel, strict=True))
    )


def _pairs_along(size: int, taps: int, operation: Operation, axis: int) -> int:
    fields: Any = operation.fields
    out, before, _ = window(size, taps, operation, axis)
    stride, found = fields["stride"][axis], 0
    for tap in range(taps):
        offset = tap * fields["dilation"][axis] - before
        first, last = max(-(offset // stride), 0), min((size - 1 - offset) // stride, out - 1)
        found += max(last - first + 1, 0)
    return found
