#!/bin/sh
# The engine for ARM, cross-compiled and run by an emulator, for machines without one: every kernel against its
# definition, and random plans against numpy. Needs cmake, Debian's g++-aarch64-linux-gnu and qemu-user, and the test
# environment's python on the PATH: scripts/neon.sh [PLANS]
set -eu
cd "$(dirname "$0")/.."
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
cmake -S engine -B "$build" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 \
  -DCMAKE_CXX_COMPILER=aarch64-linux-gnu-g++ -DCMAKE_EXE_LINKER_FLAGS=-static >"$build/log"
cmake --build "$build" --parallel 2 --target kernels_test plan_test network_tool >>"$build/log" 2>&1 || { cat "$build/log"; exit 1; }
qemu-aarch64 "$build/kernels_test"
qemu-aarch64 "$build/plan_test"
python - "$build" "${1:-100}" <<'PY'
import subprocess
import sys
from pathlib import Path

import numpy as np

from bcdzoo.plan.file import encode
from tests.engine.random_plans import difference, random_plan

build, plans = Path(sys.argv[1]), [random_plan(seed) for seed in range(int(sys.argv[2]))]
paths = [build / f"{number}.bcz" for number in range(len(plans))]
for path, one in zip(paths, plans):
    path.write_bytes(encode(one.plan))
    Path(f"{path}.in").write_bytes(one.images[0].tobytes())
lines = "".join(f"{path}\n" for path in paths)
tool = ["qemu-aarch64", build / "network_tool", "network"]
said = subprocess.run(tool, input=lines, capture_output=True, text=True, check=True).stdout.splitlines()
assert said == ["OK"] * len(plans), [(number, line) for number, line in enumerate(said) if line != "OK"]
for number, (path, one) in enumerate(zip(paths, plans)):
    wrong = difference(np.fromfile(f"{path}.out", np.float32), one.expected[0], one.exact)
    assert not wrong, (number, wrong)
print(len(plans), "random plans agree with numpy")
PY
