"""Binary units in narrow groups as one for each group: the engine's kernels compute 32 channels of a group at once."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from bcdzoo.plan.operations import Operation, Shape
from bcdzoo.plan.plan import Plan, shapes_of

_PANEL = 32  # channels that a kernel computes at once
_JOINED = 64  # inputs of a concatenation
_MOST = 1024  # groups, so that a plan does not grow without bounds


def without_groups(plan: Plan) -> Plan:
    """Split the units of whose groups no kernel computes whole ones, and join what the parts give.

    Args:
        plan: Plan, fused.

    Returns:
        A plan that gives the same, bit for bit.
    """
    shapes = shapes_of(plan)
    operations: list[Operation] = []
    now = [0]  # what the number of each value is now

    def put(operation: Operation) -> int:
        operations.append(operation)
        return len(operations)

    for old in plan.operations:
        of_inputs = {key: shapes[value] for key, value in old.inputs.items()}
        operation = replace(old, inputs={key: now[value] for key, value in old.inputs.items()})
        if _can_be_split(operation, of_inputs):
            groups: Any = operation.fields["groups"]
            parts = [_part(operation, of_inputs, group, groups, put) for group in range(groups)]
            while len(parts) > _JOINED:
                parts = [put(_joined(parts[i : i + _JOINED], old.name)) for i in range(0, len(parts), _JOINED)]
            operation = _joined(parts, old.name)
        now.append(put(operation))
    return replace(plan, operations=tuple(operations))


def _can_be_split(operation: Operation, shapes: dict[str, Shape]) -> bool:
    """Whether it is a unit of whose inputs each group has its share."""
    fields: Any = operation.fields
    if operation.kind != "binary_unit" or not 1 < fields["groups"] <= _MOST:
        return False
    if fields["samplings"] != ("none",) or fields["shortcut"] == "duplicate" or fields["append"]:
        return False
    groups, c_out = fields["groups"], len(operation.constants["planes"])
    if fields["shortcut"] == "same" and shapes["x"][0] != c_out:
        return False
    is_narrow = c_out // groups % _PANEL
    return bool(is_narrow) and "scores" not in shapes and all(shape[0] % groups == 0 for shape in shapes.values())


def _joined(parts: list[int], name: str) -> Operation:
    return Operation("concat", {f"x{i}": part for i, part in enumerate(parts)}, name=name)


def _part(
    operation: Operation, shapes: dict[str, Shape], group: int, groups: int, put: Callable[[Operation], int]
) -> int:
    """Put the unit of one group; every constant has a number for each channel of the input or the output."""

    def share(count: int) -> tuple[int, int]:
        return count * group // groups, count * (group + 1) // groups

    inputs = {}
    for key, value in operation.inputs.items():
        start, stop = share(shapes[key][0])
        inputs[key] = put(
            Operation("slice", {"x": value}, {"axis": 0, "start": start, "stop": stop, "step": 1}, name=operation.name)
        )
    constants = {key: array[slice(*share(len(array)))].copy() for key, array in operation.constants.items()}
    fields = {**operation.fields, "groups": 1}
    return put(Operation(operation.kind, inputs, fields, constants, operation.name))
