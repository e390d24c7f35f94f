// AVX-512 (F, DQ, BW, VL, VPOPCNTDQ): binary tiles of 4 pixels x 32 channels, real-valued ones of 8 x 32. VPOPCNTD
// counts where the sums are wanted as floats; eight accumulators leave the processor free to finish one tile in
// another's shadow.
#include <immintrin.h>

#include "../kernels.h"

namespace bcdzoo {
namespace {

constexpr int kWidth = 16;
#include "vectors.inl"

constexpr int kRoom = 0, kNV = 2, kMR = 4, kSpinMR = 4, kSpinNV = 4;
constexpr bool kPlain = false;
constexpr int kFloatMR = 8, kFloatNV = 2;

typedef I Counts;
BCDZOO_INLINE Counts add_popcount(Counts sum, I x) { return sum + (I)_mm512_popcnt_epi32((__m512i)x); }
BCDZOO_INLINE I widen(Counts x) { return x; }
// a * b + c, rounded once.
BCDZOO_INLINE F fmadd(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
BCDZOO_INLINE uint32_t cmp_ge_mask(F a, F b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
BCDZOO_INLINE uint32_t movemask(I x) { return _mm512_movepi32_mask((__m512i)x); }
// a > b ? a : b, so b if one is a NaN.
BCDZOO_INLINE F max(F a, F b) { return _mm512_maskz_max_ps(0xffff, a, b); }
BCDZOO_INLINE F rint(F x) {
  return _mm512_maskz_roundscale_ps(0xffff, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// Floats as doubles.
BCDZOO_INLINE D to_doubles(const float* x) { return _mm512_maskz_cvtps_pd(0xff, _mm256_loadu_ps(x)); }

#include "attention.inl"
#include "binary.inl"
#include "grouped.inl"
#include "pointwise.inl"
#include "real.inl"
#include "table.inl"

}  // namespace

const Kernels kAvx512 = BCDZOO_KERNELS("avx512");

}  // namespace bcdzoo
