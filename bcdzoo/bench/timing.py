"""Time calls that take turns, so that what else the machine does meets all of them."""

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch

SECONDS = 0.5
"""Of one turn, at least."""

Key = TypeVar("Key")


@torch.inference_mode()
def times(
    calls: Mapping[Key, Callable[[], Any]],
    rounds: int = 3,
    during: Callable[[Key], AbstractContextManager[None]] = lambda _: nullcontext(),
) -> dict[Key, list[float]]:
    """Measure the seconds of each call, in several rounds in which all take turns.

    Args:
        calls: What is called.
        rounds: Number of rounds.
        during: What a turn runs in.
    """
    found: dict[Key, list[float]] = {key: [] for key in calls}
    for call in calls.values():
        call()  # compiles, allocates
    for _ in range(rounds):
        for key, call in calls.items():
            with during(key):
                end = time.perf_counter() + SECONDS
                while (start := time.perf_counter()) < end:
                    call()
                    found[key].append(time.perf_counter() - start)
    return found
