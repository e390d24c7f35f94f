// NEON: binary tiles of 2 pixels x 16 channels (CNT counts the ones of bytes, then widened), two of them a panel;
// real-valued tiles of 4 x 16.
#include <arm_neon.h>

#include "../kernels.h"

namespace bcdzoo {
namespace {

constexpr int kWidth = 4;
#include "vectors.inl"

constexpr int kRoom = 31;  // dwords that a byte can count: 8 ones each
constexpr int kNV = 4, kMR = 2, kSpinMR = 2, kSpinNV = 4;
constexpr bool kPlain = false;
constexpr int kFloatMR = 4, kFloatNV = 4;

BCDZOO_INLINE I add_popcount(I sum, I x) { return (I)vaddq_u8((uint8x16_t)sum, vcntq_u8((uint8x16_t)x)); }
BCDZOO_INLINE I widen(I bytes) { return (I)vpaddlq_u16(vpaddlq_u8((uint8x16_t)bytes)); }
// a * b + c, rounded once.
BCDZOO_INLINE F fmadd(F a, F b, F c) { return (F)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b); }
BCDZOO_INLINE uint32_t movemask(I x) {
  const uint32_t places[4] = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32((uint32x4_t)(x >> 31), vld1q_u32(places)));
}
BCDZOO_INLINE uint32_t cmp_ge_mask(F a, F b) { return movemask((I)(a >= b)); }
// a > b ? a : b, so b if one is a NaN.
BCDZOO_INLINE F max(F a, F b) { return a > b ? a : b; }
BCDZOO_INLINE F rint(F x) { return (F)vrndnq_f32((float32x4_t)x); }

// Floats as doubles.
BCDZOO_INLINE D to_doubles(const float* x) { return (D)vcvt_f64_f32(vld1_f32(x)); }

#include "binary.inl"
#include "grouped.inl"
#include "pointwise.inl"
#include "real.inl"
#include "table.inl"

}  // namespace

const Kernels kNeon = BCDZOO_KERNELS("neon");

}  // namespace bcdzoo
