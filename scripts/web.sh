#!/bin/sh
# The engine as WebAssembly, and its page: every kernel against its definition in node; in node and Chromium trained
# networks and random plans against native kernels; and the page. Needs cmake, Debian's emscripten, node and chromium,
# and the test environment's python on the PATH; of trained networks it takes those in BCDZOO_TEST_DATA.
#   scripts/web.sh [BUILD]      BUILD/web is the page afterwards; a temporary folder if omitted
set -eu
cd "$(dirname "$0")/.."
if [ $# -gt 0 ]; then
  build=$1
else
  build=$(mktemp -d)
  trap 'rm -rf "$build"' EXIT
fi
export NODE_PATH="${NODE_PATH:-/usr/share/nodejs}"  # where Debian has acorn, which emcc needs
mkdir -p "$build"
emcmake cmake -S engine -B "$build" >"$build/log" 2>&1
cmake --build "$build" --parallel 2 --target bcdzoo_web kernels_test plan_test >>"$build/log" 2>&1 || { cat "$build/log"; exit 1; }
node "$build/tests/kernels_test.js"
node "$build/tests/plan_test.js"
BCDZOO_WEB_BUILD=$(cd "$build" && pwd) python -m pytest -m slow tests/engine/test_web.py
ls -l "$build/web/bcdzoo.js" "$build/web/index.html"
