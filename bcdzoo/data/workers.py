"""Starting the processes that read images ahead, so that Ctrl-C is not lost meanwhile."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils.data import DataLoader


def started(loader: DataLoader[Any]) -> Iterator[Any]:
    """The batches of a loader, whose worker processes are started at once.

    Args:
        loader: Made with ``worker_init_fn=interruptible``.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed while they were started.
    """
    with _interrupt_afterwards():
        return iter(loader)


def interruptible(worker: int) -> None:
    """Let Ctrl-C end a worker as torch expects it, though it was started while Ctrl-C had to wait."""
    if callable(signal.getsignal(signal.SIGINT)):
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _interrupt_afterwards() -> Iterator[None]:
    # Python calls hooks of its libraries around a fork and drops every exception in them, KeyboardInterrupt too. A
    # signal mask would not do: the signal then goes to one of torch's threads, and the exception comes all the same.
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
