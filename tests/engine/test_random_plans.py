"""Random plans on the engine, with every instruction set, against numpy."""

import numpy as np
import pytest

from bcdzoo.packed import native
from bcdzoo.plan.file import encode
from bcdzoo.plan.operations import KINDS
from tests.engine.random_plans import Example, difference, random_plan

LARGE, SMALL = 12, 80


def disagreement(one: Example, instructions: str) -> str:
    """What the engine gives otherwise than it should; "" if nothing."""
    module = native.kernels()
    assert module is not None
    network = module.Network(np.frombuffer(encode(one.plan), np.uint8), hashed=False, map=True)
    size = one.expected[0].size
    expected, exact = one.expected.reshape(-1, size), one.exact
    for threads, batch in ((1, 5), (1, 1), (2, 1), (2, 5), (3, 1), (3, 5)):
        for images in (
            np.full_like(one.images[:1], 3e38),
            one.images[:batch],
        ):  # what was in the memory must not matter
            got = np.full((len(images), size), np.nan, np.float32)
            network.run(images, got, threads, instructions)
        if wrong := difference(got, expected[:batch], exact):
            return f"{instructions}, {threads} threads, {batch} images: {wrong}"
        expected, exact = (got, True) if batch == 5 else (expected, exact)
    return ""


@pytest.mark.parametrize("large", [False, True])
def test_random_plans_give_what_numpy_gives_with_every_instruction_set(large: bool) -> None:
    for seed in range(LARGE if large else SMALL):
        one = random_plan(seed, large)
        said = [wrong for instructions in native.instruction_sets() if (wrong := disagreement(one, instructions))]
        assert not said, (seed, said)


def test_random_plans_have_operations_of_every_kind() -> None:
    operations = [each for seed in range(SMALL) for each in random_plan(seed).plan.operations]
    assert {each.kind for each in operations} == KINDS.keys()
    assert {each.kind for each in operations if "scores" in each.inputs} == {"low_bit_conv", "binary_unit"}
