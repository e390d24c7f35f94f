"""Random plans on the engine, with every instruction set, against numpy."""

import numpy as np
import pytest

from bcdzoo.packed import native
from bcdzoo.plan.file import encode
from bcdzoo.plan.operations import Array
from bcdzoo.plan.plan import Plan
from tests.engine.random_plans import random_plan
from tests.packed.instructions import each_instruction_set


def disagreement(plan: Plan, images: Array, expected: Array, exact: bool, instructions: str) -> str:
    """What the engine gives otherwise than it should; "" if nothing."""
    module = native.kernels()
    assert module is not None
    network = module.Network(np.frombuffer(encode(plan), np.uint8), hashed=False, map=True)
    flat = expected.reshape(len(images), -1)
    first: Array | None = None
    for threads, batch in ((1, 5), (1, 1), (2, 1), (2, 5), (3, 1), (3, 5)):
        for given in (np.full_like(images[:1], np.nan), images[:batch]):  # what was in the memory before must not matter
            got = np.full((len(given), flat.shape[1]), np.nan, np.float32)
            network.run(given, got, threads, instructions)
        where = f"{instructions}, {threads} threads, batch of {batch}"
        if first is None:
            tolerance = 0.0 if exact else 2e-5 * float(np.abs(flat).max())
            if not np.allclose(got, flat, rtol=0, atol=tolerance, equal_nan=False):
                return f"{where}: {np.argwhere(~(np.abs(got - flat) <= tolerance))[:3].tolist()} differ"
            first = got
        elif not np.array_equal(got, first[:batch]):
            return f"{where}: {np.argwhere(got != first[:batch])[:3].tolist()} differ from those of one thread"
    return ""


@each_instruction_set
@pytest.mark.parametrize("large", [False, True])
def test_random_plans_give_what_numpy_gives(large: bool, instructions: str) -> None:
    for seed in range(8 if large else 60):
        said = disagreement(*random_plan(seed, large), instructions)
        assert not said, (seed, said)
