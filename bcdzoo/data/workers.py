"""Start the processes that read images ahead, without losing Ctrl-C meanwhile."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader

_FEW_IMAGES = 256  # fewer are read faster without starting worker processes


def workers_for(images: int, asked: int | None) -> int:
    """Number of processes that read images, if nobody asked for a number: one per core, up to 8; 0 for few images."""
    if asked is not None:
        return asked
    return 0 if images < _FEW_IMAGES else min(os.cpu_count() or 1, 8)


def started(loader: DataLoader[Any]) -> Iterator[Any]:
    """Return the batches of a loader, whose worker processes are started immediately.

    Args:
        loader: Loader made with ``worker_init_fn=interruptible``.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed while they were started.
    """
    with _interrupt_afterwards():
        return iter(loader)


def interruptible(worker: int) -> None:
    """Restore Ctrl-C in a worker, which was started while Ctrl-C was deferred."""
    if callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _interrupt_afterwards() -> Iterator[None]:
    # Python calls hooks of its libraries around a fork and drops exceptions in them, even KeyboardInterrupt. A
    # signal mask would not help: the signal then goes to one of torch's threads, and the exception is raised anyway.
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler) or threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[tuple[int, Any]] = []
    signal.signal(signal.SIGINT, lambda *details: caught.append(details))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
        if caught:
            handler(*caught[0])
