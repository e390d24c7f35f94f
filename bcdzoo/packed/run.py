"""Run a plan on the engine."""

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bcdzoo.errors import BcdzooError
from bcdzoo.packed import native
from bcdzoo.plan.file import encode
from bcdzoo.plan.operations import LOW_BIT, Operation
from bcdzoo.plan.plan import Plan, shapes_of
from bcdzoo.text import printable, say


@cache
def say_once(message: str) -> None:
    """Print a note on stderr, once in a process: a plan is made anew for each size of images."""
    say(message)


class PlanRunner:
    """A plan that is ready to run: all of it in the engine, on as many threads as torch has.

    Args:
        plan: Plan; the last operation may give a map.

    Attributes:
        shapes: Shapes of the plan's values.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan, self.shapes = plan, shapes_of(plan)
        self._native: Any = None

    @property
    def network(self) -> Any:
        """The engine's network.

        Raises:
            BcdzooError: The engine refuses the plan.
        """
        if self._native is None:
            module = native.kernels()
            assert module is not None  # without kernels nothing runs here
            content = np.frombuffer(encode(self.plan), np.uint8)
            try:
                self._native = module.Network(content, hashed=False, map=True)
            except (ValueError, MemoryError) as error:
                raise BcdzooError(f"this network cannot be packed: {printable(str(error), 300)}") from None
            if slow := sum(each.kind in LOW_BIT for each in self.slow):
                of = printable(self.plan.model or "this plan", 100)
                say_once(
                    f"{of}: {slow} of its low-bit operations {'runs' if slow == 1 else 'run'} by the engine's slow "
                    "reference: `bcdzoo explain MODEL --plan` names them"
                )
        return self._native

    @property
    def slow(self) -> list[Operation]:
        """Operations that no kernel knows; they run by the engine's slow reference."""
        return [self.plan.operations[number] for number in self.network.slow]

    def __call__(self, images: Tensor) -> Tensor:
        """What the last operation gives, of images, finite float32 of shape (N, C, H, W) on the CPU."""
        return self._run(images, None)

    def nanoseconds(self, images: Tensor) -> npt.NDArray[np.int64]:
        """Run images, and return the time that each operation took, all threads together."""
        spent = np.zeros(len(self.plan.operations), np.int64)
        self._run(images, spent)
        return spent

    def _run(self, images: Tensor, spent: npt.NDArray[np.int64] | None) -> Tensor:
        if tuple(images.shape[1:]) != self.plan.input_shape:
            raise BcdzooError(
                f"this plan is for images of {_size(self.plan.input_shape)}, not {_size(tuple(images.shape[1:]))}"
            )
        shape = self.shapes[-1]
        out = np.empty((len(images), int(np.prod(shape))), np.float32)
        threads, instructions = torch.get_num_threads(), native.chosen()
        try:
            self.network.run(images.detach().numpy(), out, threads, instructions, spent)
        except ValueError as error:
            raise BcdzooError(str(error)) from None
        return torch.from_numpy(out).reshape(-1, *shape)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_native": None}


def _size(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
