// AVX2: ones are counted by looking nibbles up, lane = channel.
#include <immintrin.h>

#include "stem.h"

namespace bcdzoo {
namespace {

// Ones in each byte.
inline __m256i byte_ones(__m256i x) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i low = _mm256_set1_epi8(0x0f);
  return _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(x, low)),
                         _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x, 4), low)));
}

void popcounts(const uint64_t* (*runs)[kMostRuns], int number, int length, const uint64_t* weights,
               int32_t (*counts)[kChannels]) {
  for (int j = 0; j < kChannels; j += 4) {
    __m256i sums[kPixels], bytes[kPixels];
    for (int p = 0; p < kPixels; ++p) sums[p] = bytes[p] = _mm256_setzero_si256();
    const uint64_t* w = weights + j;
    int room = 31;  // words that a byte can still count: 8 ones each
    const auto widen = [&] {
      for (int p = 0; p < kPixels; ++p) {
        sums[p] = _mm256_add_epi64(sums[p], _mm256_sad_epu8(bytes[p], _mm256_setzero_si256()));
        bytes[p] = _mm256_setzero_si256();
      }
      room = 31;
    };
    for (int run = 0; run < number; ++run)
      for (int k = 0; k < length; ++k, w += kChannels) {
        const __m256i weight = _mm256_load_si256(reinterpret_cast<const __m256i*>(w));
        for (int p = 0; p < kPixels; ++p) {
          const __m256i x = _mm256_set1_epi64x(static_cast<long long>(runs[p][run][k]));
          bytes[p] = _mm256_add_epi8(bytes[p], byte_ones(_mm256_xor_si256(x, weight)));
        }
        if (--room == 0) widen();
      }
    widen();
    for (int p = 0; p < kPixels; ++p) {
      alignas(32) int64_t lanes[4];
      _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), sums[p]);
      for (int i = 0; i < 4; ++i) counts[p][j + i] = static_cast<int32_t>(lanes[i]);
    }
  }
}

uint32_t at_least(const float* x, const float* limit) {
  uint32_t mask = 0;
  for (int i = 0; i < kChannels; i += 8) {
    const __m256 ge = _mm256_cmp_ps(_mm256_loadu_ps(x + i), _mm256_loadu_ps(limit + i), _CMP_GE_OQ);
    mask |= static_cast<uint32_t>(_mm256_movemask_ps(ge)) << i;
  }
  return mask;
}

struct Lanes {
  __m256 half[2];
};

BCDZOO_INLINE Lanes splat(float value) { return {{_mm256_set1_ps(value), _mm256_set1_ps(value)}}; }

BCDZOO_INLINE Lanes positive(Lanes x) {
  const __m256 zero = _mm256_setzero_ps();
  return {{_mm256_max_ps(x.half[0], zero), _mm256_max_ps(x.half[1], zero)}};
}

// x * w + sum, rounded once.
BCDZOO_INLINE Lanes fused(Lanes x, float w, Lanes sum) {
  const __m256 all = _mm256_set1_ps(w);
  return {{_mm256_fmadd_ps(x.half[0], all, sum.half[0]), _mm256_fmadd_ps(x.half[1], all, sum.half[1])}};
}

#include "kernel.inl"

const StemKernels kStem = {load, float_layer, pool};

}  // namespace

const Kernels kAvx2 = {"avx2", kStem, pack, convolve, halve, spin};

}  // namespace bcdzoo
