#!/bin/sh
# Checks a machine with a CUDA device, under 8 minutes: predictions equal the CPU's, 8-bit sums are exact, a killed run
# resumes, nccl, a training step, and images/s of every network. Writes gpu.json and gpu.md, or OUT.json and OUT.md:
#   scripts/gpu.sh [OUT]
# BCDZOO_TEST_DATA may name a folder of trained networks and photographs, BCDNET_AUTHORS a checkout of Sense-GVT/BCDNet,
# PYTHON the Python to use. If that lacks a package, it is installed into an environment beside, which keeps the torch
# that is there. Without a CUDA device it is a rehearsal on the CPU.
set -eu
out=$(realpath "${1:-gpu}")
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
export BCDZOO_HOME="$work/home"
if ! "$python" -c "import benchmarks.gpu" 2>"$work/log"; then
  tail -n 1 "$work/log" >&2
  "$python" -m venv --system-site-packages "$work/env"
  python="$work/env/bin/python"
  "$python" -m pip install -q .
fi
"$python" -m benchmarks.gpu --out "$out"
