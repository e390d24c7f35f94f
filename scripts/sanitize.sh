#!/bin/sh
# The engine under AddressSanitizer and UBSan: its own tests, and those from Python; the first finding ends the run.
# Needs g++, cmake and the test environment's python on the PATH: scripts/sanitize.sh
set -eu
cd "$(dirname "$0")/.."
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
flags="-g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
export ASAN_OPTIONS=detect_leaks=0:abort_on_error=1
made() {
  cmake "$@" -DCMAKE_BUILD_TYPE=Debug >"$build/log"
  cmake --build "$build/made" --parallel 2 >>"$build/log" 2>&1 || { cat "$build/log"; exit 1; }
}
made -S engine -B "$build/made" -DBCDZOO_SANITIZE=ON
ctest --test-dir "$build/made" --output-on-failure
rm -rf "$build/made"
made -S . -B "$build/made" -DPython_EXECUTABLE="$(command -v python)" -DCMAKE_CXX_FLAGS="$flags"
LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)" BUILD="$build/made" python - "$@" <<'PY'
import importlib.util, os, pathlib, sys

import torch  # before the engine: both bring C++ exceptions
import bcdzoo.packed
import pytest

(library,) = pathlib.Path(os.environ["BUILD"]).glob("_engine*.so")
spec = importlib.util.spec_from_file_location("bcdzoo.packed._engine", library)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sys.modules[spec.name] = bcdzoo.packed._engine = module
tests = sys.argv[1:] or ["tests/packed", "tests/engine/test_random_plans.py"]
sys.exit(pytest.main([*tests, "-p", "no:cacheprovider", "-n", "0"]))
PY
