"""The 1-bit engine beside what else runs on this CPU, all in one run.

    python -m benchmarks.packed [--threads 2] [--batch-size 16] [--every] [--lce PYTHON] [--authors path/to/BCDNet]

Prints images per second of packed networks, the best and the median of calls in which all alternate, with the share of
their limit (what the arithmetic alone would allow, :mod:`bcdzoo.plan.work`); of torch's, and of OpenVINO's ResNet-18,
if that is installed (``pip install 'bcdzoo[openvino]'``); the ratios beside the goals; the time of one image; and the
peak memory of a process that runs a batch. With ``--every``, the share of the limit of every low-bit network for
images of 224 pixels; with ``--lce``, a Python that has larq-compute-engine (benchmarks/larq_engine.py), what that
gives; with ``--authors``, a checkout of Sense-GVT/BCDNet, BCDNet-A as its authors run it.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import click
import torch
from torch import Tensor

import bcdzoo
from bcdzoo.bench import timing
from bcdzoo.bits import REAL
from bcdzoo.layers.int8 import with_int8
from bcdzoo.packed import native
from bcdzoo.packed.bench import Rates, limit, rates
from bcdzoo.packed.pack import PackedNetwork
from bcdzoo.registry import find
from bcdzoo.text_table import Column, table
from benchmarks import openvino_peer
from benchmarks.torch_path import authors_network

PACKED = (
    "bcdnet-a",
    "bcdnet-b",
    "reactnet-a",
    "birealnet-18",
    "meliusnet-22",
    "dorefa-r18-w2a2",
    "sabnn-50",
    "bnext-t",
)
TORCH = ("bcdnet-a", "resnet-18", "dorefa-r18-w2a2", "sabnn-50", "bnext-t")
LARQ = {"MeliusNet22": "meliusnet-22", "BiRealNet": "birealnet-18"}
SIZE = 224

INT8 = "resnet18, OpenVINO int8"
RATIOS = (
    ("bcdnet-a, packed", INT8, 1.4),
    ("bcdnet-b, packed", "bcdnet-a, packed", 0.8),
    ("reactnet-a, packed", INT8, 1.35),
    ("birealnet-18, packed", INT8, 1.5),
    ("meliusnet-22, packed", INT8, 0.85),
    ("dorefa-r18-w2a2, packed", "dorefa-r18-w2a2, torch", 3.0),
    ("sabnn-50, packed", "sabnn-50, torch", 3.0),
    ("bnext-t, packed", "bnext-t, torch", 3.0),
    ("bcdnet-a, packed", "bcdnet-a, torch", None),
    ("bcdnet-a, packed", "resnet-18, torch", None),
)
SHARE_GOAL, ONE_IMAGE_GOAL = 0.55, 4.0

MEMORY = """
import sys, torch, bcdzoo
from bcdzoo.layers.int8 import with_int8
torch.set_num_threads(int(sys.argv[2]))
network = bcdzoo.create_model("bcdnet-a").eval()
if sys.argv[1] == "packed":
    network = bcdzoo.pack(network)
network = with_int8(network)
images = torch.randn(32, 3, 224, 224)
with torch.inference_mode():
    network(images)
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
"""


class Speed(NamedTuple):
    """Images per second of the quickest call and of the middle one."""

    best: float
    median: float


def speed_of(seconds: list[float], images: int) -> Speed:
    return Speed(images / min(seconds), images / median(seconds))


def times(networks: dict[str, Callable[[Tensor], Any]], images: Tensor, rounds: int) -> dict[str, list[float]]:
    found = timing.times({name: partial(network, images) for name, network in networks.items()}, rounds)
    return {name: [each.wall for each in calls] for name, calls in found.items()}


def memory(backend: str, threads: int) -> float:
    """Peak resident memory of a process that runs one batch, in MiB."""
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, backend, str(threads)], capture_output=True, text=True, check=True
    )
    return int(done.stdout) / 1024


def larq(python: Path, network: str, threads: int) -> float:
    command = [str(python), str(Path(__file__).with_name("larq_engine.py")), network, "8", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise click.ClickException(f"{network} in larq-compute-engine: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout.split()[-1])


def openvino_rows(images: Tensor, threads: int) -> dict[str, Callable[[Tensor], Any]]:
    if reason := openvino_peer.missing():
        print(f"OpenVINO's rows are dashes: {reason}")
        return {}
    return {f"resnet18, OpenVINO {name}": run for name, run in openvino_peer.resnet18(images, threads).items()}


def with_faster_streams(speed: dict[str, Speed]) -> dict[str, Speed | None]:
    """The same with a row for each of OpenVINO's precisions: the faster number of streams, None if it is missing."""
    prefix = "resnet18, OpenVINO"
    rows: dict[str, Speed | None] = {name: value for name, value in speed.items() if not name.startswith(prefix)}
    for precision in openvino_peer.PRECISIONS:
        of_precision = (value for name, value in speed.items() if name.startswith(f"{prefix} {precision}, "))
        rows[f"{prefix} {precision}"] = max(of_precision, default=None)
    return rows


