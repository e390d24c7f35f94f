#!/bin/sh
# No two instruction sets may share a symbol: the linker keeps one of both, and a processor that has not got its
# instructions stops there. Compares the kernels' objects of a debug build. Needs cmake, a C++ compiler and nm:
# scripts/symbols.sh
set -eu
cd "$(dirname "$0")/.."
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
cmake -S engine -B "$build" -DCMAKE_BUILD_TYPE=Debug "$@" >"$build/log"
cmake --build "$build" --parallel 2 --target bcdzoo_kernels >>"$build/log" 2>&1 || { cat "$build/log"; exit 1; }
objects=$(find "$build" -name '*.o')
for object in $objects; do nm --defined-only "$object" | awk '$2 ~ /[A-Zu-w]/ { print $3 }' | sort -u; done | sort >"$build/symbols"
shared=$(uniq -d "$build/symbols" | c++filt)
echo "$(echo "$objects" | wc -l) instruction sets, $(wc -l <"$build/symbols") symbols"
if [ -n "$shared" ]; then
  echo "shared:" && echo "$shared"
  exit 1
fi
