"""Time calls that take turns, so that what else the machine does meets all of them."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple, TypeVar

import torch

SECONDS = 0.5
"""Of one turn, at least."""

Key = TypeVar("Key")


class Time(NamedTuple):
    """Seconds of one call.

    Attributes:
        wall: Those that passed.
        processor: Those that the processor worked on it, all threads together: what else runs on the machine does not
            lengthen them, but for what it takes from the caches.
    """

    wall: float
    processor: float


@torch.inference_mode()
def times(
    calls: Mapping[Key, Callable[[], Any]],
    rounds: int = 3,
    during: Callable[[Key], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> dict[Key, list[Time]]:
    """Measure the time of each call, in several rounds in which all take turns.

    Args:
        calls: What is called.
        rounds: Number of rounds.
        during: What a turn runs in.
    """
    found: dict[Key, list[Time]] = {key: [] for key in calls}
    for call in calls.values():
        call()  # compiles, allocates
    for _ in range(rounds):
        for key, call in calls.items():
            with during(key):
                end = time.perf_counter() + SECONDS
                while (start := time.perf_counter()) < end:
                    worked = time.process_time()
                    call()
                    worked = time.process_time() - worked
                    found[key].append(Time(time.perf_counter() - start, worked))
    return found
