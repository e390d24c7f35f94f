"""Speed beside other work: packed and plain networks, evaluation and bench, quiet and beside two busy processes.

    python -m benchmarks.contention [--threads 2] [--busy 2] [--seconds 1.0]

Torch's threads spin while they wait for the next parallel part; on a busy machine they take the processor from those
they wait for. Each setting of the OpenMP runtime gets a process of its own, because it is read when torch is loaded.
Printed are images per second of wall time and of processor time, and the ratio to quiet; the goal is half of the
images per processor second.
"""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

import click

from bcdzoo.text_table import Column, table

SETTINGS: dict[str, dict[str, str]] = {
    "as torch has it": {},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=30000": {"GOMP_SPINCOUNT": "30000"},
}
GOAL = 0.5
CHILD = "--measure-here"


class Rate(NamedTuple):
    """Images per second of wall time and of processor time."""

    wall: float
    cpu: float


def cases() -> Iterator[tuple[str, int, Callable[[], object]]]:
    """Name, images of a call, and call."""
    import torch

    import bcdzoo
    from bcdzoo.data.imagenet import DEMO, open_dataset
    from bcdzoo.layers.int8 import with_int8

    def of(name: str, images: int, packed: bool) -> tuple[str, int, Callable[[], object]]:
        plain = bcdzoo.create_model(name).eval()
        network = bcdzoo.pack(plain) if packed else with_int8(plain)
        size = bcdzoo.registry.find(name).input_size
        batch = torch.randn(images, 3, size, size)
        return f"{'packed' if packed else 'torch'} {name}, batch {images}", images, lambda: network(batch)

    yield of("bcdnet-a", 8, True)
    for name in ("bcdnet-tiny", "adabin-resnet20"):
        for packed in (True, False):
            for images in (1, 32):
                yield of(name, images, packed)
    demo = open_dataset(DEMO)
    some = replace(demo, samples=demo.samples[::10])
    yield "eval bcdnet-tiny on demo images", len(some), lambda: bcdzoo.evaluate("bcdnet-tiny", some, check=False)
    calls = [of("bcdnet-tiny", 32, packed)[2] for packed in (True, False)]
    yield "packed and torch bcdnet-tiny in turns, as in bench", 64, lambda: [call() for call in calls]


def measure_here(threads: int, seconds: float) -> dict[str, Rate]:
    """Measure every case in this process."""
    import torch

    torch.set_num_threads(threads)
    found = {}
    with torch.inference_mode():
        for name, images, call in cases():
            call()
            calls, wall, cpu = 0, time.perf_counter(), time.process_time()
            while not calls or time.perf_counter() - wall < seconds:
                call()
                calls += 1
            done = images * calls
            found[name] = Rate(done / (time.perf_counter() - wall), done / (time.process_time() - cpu))
    return found


def measure(setting: dict[str, str], threads: int, seconds: float) -> dict[str, Rate]:
    """Measure every case in a process with a setting."""
    variables = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    command = [sys.executable, "-m", "benchmarks.contention", CHILD, f"--threads={threads}", f"--seconds={seconds}"]
    done = subprocess.run(command, env=variables | setting, stdout=subprocess.PIPE, text=True, check=True)
    return {name: Rate(*rates) for name, rates in json.loads(done.stdout).items()}


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """So many processes that compute all the time."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


@click.command()
@click.option("--threads", default=2, show_default=True)
@click.option("--busy", "others", default=2, show_default=True, help="Busy processes.")
@click.option("--seconds", default=1.0, show_default=True, help="Time of one case.")
@click.option(CHILD, "here", is_flag=True, hidden=True)
def main(threads: int, others: int, seconds: float, here: bool) -> None:
    if here:
        print(json.dumps(measure_here(threads, seconds)))
        return
    quiet: dict[str, dict[str, Rate]] = {}
    beside: dict[str, dict[str, Rate]] = {}
    for setting, variables in SETTINGS.items():
        print(f"measuring {setting}", file=sys.stderr)
        quiet[setting] = measure(variables, threads, seconds)
        with busy(others):
            beside[setting] = measure(variables, threads, seconds)
    heads = ("quiet: per s", "per CPU-s", f"beside {others}: per s", "per CPU-s", "ratio: per s", "per CPU-s")
    columns = (Column("case"), Column("setting"), *(Column(head, right=True) for head in heads))
    rows: list[tuple[str, ...]] = []
    for case in next(iter(quiet.values())):
        for setting in SETTINGS:
            before, after = quiet[setting][case], beside[setting][case]
            figures = [f"{value:.1f}" for value in (*before, *after)]
            rows.append((case, setting, *figures, *(f"{of / to:.2f}" for of, to in zip(after, before, strict=True))))
    print(f"{threads} threads; images per second of wall time and of processor time; goal: {GOAL} of the latter\n")
    print(table(columns, rows, "markdown"))


if __name__ == "__main__":
    main()