def share(network: Any, speed: float, of: Rates) -> float | None:
    plan = network.plan((3, SIZE, SIZE)) if isinstance(network, PackedNetwork) else None
    return None if plan is None else speed / limit(plan, of).images_per_second


def every(images: Tensor, of: Rates) -> Iterator[tuple[str, str, str]]:
    """Images per second and share of the limit of every low-bit network at 224 pixels, one after another."""
    for name in bcdzoo.list_models():
        spec = find(name)
        if spec.input_size != SIZE or all(bits.a_bits == REAL.a_bits for bits in spec.bits):
            continue
        network = bcdzoo.pack(bcdzoo.create_model(name))
        speed = speed_of(times({name: network}, images, rounds=1)[name], len(images)).best
        yield name, f"{speed:.1f}", _percent(share(network, speed, of))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.0f} %"


def _show(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    first, *others = heads
    print("\n" + table((Column(first), *(Column(head, right=True) for head in others)), rows, "markdown"))


@click.command()
@click.option("--threads", default=2, show_default=True)
@click.option("--batch-size", default=16, show_default=True)
@click.option("--rounds", default=4, show_default=True)
@click.option("--every", "all_networks", is_flag=True, help="The share of the limit of every low-bit network.")
@click.option("--lce", type=click.Path(exists=True, path_type=Path), help="Python with larq-compute-engine.")
@click.option("--authors", type=click.Path(exists=True, path_type=Path), help="Checkout of Sense-GVT/BCDNet.")
def main(
    threads: int, batch_size: int, rounds: int, all_networks: bool, lce: Path | None, authors: Path | None
) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    images = torch.randn(batch_size, 3, SIZE, SIZE)
    if all_networks:
        _show(("packed", "images/s", "of its limit"), list(every(images, rates(threads))))
        return
    plain = {name: bcdzoo.create_model(name).eval() for name in {*PACKED, *TORCH}}
    networks: dict[str, Callable[[Tensor], Any]] = {f"{name}, packed": bcdzoo.pack(plain[name]) for name in PACKED}
    networks |= {f"{name}, torch": with_int8(plain[name]) for name in TORCH}
    networks |= openvino_rows(images, threads)
    if authors:
        networks["bcdnet-a, its authors' code"] = authors_network(authors).eval()
    before = rates(threads)
    measured = {name: speed_of(seconds, batch_size) for name, seconds in times(networks, images, rounds).items()}
    reached = Rates(*map(max, zip(before, rates(threads), strict=True)))
    if lce:
        measured |= {
            f"{ours}, larq-compute-engine": Speed(*[larq(lce, name, threads)] * 2) for name, ours in LARQ.items()
        }
    speed = with_faster_streams(measured)
    one = {"bcdnet-a, packed": networks["bcdnet-a, packed"]}
    latency = times(one, images[:1], rounds)["bcdnet-a, packed"]

    print(f"{threads} threads, kernels {native.chosen()}, batch {batch_size}")
    rows = []
    for name, value in speed.items():
        figures = (f"{value.best:.1f}", f"{value.median:.1f}") if value else ("–", "–")
        rows.append((name, *figures, _percent(share(networks.get(name), value.best, reached) if value else None)))
    _show(("images/s", "best", "median", "of its limit"), rows)
    _show(("ratios", "best", "median", "goal"), list(_ratios(speed)))
    print(
        f"\nlimit: the bare kernel's {reached.binary / 1e9:.0f}e9 binary operations a second, "
        f"a matrix product's {reached.real / 1e9:.0f}e9 real-valued ones; goal {SHARE_GOAL:.0%} of it"
    )
    print(
        f"bcdnet-a, one image: best {min(latency) * 1e3:.1f} ms, median {median(latency) * 1e3:.1f} ms; "
        f"goal {ONE_IMAGE_GOAL:.0f} ms"
    )
    for backend in ("packed", "torch"):
        print(f"bcdnet-a, {backend}, a batch: peak memory {memory(backend, threads):.0f} MiB")


def _ratios(speed: dict[str, Speed | None]) -> Iterator[tuple[str, ...]]:
    others = [(f"{name}, packed", other, None) for name in PACKED for other in speed if _is_elsewhere(name, other)]
    for name, other, goal in (*RATIOS, *others):
        of, over = speed[name], speed[other]
        figures = ("–", "–")
        if of and over:
            figures = (f"{of.best / over.best:.2f}", f"{of.median / over.median:.2f}")
        yield f"{name} : {other}", *figures, f"≥ {goal}" if goal else ""


def _is_elsewhere(name: str, other: str) -> bool:
    return other.startswith(f"{name}, ") and other.partition(", ")[2] not in ("packed", "torch")


if __name__ == "__main__":
    main()
