// The instruction sets that this processor has.
#pragma once

#include <vector>

#include "../src/kernels.h"

inline std::vector<const bcdzoo::Kernels*> available() {
#if defined(__wasm_simd128__)
  return {&bcdzoo::kWasm};
#else
  std::vector<const bcdzoo::Kernels*> all{&bcdzoo::kPortable};
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) all.push_back(&bcdzoo::kAvx2);
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vpopcntdq"))
    all.push_back(&bcdzoo::kAvx512);
#elif defined(__aarch64__)
  all.push_back(&bcdzoo::kNeon);
#endif
  return all;
#endif
}
