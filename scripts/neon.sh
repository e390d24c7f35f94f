#!/bin/sh
# The NEON kernels against the portable ones, cross-compiled and run by an emulator, for machines without ARM.
# Needs Debian's g++-aarch64-linux-gnu and qemu-user: scripts/neon.sh
set -eu
cd "$(dirname "$0")/.."
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
kernels=bcdzoo/packed/kernels
aarch64-linux-gnu-g++ -std=c++17 -O2 -ffp-contract=off -static -pthread -o "$build/compare" scripts/compare_kernels.cpp \
  $kernels/chain.cpp $kernels/pool.cpp $kernels/portable.cpp $kernels/neon.cpp
qemu-aarch64 "$build/compare"
