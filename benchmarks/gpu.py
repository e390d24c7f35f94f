"""A check of a machine's CUDA device, and its speed, in under 8 minutes; without one a small rehearsal on the CPU.

    python -m benchmarks.gpu [--out gpu] [--seconds 420]

Writes OUT.json after every part, and OUT.md at the end. Exit code 1 says that a check failed. In BCDZOO_TEST_DATA it
looks for BMXNet's networks and for photographs, in BCDNET_AUTHORS for a checkout of Sense-GVT/BCDNet; it says what it
left out because there is none. scripts/gpu.sh prepares what it needs.
"""

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import click
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

import bcdzoo
from bcdzoo.data.imagenet import open_dataset
from bcdzoo.evaluation.loop import full_precision
from bcdzoo.layers import int8_gemm
from bcdzoo.layers.binary_conv import LowBitConv2d
from bcdzoo.layers.int8 import Int8Conv2d, with_int8
from bcdzoo.registry import find
from bcdzoo.text_table import Column, table
from bcdzoo.versions import package_version
from benchmarks.torch_path import authors_network

ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
BATCH = 128 if ON_GPU else 2
SECONDS = 0.4 if ON_GPU else 0.0  # of each measurement
REHEARSED = ("bcdnet-tiny", "mobilenet-v2")
IMAGES = 2000 if ON_GPU else 64
ROOT = Path(__file__).parents[1]

TRAINED = {
    "bmxnet-r18": "binarized_imagenet-resnet18-64bit-0040.params",
    "bmxnet-r18-first-real": "binarized_imagenet-resnet18-64bit-1st-stage-fullprecision-0038.params",
}
PHOTOGRAPHS = "imagenet-photos-200.tar"
MOST_FLIPS = 0.005
"""Share of first guesses that may differ: real-valued layers round differently on each device, before a sign."""


def machine() -> dict[str, Any]:
    facts = {"torch": torch.__version__, "python": platform.python_version(), "bcdzoo": package_version()}
    if not ON_GPU:
        return facts | {"device": "no CUDA device: a rehearsal", "threads": torch.get_num_threads()}
    properties = torch.cuda.get_device_properties(DEVICE)
    return facts | {
        "device": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "int8": int8_gemm._available(DEVICE),
    }


