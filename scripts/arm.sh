#!/bin/sh
# The engine for ARM of 64 and of 32 bits, cross-compiled and run by an emulator, for machines without one: every kernel
# against its definition; random plans, and layers of every shape of benchmarks/layers.py, against numpy. Needs cmake,
# Debian's g++-aarch64-linux-gnu, g++-arm-linux-gnueabihf and qemu-user, and the test environment's python on the PATH:
# scripts/arm.sh [aarch64 | armv7l] [PLANS]
set -eu
cd "$(dirname "$0")/.."
processors="aarch64 armv7l"
case "${1:-}" in aarch64 | armv7l) processors=$1 && shift ;; esac
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
for processor in $processors; do
  case $processor in
    aarch64) compiler=aarch64-linux-gnu emulator=qemu-aarch64 ;;
    armv7l) compiler=arm-linux-gnueabihf emulator=qemu-arm ;;
  esac
  echo "$processor:"
  cmake -S engine -B "$build/$processor" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=$processor \
    -DCMAKE_C_COMPILER=$compiler-gcc -DCMAKE_CXX_COMPILER=$compiler-g++ -DCMAKE_EXE_LINKER_FLAGS=-static >"$build/log"
  cmake --build "$build/$processor" --parallel 2 --target kernels_test plan_test network_tool >>"$build/log" 2>&1 ||
    { cat "$build/log"; exit 1; }
  $emulator "$build/$processor/tests/kernels_test"
  $emulator "$build/$processor/tests/plan_test"
  python - $emulator "$build/$processor/tests/network_tool" "${1:-100}" <<'PY'
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bcdzoo.layers.quantizers.sign import Sign
from bcdzoo.packed.pack import plan_of
from bcdzoo.plan.file import encode
from bcdzoo.plan.reference import run
from benchmarks.layers import SHAPES, UNITS, conv_of
from tests.engine.random_plans import Example, difference, random_plan


def layers(kernel, channels, size):
    """Units of bits one behind the other, as benchmarks/layers.py measures them."""
    units = (nn.Sequential(Sign(), conv_of(channels, kernel), nn.BatchNorm2d(channels)) for _ in UNITS)
    network = nn.Sequential(*units).eval()
    images = torch.randn(1, channels, size, size).numpy()
    plan = plan_of(network, (channels, size, size))
    return Example(plan, images, run(plan, images), exact=True)


def check(tool, examples, what):
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, f"{number}.bcz") for number in range(len(examples))]
        for path, one in zip(paths, examples):
            path.write_bytes(encode(one.plan))
            Path(f"{path}.in").write_bytes(one.images[0].tobytes())
        lines = "".join(f"{path}\n" for path in paths)
        said = subprocess.run(tool, input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
        assert said == ["OK"] * len(paths), [(number, line) for number, line in enumerate(said) if line != "OK"]
        for number, (path, one) in enumerate(zip(paths, examples)):
            wrong = difference(np.fromfile(f"{path}.out", np.float32), one.expected[0], one.exact)
            assert not wrong, (number, wrong)
    print(len(paths), what, "agree with numpy")


torch.manual_seed(0)
tool = [*sys.argv[1:3], "network"]
check(tool, [layers(*shape) for shape in SHAPES], "shapes of layers")
check(tool, [random_plan(seed) for seed in range(int(sys.argv[3]))], "random plans")
PY
done
