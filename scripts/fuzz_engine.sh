#!/bin/sh
# Gives the engine so many changed plan files (a million if omitted) under AddressSanitizer and UBSan: its reader and reference,
# by libFuzzer if clang++ is there, else by random changes; and then the C interface, which loads each and runs an image.
# Needs the test environment's python on the PATH for the first files: scripts/fuzz_engine.sh [INPUTS]
set -eu
cd "$(dirname "$0")/.."
inputs=${1:-1000000}
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
mkdir "$build/seeds"
python - "$build/seeds" <<'PY'
import random
import sys
from pathlib import Path

from bcdzoo.plan.file import decode, encode
from bcdzoo.plan.operations import PlanError
from scripts.fuzz_plan import EXAMPLES, array_of, changed_plan
from tests.engine.random_plans import random_plan

dice = random.Random(0)
contents = [encode(plan) for plan in EXAMPLES]
while len(contents) < 500:
    content = encode(changed_plan(decode(array_of(dice.choice(contents))), dice))
    try:
        decode(array_of(content))
    except PlanError:
        continue
    contents.append(content)
contents += [encode(random_plan(seed)[0]) for seed in range(300)]
for number, content in enumerate(contents):
    if len(content) < 1 << 14:
        Path(sys.argv[1], f"{number}.bcz").write_bytes(content)
PY
cmake -S engine -B "$build" -DBCDZOO_SANITIZE=ON >"$build/log"
cmake --build "$build" --parallel --target fuzz_plan fuzz_engine >>"$build/log" 2>&1 || { cat "$build/log"; exit 1; }
if command -v clang++ >"$build/found"; then
  sources="engine/tests/fuzz_plan.cpp engine/src/operations.cpp engine/src/plan.cpp engine/src/plan_file.cpp
    engine/src/reference.cpp engine/src/sha256.cpp"
  flags="-std=c++17 -O1 -g -Wall -Wextra -ffp-contract=off -fno-sanitize-recover=undefined -Iengine/src"
  clang++ $flags -DWITH_LIBFUZZER -fsanitize=fuzzer,address,undefined $sources -o "$build/with_libfuzzer"
  cp -r "$build/seeds" "$build/corpus"
  "$build/with_libfuzzer" -runs="$inputs" -max_len=8192 -timeout=20 -print_final_stats=1 "$build/corpus"
else
  "$build/tests/fuzz_plan" "$inputs" "$build"/seeds/*.bcz
fi
"$build/tests/fuzz_engine" "$inputs" "$build"/seeds/*.bcz