def exact_sums() -> dict[str, Any]:
    """The low-bit convolutions of all networks, each shape once, on random levels: the device's bits and the CPU's."""
    draw = torch.Generator().manual_seed(0)
    shapes = sorted(set(_low_bit_shapes()))
    shapes = shapes if ON_GPU else shapes[:: len(shapes) // 5]
    wrong, before, left = [], [], 0
    for c_out, c_in, kernel, stride, dilation, groups, w_bits, a_bits in shapes:
        most_w, most_a = 2**w_bits - 1, 2**a_bits - 1
        x = torch.randint(-most_a, most_a + 1, (2, c_in * groups, 9, 9), generator=draw).float()
        levels = torch.randint(-most_w, most_w + 1, (c_out, c_in, kernel, kernel), generator=draw).float()
        scale = torch.rand(c_out, generator=draw)
        sums = F.conv2d(x.double(), levels.double(), None, stride, kernel // 2, dilation, groups).float()
        plain = F.conv2d(x.to(DEVICE), levels.to(DEVICE), None, stride, kernel // 2, dilation, groups).cpu()
        before.append(float((plain - sums).abs().max()))
        if not int8_gemm.fits(x, levels, groups):
            left += 1
            continue
        ours = int8_gemm.conv2d(x.to(DEVICE), levels.to(DEVICE), scale.to(DEVICE), stride, kernel // 2, dilation)
        if not torch.equal(ours.cpu(), sums * scale[:, None, None]):
            wrong.append([c_out, c_in, kernel, stride, dilation, w_bits, a_bits])
    return {
        "ok": not wrong,
        "shapes": len(shapes),
        "wrong": wrong,
        "of_other_sizes": left,
        "largest_error_in_float32": max(before),
    }


def _low_bit_shapes() -> Iterator[tuple[int, ...]]:
    for name in bcdzoo.list_models():
        with torch.device("meta"):
            network = bcdzoo.create_model(name)
        for conv in network.modules():
            if isinstance(conv, LowBitConv2d) and max(conv.w_bits, conv.a_bits) <= int8_gemm.MOST_BITS:
                c_out, c_in, kernel, _ = conv.kernel_shape
                yield c_out, c_in, kernel, conv.stride, conv.dilation, conv.groups, conv.w_bits, conv.a_bits


def same_predictions() -> dict[str, Any]:
    """Evaluate trained networks on the CPU and on the device."""
    demo = open_dataset("demo", 10)
    cases: dict[str, tuple[Any, Path | None]] = {"bcdnet-tiny": (replace(demo, samples=demo.samples[:IMAGES]), None)}
    found: dict[str, Any] = {"ok": True, "left_out": []}
    data = Path(os.environ.get("BCDZOO_TEST_DATA", ""))
    for name, file in TRAINED.items():
        if not (data.is_absolute() and (data / file).exists() and (data / PHOTOGRAPHS).exists()):
            found["left_out"].append(f"{name}: BCDZOO_TEST_DATA has no {file} or no {PHOTOGRAPHS}")
        elif ON_GPU or len(cases) == 1:
            photographs = open_dataset(data / PHOTOGRAPHS, 1000)
            cases[name] = replace(photographs, samples=photographs.samples[: IMAGES if ON_GPU else 4]), data / file
    found["networks"] = {}
    for name, (images, weights) in cases.items():
        cpu, device = (
            bcdzoo.evaluate(name, images, weights=weights, device=where, check=False) for where in ("cpu", DEVICE)
        )
        difference = float(abs(cpu.logits - device.logits).max() / abs(cpu.logits).max())
        flips = int((cpu.guesses[:, 0] != device.guesses[:, 0]).sum())
        found["networks"][name] = {"images": cpu.n, "flips": flips, "largest_difference": difference, "top1": cpu.top1}
        found["ok"] &= flips <= MOST_FLIPS * cpu.n
    return found


def resumed() -> dict[str, Any]:
    """Kill an evaluation after its first chunk, run it again, and compare with one that was left alone."""
    with tempfile.TemporaryDirectory() as folder:
        homes = [Path(folder) / name for name in ("whole", "killed")]
        whole = _evaluation(homes[0]).communicate()[0]
        killed = _evaluation(homes[1])
        while killed.poll() is None and not list(homes[1].glob("results/unfinished/*/*.parquet")):
            time.sleep(0.002)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        again = _evaluation(homes[1]).communicate()[0]
    if killed.returncode != -signal.SIGKILL:
        return {"ok": False, "error": "the run ended before it could be killed"}
    one, two = json.loads(whole), json.loads(again)
    return {
        "ok": two["resumed"] > 0 and one["predictions_sha256"] == two["predictions_sha256"],
        "resumed": two["resumed"],
        "images": two["n"],
        "same_predictions": one["predictions_sha256"] == two["predictions_sha256"],
    }


def _evaluation(home: Path) -> subprocess.Popen[str]:
    words = ["eval", "bcdnet-tiny", "--data", "demo", "--device", DEVICE.type, "--batch-size", "8", "--workers", "0"]
    return subprocess.Popen(
        [sys.executable, "-m", "bcdzoo", *words, "--format", "json"],
        env=os.environ
        | {"BCDZOO_HOME": str(home), "PYTHONPATH": str(ROOT)}
        | ({} if ON_GPU else {"OMP_NUM_THREADS": "1"}),
        stdout=subprocess.PIPE,
        text=True,
    )


def one_rank() -> dict[str, Any]:
    """A training step through a process group of one rank: the same gradients as without one."""
    torch.manual_seed(0)
    images = torch.randn(8, 3, 28, 28, device=DEVICE)
    network = bcdzoo.create_model("bcdnet-tiny").to(DEVICE).train()
    network(images).square().mean().backward()
    alone = [parameter.grad for parameter in network.parameters()]
    network.zero_grad()
    backend = "cpu:gloo,cuda:nccl" if ON_GPU else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        dist.init_process_group(backend, init_method=f"file://{folder}/rendezvous", rank=0, world_size=1)
        try:
            gathered: list[Any] = [None]
            dist.all_gather_object(gathered, {"from": "this process"})
            shared = DistributedDataParallel(network)
            shared(images).square().mean().backward()
            dist.barrier()
        finally:
            dist.destroy_process_group()
    together = [parameter.grad for parameter in network.parameters()]
    same = all(
        b is None or not b.any() if a is None else b is not None and torch.allclose(a, b, rtol=1e-3, atol=1e-6)
        for a, b in zip(alone, together, strict=True)
    )
    return {"ok": same and gathered == [{"from": "this process"}], "backend": backend}


def training_steps() -> dict[str, Any]:
    """Time and peak memory of a step with AdamW: full float32, torch's default (convolutions in TF32), bfloat16."""
    name, size = ("bcdnet-a", 224) if ON_GPU else ("bcdnet-tiny", 28)
    batch = 64 if ON_GPU else BATCH
    found: dict[str, Any] = {"ok": True, "network": name, "batch": batch}
    for precision in ("float32", "tf32", "bfloat16"):
        torch.manual_seed(0)
        network = bcdzoo.create_model(name).to(DEVICE).train()
        optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
        images, labels = torch.randn(batch, 3, size, size, device=DEVICE), torch.arange(batch, device=DEVICE) % 10
        losses: list[Tensor] = []

        def step(network: nn.Module = network, optimizer: Any = optimizer, losses: list[Tensor] = losses) -> None:
            optimizer.zero_grad()
            with torch.autocast(DEVICE.type, torch.bfloat16, enabled=precision == "bfloat16"):  # noqa: B023
                loss = F.cross_entropy(network(images), labels)  # noqa: B023
            loss.backward()
            optimizer.step()
            losses.append(loss.detach())

        if ON_GPU:
            torch.cuda.reset_peak_memory_stats()
        with nullcontext() if precision == "tf32" else full_precision():
            seconds = _times(step)
        finite = all(bool(loss.isfinite()) for loss in losses)
        found[precision] = {"ms": 1000 * median(seconds), "finite": finite}
        if ON_GPU:
            found[precision]["peak_mib"] = torch.cuda.max_memory_allocated() / 2**20
        found["ok"] &= finite
    return found


def speeds(end: float) -> dict[str, Any]:
    """Images per second of each network: float32, its exact 8-bit form, bfloat16; medians of calls."""
    found: dict[str, Any] = {"ok": True, "left_out": [], "networks": {}}
    authors = os.environ.get("BCDNET_AUTHORS")
    if authors:
        found["networks"]["bcdnet-a, its authors' code"] = _speed(authors_network(Path(authors)).eval(), 224)
    else:
        found["left_out"].append("bcdnet-a, its authors' code: BCDNET_AUTHORS names no checkout of Sense-GVT/BCDNet")
    for name in bcdzoo.list_models() if ON_GPU else REHEARSED:
        if time.monotonic() > end:
            found["left_out"].append(f"{name}: no time was left")
            continue
        try:
            found["networks"][name] = _speed(bcdzoo.create_model(name).eval(), find(name).input_size)
        except Exception as error:  # the others are still worth knowing
            found["networks"][name] = {"error": _line(error)}
            found["ok"] = False
    return found


@torch.inference_mode()
def _speed(network: nn.Module, size: int) -> dict[str, Any]:
    network, batch = network.to(DEVICE), BATCH
    exact = with_int8(network)
    while True:
        try:
            images = torch.randn(batch, 3, size, size, device=DEVICE)
            found: dict[str, Any] = {"batch": batch, "float32": batch / median(_times(partial(network, images)))}
            if any(isinstance(module, Int8Conv2d) for module in exact.modules()):
                found["int8"] = batch / median(_times(partial(exact, images)))
            with torch.autocast(DEVICE.type, torch.bfloat16):
                found["bfloat16"] = batch / median(_times(partial(network, images)))
            return found
        except torch.OutOfMemoryError:
            if batch == 1:
                raise
        batch //= 2
        torch.cuda.empty_cache()


def _times(call: Callable[[], object]) -> list[float]:
    """Seconds of each call, after two that choose algorithms and allocate."""
    for _ in range(2):
        call()
    seconds: list[float] = []
    while sum(seconds) < SECONDS or len(seconds) < 3:
        _wait()
        start = time.perf_counter()
        call()
        _wait()
        seconds.append(time.perf_counter() - start)
    return seconds


def _wait() -> None:
    if ON_GPU:
        torch.cuda.synchronize()


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def as_markdown(found: dict[str, Any]) -> str:
    facts = found["machine"]
    parts = [f"{facts['device']} ({', '.join(f'{key} {value}' for key, value in facts.items() if key != 'device')})"]
    checks = [(name, "yes" if part["ok"] else "NO", _facts(part)) for name, part in found.items() if "ok" in part]
    parts.append(table((Column("check"), Column("passed"), Column("found")), checks, "markdown"))
    rows = [
        (name, str(row["batch"]), *(_number(row.get(form)) for form in ("float32", "int8", "bfloat16")), _ratio(row))
        for name, row in found.get("speeds", {}).get("networks", {}).items()
        if "error" not in row
    ]
    heads = ("batch", "float32", "8 bits, exact", "bfloat16", "8 bits : float32")
    parts.append(table((Column("images/s"), *(Column(head, right=True) for head in heads)), rows, "markdown"))
    left = [line for part in found.values() for line in part.get("left_out", ())]
    return "\n\n".join([*parts, *(["Left out:\n" + "\n".join(f"- {line}" for line in left)] if left else [])]) + "\n"


def _facts(part: dict[str, Any]) -> str:
    shown = {key: value for key, value in part.items() if key not in ("ok", "left_out")}
    if isinstance(shown.get("networks"), dict) and any("float32" in row for row in shown["networks"].values()):
        return f"{len(shown['networks'])} networks"
    return json.dumps(shown, ensure_ascii=False).replace('"', "").strip("{}")


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}" if value >= 100 else f"{value:.1f}"


def _ratio(row: dict[str, Any]) -> str:
    return f"{row['int8'] / row['float32']:.2f}" if "int8" in row else "–"


@click.command()
@click.option("-o", "--out", default="gpu", show_default=True, help="Name of the files, without .json and .md.")
@click.option("--seconds", default=420.0, show_default=True, help="Time after which no further network is timed.")
def main(out: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    if not ON_GPU:
        torch.set_num_threads(1)
    found: dict[str, Any] = {"machine": machine()}
    click.echo(found["machine"]["device"], err=True)
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "exact_sums": exact_sums,
        "same_predictions": same_predictions,
        "resumed": resumed,
        "one_rank": one_rank,
        "training_steps": training_steps,
        "speeds": lambda: speeds(end),
    }
    for name, part in parts.items():
        start = time.monotonic()
        try:
            with full_precision() if name in ("exact_sums", "one_rank", "speeds") else nullcontext():
                found[name] = part()
        except Exception as error:  # one part does not take the others with it
            found[name] = {"ok": False, "error": _line(error)}
        found[name]["seconds"] = round(time.monotonic() - start, 1)
        Path(f"{out}.json").write_text(json.dumps(found, indent=1) + "\n")
        click.echo(f"{name}: {'passed' if found[name]['ok'] else 'FAILED'}, {found[name]['seconds']} s", err=True)
    Path(f"{out}.md").write_text(as_markdown(found))
    click.echo(as_markdown(found))
    sys.exit(0 if all(part["ok"] for part in found.values() if "ok" in part) else 1)


if __name__ == "__main__":
    main()
