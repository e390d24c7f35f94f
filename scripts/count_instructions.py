"""Counts the instructions that the 1-bit engine executes for one image, against the figures that are written down.

    python -m scripts.count_instructions [--write] [CASE ...]

Speed differs between machines and runs; the number of instructions does not, so that a loss of speed is seen where no
quiet machine is at hand. Valgrind counts them (its headers are needed, and a C compiler), with AVX2, because it does
not know AVX-512: a whole small network, and a block of each kind from larger ones. Each runs once before it is counted,
and only the instructions of the engine's own code count: not Python's, torch's or the C library's. A case that needs
more than the tolerance over what is written down ends the script with 1; ``--write`` writes down what is found.
"""

import ctypes
import importlib.util
import json
import math
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import click

FIGURES = Path(__file__).with_suffix(".json")
TOLERANCE = 0.03
INSTRUCTIONS = "avx2"
ENGINE = "_engine"
"""How the name of the engine's compiled file begins."""

CASES: dict[str, tuple[str, tuple[str, ...], tuple[int, int, int]]] = {
    "a whole network": ("bcdnet-tiny", (), (3, 28, 28)),
    "3×3 and 1×1": ("bcdnet-a", ("blocks.2",), (128, 14, 14)),
    "3×3 of stride 2, 1×1 to twice the channels": ("bcdnet-a", ("blocks.1",), (64, 28, 28)),
    "three samples (MLP block)": ("bcdnet-a", ("mlp.0.0",), (1024, 7, 7)),
    "dynamic thresholds and offsets": ("bcdnet-b", ("blocks.2",), (128, 14, 14)),
    "gates": ("real-to-binary-r18", ("stages.0.0",), (64, 14, 14)),
    "a growing map": ("meliusnet-22", ("stages.0.0",), (64, 14, 14)),
    "a real-valued stem": ("birealnet-18", ("stem", "stages.0.0"), (3, 56, 56)),
    "a real-valued shortcut": ("birealnet-18", ("stages.1.0",), (64, 14, 14)),
    "two bits": ("dorefa-r18-w2a2", ("stages.0.0",), (64, 14, 14)),
}
"""Network, its modules in sequence (none: all), and the shape of an image."""

_REQUESTS = """
#include <valgrind/callgrind.h>
void start(void) { CALLGRIND_START_INSTRUMENTATION; CALLGRIND_ZERO_STATS; }
void stop(const char* label) { CALLGRIND_DUMP_STATS_AT(label); CALLGRIND_STOP_INSTRUMENTATION; }
"""


def write_case(name: str, path: Path) -> None:
    """Write the plan of a case, with the same weights each time."""
    import torch
    from torch import nn

    import bcdzoo
    from bcdzoo.packed.pack import plan_of
    from bcdzoo.plan.file import write_plan

    network_name, modules, shape = CASES[name]
    torch.manual_seed(0)
    network = bcdzoo.create_model(network_name)
    if modules:
        parts = [network.get_submodule(module) for module in modules]
        network = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    write_plan(path, plan_of(network.eval(), shape))


def run_cases(folder: Path, engine: Path) -> None:
    """In a process under valgrind, without torch, which takes long there: run each plan, and again while it counts."""
    import numpy as np

    spec = importlib.util.spec_from_file_location(ENGINE, engine)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    requests = ctypes.CDLL(str(folder / "requests.so"))
    for path in sorted(folder.glob("*.bcz")):
        network = module.Network(np.fromfile(path, np.uint8), hashed=True, map=False)
        image = np.random.default_rng(0).standard_normal((1, *network.input), np.float32)
        logits = np.empty((1, math.prod(network.output)), np.float32)
        network.run(image, logits, 1, INSTRUCTIONS)
        requests.start()
        network.run(image, logits, 1, INSTRUCTIONS)
        requests.stop(path.stem.encode())


def count(names: list[str]) -> dict[str, int]:
    """The instructions of some cases."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _build_requests(folder)
        for number, case in enumerate(names):
            write_case(case, folder / f"{number}.bcz")
        tool = ("valgrind", "--tool=callgrind", "--instr-atstart=no", "--compress-strings=no", "--compress-pos=no")
        command = [
            *tool,
            f"--callgrind-out-file={folder / 'counts'}",
            sys.executable,
            __file__,
            "--run",
            str(folder),
            _engine(),
        ]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"valgrind: {' '.join(done.stderr.split())[-500:]}")
        dumps = {label: cost for path in folder.glob("counts.*") for label, cost in [_of_engine(path.read_text())]}
    found = {case: dumps[str(number)] for number, case in enumerate(names)}
    if missing := [case for case, cost in found.items() if not cost]:
        raise SystemExit(f"no instruction of {ENGINE} was counted: {', '.join(missing)}")
    return found


def _build_requests(folder: Path) -> None:
    source = folder / "requests.c"
    source.write_text(_REQUESTS)
    compiler = os.environ.get("CC", "cc")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", str(source), "-o", str(folder / "requests.so")], check=True)


def _of_engine(dump: str) -> tuple[str, int]:
    """The label of a dump, and the instructions of the engine in it."""
    label, total, inside, is_of_call = "", 0, False, False
    for line in dump.splitlines():
        if line.startswith("desc: Trigger: Client Request: "):
            label = line.rpartition(" ")[2]
        elif line.startswith("ob="):
            inside = Path(line[3:]).name.startswith(ENGINE)
        elif line.startswith("calls="):
            is_of_call = True  # the next line is what the called function took, which is counted there
        elif re.match(r"\d", line):
            total += int(line.split()[1]) if inside and not is_of_call else 0
            is_of_call = False
    return label, total


def _engine() -> str:
    """The engine's compiled file."""
    from bcdzoo.packed import native

    module: Any = native.kernels()
    return str(module.__file__)


def compiler() -> str:
    """The compiler that the engine was built with, as the file says."""
    found = re.search(rb"(GCC: \([^)]*\) [\d.]+|clang version [\d.]+)", Path(_engine()).read_bytes())
    return found[1].decode() if found else "unknown"


@click.command()
@click.argument("cases", nargs=-1)
@click.option("--write", is_flag=True, help="Write down what is found.")
@click.option("--run", type=click.Path(path_type=Path), nargs=2, hidden=True)
def main(cases: tuple[str, ...], write: bool, run: tuple[Path, Path] | None) -> None:
    """Count the instructions of CASES (all, if none is named), and compare them with what is written down."""
    if run:
        run_cases(*run)
        return
    known: dict[str, Any] = json.loads(FIGURES.read_text()) if FIGURES.exists() else {"instructions": {}}
    if (built := compiler()) != known.get("compiler", built):
        print(f"built with {built}, the figures are of {known['compiler']}: they may differ for that")
    found, before = count(list(cases or CASES)), known["instructions"]
    for case, cost in found.items():
        change = f"{cost / before[case] - 1:+.1%}" if case in before else "not written down"
        print(f"{case:45} {cost:12,} {change}")
    if write:
        kept = {case: cost for case, cost in before.items() if case in CASES}
        record = {"compiler": built, "kernels": INSTRUCTIONS, "instructions": kept | found}
        FIGURES.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
    elif worse := slower(found, before):
        raise SystemExit(
            f"over {TOLERANCE:.0%} more than is written down, or nothing is: {', '.join(worse)}; see --write"
        )


def slower(found: dict[str, int], before: dict[str, int]) -> list[str]:
    """The cases that need more than the tolerance over what is written down, or of which nothing is."""
    return [case for case, cost in found.items() if case not in before or cost > (1 + TOLERANCE) * before[case]]


if __name__ == "__main__":
    main()
