"""A plan: operations in sequence, from images to logits, with what belongs to them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from bcdzoo.plan.operations import Operation, PlanError, Shape, check_operation

MOST_OPERATIONS = 1 << 16


@dataclass(frozen=True)
class Plan:
    """Operations, each on the images or on what earlier ones give; the last one gives the logits, or in memory a map.

    Attributes:
        input_shape: Channels, height and width of an image.
        operations: Operations in sequence.
        model: Name of the network.
        preprocess: Preprocessing of its images, in full; "" if unknown.
        class_names: Names of the logits; empty if unknown.
        provenance: Where it comes from: hash and licence of the weights, versions.
    """

    input_shape: Shape
    operations: tuple[Operation, ...]
    model: str = ""
    preprocess: str = ""
    class_names: tuple[str, ...] = ()
    provenance: Mapping[str, str] = field(default_factory=dict)

    @property
    def outputs(self) -> int:
        """Number of logits."""
        return shapes_of(self)[-1][0]


def shapes_of(plan: Plan, input_shape: Shape | None = None) -> list[Shape]:
    """Check a plan.

    Args:
        plan: Plan.
        input_shape: Shape of the images; the plan's own if omitted.

    Returns:
        The shapes of its values: that of the images, and what each operation gives.

    Raises:
        PlanError: An operation is wrong; the message names it.
    """
    if not 0 < len(plan.operations) <= MOST_OPERATIONS:
        raise PlanError(f"a plan has 1 to {MOST_OPERATIONS} operations")
    shapes = [input_shape or plan.input_shape]
    for number, operation in enumerate(plan.operations):
        where = f"operation {number} ({operation.kind} of {operation.name})"
        if not all(0 <= value <= number for value in operation.inputs.values()):
            raise PlanError(f"{where}: an input is no earlier value")
        try:
            shapes.append(check_operation(operation, {key: shapes[value] for key, value in operation.inputs.items()}))
        except PlanError as error:
            raise PlanError(f"{where}: {error}") from None
    return shapes


def last_uses(plan: Plan) -> list[int]:
    """The last operation that reads each value; for the logits one that does not exist."""
    last = list(range(-1, len(plan.operations)))
    for number, operation in enumerate(plan.operations):
        for value in operation.inputs.values():
            last[value] = number
    last[-1] = len(plan.operations)
    return last


def without_dead(plan: Plan) -> Plan:
    """A plan without operations that nothing reads."""
    needed = {len(plan.operations)}
    for number in range(len(plan.operations), 0, -1):
        if number in needed:
            needed |= set(plan.operations[number - 1].inputs.values())
    new = {old: i for i, old in enumerate(sorted(needed | {0}))}
    kept = [
        replace(operation, inputs={key: new[value] for key, value in operation.inputs.items()})
        for number, operation in enumerate(plan.operations, 1)
        if number in needed
    ]
    return replace(plan, operations=tuple(kept))
