"""Counts the instructions of an image on ARM, in QEMU, beside those of x86-64, in Valgrind; and a Cortex-M4's memory.

    python -m scripts.count_arm [NETWORK ...]

The number of instructions needs no processor at hand; speed does, and nothing is said about it. The program is
engine/mcu/classify.c, the same everywhere, on one thread, with plan and images in it. One build runs each image once,
another one twice: the difference is what the images take, and counts everything, the C library's code too. The logits
must have the same bits everywhere. On the Cortex-M4 there is bcdnet-tiny alone. Needs cmake, qemu-user,
qemu-system-arm, valgrind, and Debian's g++-aarch64-linux-gnu, g++-arm-linux-gnueabihf, gcc-arm-none-eabi and
libstdc++-arm-none-eabi-newlib.
"""

import gzip
import re
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import torch

import bcdzoo
from bcdzoo.packed.checkpoint import export
from bcdzoo.packed.pack import plan_of
from bcdzoo.plan.file import write_plan
from bcdzoo.text_table import Column, table

ROOT = Path(__file__).parents[1]
DEMO, IMAGES = "bcdnet-tiny", 24
PREPROCESS = "resize=256,crop=224,interpolation=bilinear,mean=0.485:0.456:0.406,std=0.229:0.224:0.225,channels=rgb"


class Target(NamedTuple):
    """A processor: options of cmake, what runs a program, and the instruction sets to count."""

    name: str
    options: tuple[str, ...]
    runner: tuple[str, ...]
    sets: tuple[str, ...]


def linux(processor: str, compiler: str) -> tuple[str, ...]:
    """Options of cmake for a Linux on another processor."""
    return (
        "-DCMAKE_SYSTEM_NAME=Linux",
        f"-DCMAKE_SYSTEM_PROCESSOR={processor}",
        f"-DCMAKE_C_COMPILER={compiler}-gcc",
        f"-DCMAKE_CXX_COMPILER={compiler}-g++",
        "-DCMAKE_EXE_LINKER_FLAGS=-static",
    )


TARGETS = (
    Target(
        "x86-64", (), ("valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"), ("avx2",)
    ),
    Target("aarch64", linux("aarch64", "aarch64-linux-gnu"), ("qemu-aarch64",), ("neon", "portable")),
    Target("armv7", linux("armv7l", "arm-linux-gnueabihf"), ("qemu-arm",), ("neon", "portable")),
    Target(
        "Cortex-M4",
        ("-DCMAKE_TOOLCHAIN_FILE=cortex-m.cmake",),
        ("qemu-system-arm", "-M", "mps2-an386", "-nographic", "-semihosting", "-kernel"),
        ("portable",),
    ),
)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """A command that must succeed."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise click.ClickException(f"{command[0]}: {(done.stdout + done.stderr)[-2000:]}")
    return done


def write_files(name: str, folder: Path) -> tuple[Path, Path, int]:
    """A plan, its images as bytes, and how many: the demo's of bcdnet-tiny, otherwise random weights and images."""
    plan, images = folder / f"{name}.bcz", folder / f"{name}.bin"
    if name == DEMO:
        export(name, plan)
        pixels = demo_images()
    else:
        torch.manual_seed(0)
        made = plan_of(bcdzoo.create_model(name).eval(), (3, 224, 224), name)
        write_plan(plan, replace(made, preprocess=PREPROCESS))
        pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    images.write_bytes(pixels.tobytes())
    return plan, images, len(pixels)


def demo_images() -> np.ndarray:
    """The first images that come with the package, grey in three channels."""
    raw = gzip.decompress((ROOT / "bcdzoo/data/demo/t10k-images-idx3-ubyte.gz").read_bytes())
    grey = np.frombuffer(raw, np.uint8, offset=16).reshape(-1, 28, 28)[:IMAGES]
    return np.repeat(grey[..., None], 3, axis=3)


def build(target: Target, folder: Path, plan: Path, images: Path, repeats: int) -> Path:
    """The program, made for a target."""
    made = folder / target.name
    values = (f"-DPLAN={plan}", f"-DIMAGES={images}", f"-DREPEATS={repeats}")
    run("cmake", "-S", ROOT / "engine" / "mcu", "-B", made, *target.options, *values)
    run("cmake", "--build", made, "--parallel", "2")
    return made / "classify"


def execute(target: Target, plugin: Path, program: Path, instructions: str) -> tuple[str, int]:
    """What a program prints, and how many instructions that took."""
    if target.runner[0] == "valgrind":
        done = run(*target.runner, program, instructions)
    elif target.runner[0] == "qemu-system-arm":
        done = run(*target.runner, program, "-plugin", plugin)
    else:
        done = run(*target.runner, "-plugin", plugin, program, instructions)
    counted = re.search(r"(\d+) instructions$|I\s+refs:\s+([\d,]+)", done.stderr, re.MULTILINE)
    if not counted:
        raise click.ClickException(f"{target.name}: nothing was counted: {done.stderr[-500:]}")
    return done.stdout, int((counted[1] or counted[2]).replace(",", ""))


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """Count the instructions of NAMES (bcdnet-tiny, bcdnet-a and quicknet-small if omitted)."""
    rows, memory = [], ""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        plugin = folder / "count.so"
        run("cc", "-shared", "-fPIC", "-O1", ROOT / "scripts" / "count_plugin.c", "-o", plugin)
        for name in names or (DEMO, "bcdnet-a", "quicknet-small"):
            plan, images, count = write_files(name, folder)
            logits, row = set(), [name]
            for target in TARGETS:
                if target.name == "Cortex-M4" and name != DEMO:
                    row.append("–")
                    continue
                found = []
                for repeats in (1, 2):
                    program = build(target, folder, plan, images, repeats)
                    found.append([execute(target, plugin, program, each) for each in target.sets])
                for (said, once), (_, twice) in zip(*found, strict=True):
                    lines = said.splitlines()
                    logits.add("\n".join(lines[:count]))
                    memory = lines[count] if lines[count:] else memory
                    row.append(f"{(twice - once) / count / 1e6:.2f}")
                if target.name == "Cortex-M4":
                    size = run("arm-none-eabi-size", program).stdout.splitlines()[1].split()
                    code = int(size[0]) + int(size[1]) - plan.stat().st_size - images.stat().st_size
                    memory = f"flash: plan {plan.stat().st_size}, all else {code} bytes; {memory}"
            if len(logits) != 1:
                raise click.ClickException(f"{name}: the logits differ")
            rows.append(row)
    heads = [f"{target.name} {each}" for target in TARGETS for each in target.sets]
    print("millions of instructions an image; logits are the same, bit for bit\n")
    print(table((Column("network"), *(Column(head, right=True) for head in heads)), rows, "markdown"))
    print(f"\nCortex-M4: {memory}" if memory else "")


if __name__ == "__main__":
    main()
