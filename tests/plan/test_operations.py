"""Operations that could not be run are refused by what says their shapes."""

import pytest

from bcdzoo.plan.operations import Operation, PlanError
from bcdzoo.plan.plan import shapes_of
from tests.plan.examples import LEVELS, bits, real, to_logits, unit


@pytest.mark.parametrize(
    "operations",
    [
        (Operation("mean", {"x": 0}, {"axes": (), "double": 0}),),
        (Operation("mean", {"x": 0}, {"axes": (1, 1), "double": 0}),),
        (Operation("reshape", {"x": 0}, {"shape": (0,)}), Operation("stack", {"x0": 1})),
        (LEVELS, Operation("stack", {"x0": 1})),
        (LEVELS, Operation("reshape", {"x": 1}, {"shape": (0,)})),  # the bases lie before the batch
        (LEVELS, Operation("slice", {"x": 1}, {"axis": 0, "start": 0, "stop": 1, "step": 1})),
        (unit({"groups": 3}, threshold=real(4)),),
        (unit({}, {"scores": 0}, threshold=real(4), planes=bits(16, 9, 1), scale=real(16)),),
        (unit({"shortcut": "none"}, {"scores": 1}, threshold=real(4), planes=bits(6, 9, 1), scale=real(6)),),
        (unit({"groups": 2, "shortcut": "none"}, threshold=real(4), planes=bits(3, 9, 1), scale=real(3)),),
    ],
)
def test_what_could_not_be_run_is_no_plan(operations: tuple[Operation, ...]) -> None:
    with pytest.raises(PlanError, match=f"operation {len(operations) - 1} "):
        shapes_of(to_logits(*operations))
