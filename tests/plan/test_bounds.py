"""The memory and the work that plans ask for: what is counted, and what is refused before anything is allocated."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bcdzoo.errors import BcdzooError
from bcdzoo.plan import bounds
from bcdzoo.plan.bounds import check_bounds
from bcdzoo.plan.file import encode, read_plan, write_plan
from bcdzoo.plan.operations import Operation, PlanError
from bcdzoo.plan.plan import Plan, shapes_of
from tests.plan.examples import GEOMETRY, IMAGE, POOL, bits, chain, examples, real, to_logits, unit


def pool(**fields: Any) -> Operation:
    return Operation("pool", {"x": 0}, POOL | {"padding": (0, 0), "ceil": 0} | fields)


def function(value: int) -> Operation:
    return Operation("function", {"x": value}, {"name": "tanh"})


PAD: dict[str, Any] = {"before": (0, 4096, 4096), "behind": (0, 4096, 4096), "value": 0.0}
BIG, NONE = (4096, 4096), (0, 0, 0, 0)
GREEDY: dict[str, tuple[tuple[int, int, int], tuple[Operation, ...]]] = {
    "a huge image": ((3, 1 << 24, 1 << 24), (function(0),)),
    "padding": (IMAGE, chain(2, lambda n: Operation("pad", {"x": n}, PAD))),
    "doubling": (IMAGE, chain(30, lambda n: Operation("concat", {"x0": n, "x1": n}))),
    "more than doubling": (IMAGE, chain(4, lambda n: Operation("concat", {f"x{i}": n for i in range(64)}))),
    "an outer product": (
        (1, 1 << 14, 1 << 14),
        (
            Operation("mean", {"x": 0}, {"axes": (1,), "double": 0}),
            Operation("reshape", {"x": 1}, {"shape": (1 << 14, 1, 1)}),
            Operation("multiply", {"a": 0, "b": 2}),
        ),
    ),
    "a padded map": ((4096, 1, 1), (pool(kernel=BIG, stride=BIG, padding=(2048, 2048)),)),
    "a window that hangs over": ((1024, 1, 1), (pool(kernel=BIG, stride=BIG, ceil=1),)),
    "dilation": (
        (4, 2000, 2000),
        (
            unit(
                {"shortcut": "none", "kernel": (1, 9), "padding": NONE, "same": 1, "dilation": (1, 4096)},
                planes=bits(4, 9, 1),
                threshold=real(4),
            ),
        ),
    ),
    "overlapping windows": ((1, 8000, 8000), (pool(kernel=(1024, 1024), stride=(1, 1)),)),
    "a long chain": ((1, 1 << 13, 1 << 13), chain(10_000, function)),
    "values that wait": (
        (1, 1 << 12, 1 << 12),
        (*chain(20, lambda _: function(0)), Operation("concat", {f"x{i}": i for i in range(20)})),
    ),
    "many weights at every pixel": (
        (1, 1 << 12, 1 << 12),
        (
            Operation(
                "conv",
                {"x": 0},
                GEOMETRY | {"padding": (150, 150, 150, 150), "relu": 0},
                {"weight": real(1, 1, 300, 300)},
            ),
        ),
    ),
}


@pytest.mark.parametrize("name", GREEDY)
def test_a_plan_that_asks_for_too_much_memory_or_work_is_refused(name: str, tmp_path: Path) -> None:
    image, operations = GREEDY[name]
    plan = replace(to_logits(*operations), input_shape=image)
    path = tmp_path / "net.bcz"
    with pytest.raises(BcdzooError, match=r"cannot write .*would need more than \d|too large"):
        write_plan(path, plan)
    assert not path.exists()
    path.write_bytes(encode(plan))
    with pytest.raises(BcdzooError, match=r"would need more than \d+ (steps|numbers)|too large"):
        read_plan(path)


def alive(plan: Plan) -> int:
    """Numbers that are needed at once, counted anew at every operation."""
    shapes = shapes_of(plan)
    reads = [set(each.inputs.values()) for each in plan.operations]

    def at(number: int) -> int:
        later = set().union(*reads[number:]) | {number + 1}
        return sum(math.prod(shapes[value]) for value in later if value <= number + 1)

    return max(map(at, range(len(reads))))


WITHOUT_WINDOWS = {
    name: plan for name, plan in examples().items() if not any("stride" in each.fields for each in plan.operations)
}


@pytest.mark.parametrize("plan", WITHOUT_WINDOWS.values(), ids=WITHOUT_WINDOWS)
def test_the_limit_is_reached_exactly_by_the_values_that_are_needed_at_once(
    plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounds, "MOST_NUMBERS", alive(plan))
    check_bounds(plan)
    monkeypatch.setattr(bounds, "MOST_NUMBERS", alive(plan) - 1)
    with pytest.raises(PlanError, match="an image would need more than"):
        check_bounds(plan)


@pytest.mark.parametrize(
    ("operation", "padded"),
    [
        (Operation("pool", {"x": 0}, POOL), 4 * (5 + 2) * 6),
        (Operation("pool", {"x": 0}, POOL | {"kernel": (4, 2), "padding": (0, 0)}), 4 * 6 * 6),  # one row hangs over
        (unit({}, threshold=real(4)), 4 * 7 * 8),
        (unit({"same": 1, "dilation": (9, 1)}, threshold=real(4)), 4 * (5 + 18) * (6 + 2)),
        (unit({"padding": (1, 2, 3, 4), "shortcut": "none"}, threshold=real(4)), 4 * (5 + 4) * (6 + 6)),
    ],
)
def test_a_padded_map_counts(operation: Operation, padded: int, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = to_logits(operation)
    needed = math.prod(IMAGE) + math.prod(shapes_of(plan)[1]) + padded
    monkeypatch.setattr(bounds, "MOST_NUMBERS", needed)
    check_bounds(plan)
    monkeypatch.setattr(bounds, "MOST_NUMBERS", needed - 1)
    with pytest.raises(PlanError, match="operation 0"):
        check_bounds(plan)


def test_products_of_a_convolution_count(monkeypatch: pytest.MonkeyPatch) -> None:
    conv = Operation("conv", {"x": 0}, GEOMETRY | {"relu": 0, "groups": 2}, {"weight": real(6, 2, 3, 3)})
    products, padded, numbers = 6 * 2 * 3 * 3 * 5 * 6, 4 * 7 * 8, 4 * 5 * 6 + 6 * 5 * 6
    monkeypatch.setattr(bounds, "MOST_STEPS", products + padded + numbers - 1)
    with pytest.raises(PlanError, match=r"operation 0 .* more than \d+ steps"):
        check_bounds(to_logits(conv))
    monkeypatch.setattr(bounds, "MOST_STEPS", products + padded + numbers)
    with pytest.raises(PlanError, match=r"operation 1 .* more than \d+ steps"):
        check_bounds(to_logits(conv))


def test_every_bit_of_weights_counts_at_every_pixel_and_for_every_basis(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = examples()["stack"]
    (stack, conv), pixels = plan.operations[:2], 5 * 6
    before = 2 * math.prod(IMAGE) + 2 * math.prod(IMAGE)
    weights = 64 * conv.constants["planes"].size + conv.constants["scale"].size + conv.constants["a_scale"].size
    numbers, padded = 2 * math.prod(IMAGE) + 2 * pixels * 9, 2 * 4 * 7 * 8
    assert stack.kind == "stack" and conv.kind == "low_bit_conv"
    monkeypatch.setattr(bounds, "MOST_STEPS", before + 2 * weights * pixels + numbers + padded)
    with pytest.raises(PlanError, match=r"operation 2 .* more than \d+ steps"):
        check_bounds(plan)
    monkeypatch.setattr(bounds, "MOST_STEPS", before + 2 * weights * pixels + numbers + padded - 1)
    with pytest.raises(PlanError, match=r"operation 1 .* more than \d+ steps"):
        check_bounds(plan)


def test_larger_images_than_the_plans_own_ask_for_more() -> None:
    plan = examples()["conv"]
    assert check_bounds(plan, (4, 50, 60))[0] == (4, 50, 60)
    with pytest.raises(PlanError, match="more than"):
        check_bounds(plan, (4, 1 << 14, 1 << 14))
