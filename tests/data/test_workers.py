import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch.utils.data import DataLoader, Dataset

from bcdzoo.data.imagenet import open_dataset
from bcdzoo.data.pixels import Pixels, loader
from bcdzoo.data.preprocess import parse
from bcdzoo.data.workers import interruptible, started
from tests.noise import noise

IN_A_FORK: list[int] = []
"""Signals to send in Python's hooks around the next forks, where an exception would be dropped."""


def hook() -> None:
    if IN_A_FORK and IN_A_FORK[0] == os.getpid():
        os.kill(os.getpid(), signal.SIGINT)


os.register_at_fork(before=hook)


@pytest.fixture
def interrupted() -> Iterator[None]:
    IN_A_FORK.append(os.getpid())
    yield
    IN_A_FORK.clear()


class Handlers(Dataset[bool]):
    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> bool:
        return signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("interrupted")
def test_an_interrupt_while_workers_are_started_is_not_lost(tmp_path: Path) -> None:
    images = open_dataset(noise(tmp_path / "images", 8), 10)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        loader(Pixels(images, [parse("resize=16,crop=16").geometry]), [[0], [1]], workers=2)
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.usefixtures("interrupted")
def test_a_handler_of_the_callers_own_gets_the_interrupt() -> None:
    seen = []
    before = signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
    try:
        assert [bool(batch) for batch in started(DataLoader(Handlers(), num_workers=1, worker_init_fn=interruptible))]
    finally:
        signal.signal(signal.SIGINT, before)
    assert seen == [signal.SIGINT]


def test_workers_end_at_an_interrupt_as_usual_and_ignore_it_where_the_caller_does() -> None:
    def in_workers() -> list[bool]:
        made = DataLoader(Handlers(), num_workers=1, worker_init_fn=interruptible)
        return [bool(batch) for batch in started(made)]

    assert in_workers() == [True, True]
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        assert in_workers() == [False, False]
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_than_the_main_one_start_workers_too() -> None:
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.extend(map(bool, started(DataLoader(Handlers())))))
    thread.start()
    thread.join(60)
    assert found == [True, True]
