"""The 1-bit engine beside what else runs on this CPU, all in one run.

    python -m benchmarks.packed [--lce PYTHON] [--authors path/to/BCDNet] [--threads 2]

Prints the images per second of BCDNet-A, MeliusNet-22 and Bi-Real-18 packed and in torch, of the real-valued ResNet-18,
and the ratios; the arithmetic limit: the bare kernel's binary multiply-accumulates per second, on data in the first
cache, over those of BCDNet-A; its latency for one image; and the peak memory of a process that runs a batch, packed and
plain. With ``--lce``, a Python that has larq-compute-engine (benchmarks/larq_engine.py), what that gives; with
``--authors``, a checkout of Sense-GVT/BCDNet, BCDNet-A as its authors run it.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import torch

import bcdzoo
from bcdzoo.layers.int8 import with_int8
from bcdzoo.packed import native
from bcdzoo.packed.bench import measure, peak
from benchmarks.torch_path import authors_network

BATCH = 32
LARQ = {"MeliusNet22": "meliusnet-22", "BiRealNet": "birealnet-18"}

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


@click.command()
@click.option("--threads", default=2, show_default=True)
@click.option("--lce", type=click.Path(exists=True, path_type=Path), help="Python with larq-compute-engine.")
@click.option("--authors", type=click.Path(exists=True, path_type=Path), help="Checkout of Sense-GVT/BCDNet.")
def main(threads: int, lce: Path | None, authors: Path | None) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    plain = {
        name: bcdzoo.create_model(name).eval() for name in ("bcdnet-a", "meliusnet-22", "birealnet-18", "resnet-18")
    }
    networks: dict[str, Callable[[torch.Tensor], Any]] = {
        f"{name}, torch": with_int8(network) for name, network in plain.items()
    }
    networks |= {f"{name}, packed": bcdzoo.pack(plain[name]) for name in plain if name != "resnet-18"}
    if authors:
        networks["bcdnet-a, its authors' code"] = authors_network(authors).eval()
    images = torch.randn(BATCH, 3, 224, 224)
    limits = [peak(threads)]
    speed = {name: BATCH / seconds for name, seconds in measure(networks, images).items()}
    limits.append(peak(threads))
    if lce:
        speed |= {f"{ours}, larq-compute-engine": larq(lce, name, threads) for name, ours in LARQ.items()}
    latency = measure({"packed": networks["bcdnet-a, packed"], "torch": plain["bcdnet-a"]}, images[:1], rounds=8)

    print(f"{threads} threads, kernels {native.chosen()}, batch {BATCH}; images/s")
    for name, value in speed.items():
        print(f"  {name:36} {value:7.1f}")
    print("ratios")
    for name, other in _pairs(speed):
        print(f"  {name} over {other}: {speed[name] / speed[other]:.1f}")
    limit = max(limits) / bcdzoo.count_ops("bcdnet-a").bops
    share = speed["bcdnet-a, packed"] / limit
    print(
        f"bare kernel {max(limits) / 1e9:.0f} G binary MACs/s: "
        f"limit of bcdnet-a {limit:.0f} images/s, {share:.0%} reached"
    )
    print(f"bcdnet-a, one image: packed {latency['packed'] * 1e3:.1f} ms, torch {latency['torch'] * 1e3:.1f} ms")
    for backend in ("packed", "torch"):
        print(f"bcdnet-a, {backend}, a batch: peak memory {memory(backend, threads):.0f} MiB")


def _pairs(speed: dict[str, float]) -> list[tuple[str, str]]:
    pairs = [("bcdnet-a, packed", "resnet-18, torch")]
    for name in speed:
        network, _, backend = name.partition(", ")
        if backend not in ("packed", "") and f"{network}, packed" in speed:
            pairs.append((f"{network}, packed", name))
    return pairs


if __name__ == "__main__":
    main()
