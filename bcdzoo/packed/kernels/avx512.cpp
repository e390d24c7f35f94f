// AVX-512 with VPOPCNTDQ: a tile's counts stay in 16 registers, lane = channel.
#include <immintrin.h>

#include "stem.h"

namespace bcdzoo {
namespace {

void popcounts(const uint64_t* (*runs)[kMostRuns], int number, int length, const uint64_t* weights,
               int32_t (*counts)[kChannels]) {
  __m512i sums[kPixels][4];
  for (auto& row : sums)
    for (auto& lane : row) lane = _mm512_setzero_si512();
  for (int run = 0; run < number; ++run) {
    const uint64_t *x0 = runs[0][run], *x1 = runs[1][run], *x2 = runs[2][run], *x3 = runs[3][run];
    for (int k = 0; k < length; ++k, weights += kChannels) {
      const __m512i x[kPixels] = {
          _mm512_set1_epi64(static_cast<long long>(x0[k])), _mm512_set1_epi64(static_cast<long long>(x1[k])),
          _mm512_set1_epi64(static_cast<long long>(x2[k])), _mm512_set1_epi64(static_cast<long long>(x3[k]))};
#pragma GCC unroll 4
      for (int j = 0; j < 4; ++j) {
        const __m512i w = _mm512_load_si512(weights + 8 * j);
#pragma GCC unroll 4
        for (int p = 0; p < kPixels; ++p)
          sums[p][j] = _mm512_add_epi64(sums[p][j], _mm512_popcnt_epi64(_mm512_xor_si512(x[p], w)));
      }
    }
  }
  // whole vectors, for the loads that follow are such too and would wait for two halves to reach the cache
  const __m512i evens = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  for (int p = 0; p < kPixels; ++p)
    for (int j = 0; j < 4; j += 2)
      _mm512_store_si512(counts[p] + 8 * j, _mm512_permutex2var_epi32(sums[p][j], evens, sums[p][j + 1]));
}

uint32_t at_least(const float* x, const float* limit) {
  const __mmask16 low = _mm512_cmp_ps_mask(_mm512_loadu_ps(x), _mm512_loadu_ps(limit), _CMP_GE_OQ);
  const __mmask16 high = _mm512_cmp_ps_mask(_mm512_loadu_ps(x + 16), _mm512_loadu_ps(limit + 16), _CMP_GE_OQ);
  return static_cast<uint32_t>(low) | static_cast<uint32_t>(high) << 16;
}

using Lanes = __m512;

BCDZOO_INLINE Lanes splat(float value) { return _mm512_set1_ps(value); }

BCDZOO_INLINE Lanes positive(Lanes x) { return _mm512_max_ps(x, _mm512_setzero_ps()); }

// x * w + sum, rounded once.
BCDZOO_INLINE Lanes fused(Lanes x, float w, Lanes sum) { return _mm512_fmadd_ps(x, _mm512_set1_ps(w), sum); }

#include "kernel.inl"

const StemKernels kStem = {load, float_layer, pool};

}  // namespace

const Kernels kAvx512 = {"avx512", kStem, pack, convolve, halve, spin};

}  // namespace bcdzoo
