"""How much memory and work a plan may ask for: a small file must not ask for gigabytes, or for days.

Both are for one image and follow from the shapes alone, so that they are known before anything is allocated or run.
"""

import math
from typing import Any

from bcdzoo.plan.operations import LARGEST_SIZE, WORD, Operation, PlanError, Shape
from bcdzoo.plan.plan import Plan, last_uses, shapes_of

MOST_NUMBERS = 1 << 28
"""Numbers that are needed at once, those of padded maps among them: 1 GiB of float32."""

MOST_STEPS = 1 << 40
"""Numbers touched, and products. ResNet-50 at 224×224 has 2^32 products, 5 × 5 bases 25 times as many."""


def check_bounds(plan: Plan, input_shape: Shape | None = None) -> list[Shape]:
    """Check a plan, and that it asks for no more memory and work than :data:`MOST_NUMBERS` and :data:`MOST_STEPS`.

    Args:
        plan: Plan.
        input_shape: Shape of the images; the plan's own if omitted.

    Returns:
        The shapes of its values, as :func:`bcdzoo.plan.plan.shapes_of` gives them.

    Raises:
        PlanError: An operation is wrong, or too much is asked for; the message names it.
    """
    image = input_shape or plan.input_shape
    if len(image) != 3 or not all(1 <= size <= LARGEST_SIZE for size in image):
        raise PlanError("the images are empty, too large or no maps")
    shapes, last = shapes_of(plan, image), last_uses(plan)
    if len(shapes[-1]) != 1:
        raise PlanError("the last operation does not give logits")
    live, steps = math.prod(image), 0
    for number, operation in enumerate(plan.operations):
        inputs, out = [shapes[value] for value in operation.inputs.values()], shapes[number + 1]
        padded = _padded(operation, inputs[0], out)
        live += math.prod(out)
        steps += _steps(operation, inputs, out) + padded
        if live + padded > MOST_NUMBERS or steps > MOST_STEPS:
            much = f"{MOST_STEPS} steps" if steps > MOST_STEPS else f"{MOST_NUMBERS} numbers at once"
            where = f"operation {number} ({operation.kind} of {operation.name})"
            raise PlanError(f"{where}: an image would need more than {much}")
        ended = {value for value in (*operation.inputs.values(), number + 1) if last[value] <= number}
        live -= sum(math.prod(shapes[value]) for value in ended)
    return shapes


def _padded(operation: Operation, shape: Shape, out: Shape) -> int:
    """Numbers of the padded map that a window slides over; 0 if there is no window."""
    fields: Any = operation.fields
    if "stride" not in fields:
        return 0
    kernel = fields["kernel"] if "kernel" in fields else operation.constants["weight"].shape[2:]
    padding = (0, 0) if fields.get("same") else fields["padding"]  # of a pooling: two, the same before and behind
    sizes: list[int] = []
    for axis in (0, 1):
        extent = fields.get("dilation", (1, 1))[axis] * (kernel[axis] - 1) + 1
        covered = (out[axis - 2] - 1) * fields["stride"][axis] + extent
        sizes.append(max(shape[axis - 2] + padding[axis] + padding[axis - 2], covered))
    return math.prod((*shape[:-2], *sizes))


def _steps(operation: Operation, inputs: list[Shape], out: Shape) -> int:
    """Numbers read and written, each as often as it has taps, and each weight once a pixel and basis."""
    kernel: Any = operation.fields.get("kernel", ())
    numbers: int = math.prod(out) * math.prod(kernel) + sum(map(math.prod, inputs))
    weights: int = sum(each.size * (WORD if each.dtype.kind == "u" else 1) for each in operation.constants.values())
    if operation.kind == "binary_attention":  # two products of each query, key and channel
        numbers += 2 * math.prod(out) * math.prod(inputs[1][1:])
    bases = inputs[0][0] if len(inputs[0]) == 4 else 1
    return numbers + weights * bases * math.prod(out[1:])
