#!/bin/sh
# The engine's tests with kernels built under AddressSanitizer and UBSan; the first finding ends the run.
# Needs g++, cmake and the test environment's python on the PATH: scripts/sanitize.sh
set -eu
cd "$(dirname "$0")/.."
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
cmake -S . -B "$build" -DCMAKE_BUILD_TYPE=Debug -DPython_EXECUTABLE="$(command -v python)" \
  -DCMAKE_CXX_FLAGS="-g -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer" >"$build/log"
cmake --build "$build" >>"$build/log" 2>&1 || { cat "$build/log"; exit 1; }
LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libubsan.so)" \
ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 BUILD="$build" python - <<'EOF'
import importlib.util, os, pathlib, sys

import torch  # before the kernels: both bring C++ exceptions
import bcdzoo.packed
import pytest

(library,) = pathlib.Path(os.environ["BUILD"]).glob("_kernels*.so")
spec = importlib.util.spec_from_file_location("bcdzoo.packed._kernels", library)
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sys.modules[spec.name] = bcdzoo.packed._kernels = module
sys.exit(pytest.main(["tests/packed", "-p", "no:cacheprovider"]))
EOF
