#!/bin/sh
# Tries out the bcdzoo on the PATH; or each of the given wheels and sdists, installed in a fresh environment:
#   python -m build && scripts/smoke.sh dist/*
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

for file; do
  python3 -m venv --clear "$work/env"
  "$work/env/bin/pip" install -q "$file"
  PATH="$work/env/bin:$PATH" "$0"
  echo "$file: good"
done
[ $# -eq 0 ] || exit 0

export BCDZOO_HOME="$work/home"
cd "$work" # away from a checkout, whose package Python would take
bcdzoo --version | tee version
! grep -q "^kernels none" version || { echo "the 1-bit kernels are not in it"; exit 1; }
bcdzoo doctor
bcdzoo table --which 1
bcdzoo count-ops bcdnet-a --total
for backend in torch packed; do
  bcdzoo eval bcdnet-tiny --data demo --backend $backend --format json >"$backend.json"
  python - "$backend" <<'EOF'
import json, sys

backend, expected = sys.argv[1], 92.0  # README; a guess or two may change with torch's version
found = json.load(open(f"{backend}.json"))
print(f"bcdnet-tiny, {backend}: top-1 {found['top1']:.2f} % of {found['n']} images")
sys.exit(found["n"] != 2000 or abs(found["top1"] - expected) > 0.2)
EOF
done
