// AVX2 with FMA: binary tiles of 4 pixels x 16 channels (ones counted by looking nibbles up, in bytes, then widened),
// two of them a panel; real-valued tiles of 6 x 16.
#include <immintrin.h>

#include "../kernels.h"

namespace bcdzoo {
namespace {

constexpr int kWidth = 8;
#include "vectors.inl"

constexpr int kRoom = 31;  // dwords that a byte can count: 8 ones each
constexpr int kNV = 2, kMR = 4, kSpinMR = 2, kSpinNV = 2;
constexpr bool kPlain = false;
constexpr int kFloatMR = 6, kFloatNV = 2;

typedef I Counts;
BCDZOO_INLINE Counts add_popcount(Counts sum, I x) {
  const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4,  //
                                         0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i low = _mm256_set1_epi8(0x0f), bits = (__m256i)x;
  const __m256i lower = _mm256_shuffle_epi8(table, _mm256_and_si256(bits, low));
  const __m256i upper = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(bits, 4), low));
  return (I)_mm256_add_epi8((__m256i)sum, _mm256_add_epi8(lower, upper));
}
BCDZOO_INLINE I widen(Counts bytes) {
  const __m256i words = _mm256_maddubs_epi16((__m256i)bytes, _mm256_set1_epi8(1));
  return (I)_mm256_madd_epi16(words, _mm256_set1_epi16(1));
}
// a * b + c, rounded once.
BCDZOO_INLINE F fmadd(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
BCDZOO_INLINE uint32_t movemask(I x) { return static_cast<uint32_t>(_mm256_movemask_ps((__m256)x)); }
BCDZOO_INLINE uint32_t cmp_ge_mask(F a, F b) { return movemask((I)_mm256_cmp_ps(a, b, _CMP_GE_OQ)); }
// a > b ? a : b, so b if one is a NaN.
BCDZOO_INLINE F max(F a, F b) { return _mm256_max_ps(a, b); }
BCDZOO_INLINE F rint(F x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }

// Floats as doubles.
BCDZOO_INLINE D to_doubles(const float* x) { return _mm256_cvtps_pd(_mm_loadu_ps(x)); }

#include "attention.inl"
#include "binary.inl"
#include "grouped.inl"
#include "pointwise.inl"
#include "real.inl"
#include "table.inl"

}  // namespace

const Kernels kAvx2 = BCDZOO_KERNELS("avx2");

}  // namespace bcdzoo
