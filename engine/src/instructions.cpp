#include "kernels.h"

#if defined(BCDZOO_NEON) && !defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace bcdzoo {

std::vector<const Kernels*> all_kernels() {
  std::vector<const Kernels*> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  const auto has_avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                          __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                          __builtin_cpu_supports("avx512vpopcntdq");
  if (has_avx512) found.push_back(&kAvx512);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&kAvx2);
#elif defined(__aarch64__)
  found.push_back(&kNeon);
#elif defined(BCDZOO_NEON)
  const unsigned long has = getauxval(AT_HWCAP);
  if ((has & HWCAP_NEON) && (has & HWCAP_VFPv4)) found.push_back(&kNeon);
#endif
#if defined(__wasm_simd128__)
  found.push_back(&kWasm);
#else
  found.push_back(&kPortable);
#endif
  return found;
}

}  // namespace bcdzoo
