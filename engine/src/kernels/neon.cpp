// NEON, of 64 and 32 bits: CNT counts the ones of bytes, then widened. Binary tiles of 4 pixels x 16 channels, two of
// them a panel, and real-valued tiles of 4 x 16; of 32 bits, where there are half the registers, 2 x 16 and 1 x 16.
// There floats are not computed with in vectors: NEON would take tiny ones for 0.
#include "../kernels.h"

#ifdef BCDZOO_NEON
#include <arm_neon.h>

namespace bcdzoo {
namespace {

constexpr int kWidth = 4;
#include "vectors.inl"

constexpr int kRoom = 31;   // dwords that a byte can count: 8 ones each
typedef uint8x16_t Counts;  // not I: with two types for one value compilers move it from register to register
BCDZOO_INLINE Counts add_popcount(Counts sum, I x) { return vaddq_u8(sum, vcntq_u8((uint8x16_t)x)); }
BCDZOO_INLINE I widen(Counts bytes) { return (I)vpaddlq_u16(vpaddlq_u8(bytes)); }

#ifdef __aarch64__

constexpr int kNV = 4, kMR = 4, kSpinMR = 4, kSpinNV = 4;
constexpr bool kPlain = false;
constexpr int kFloatMR = 4, kFloatNV = 4;

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

#else

constexpr int kNV = 4, kMR = 2, kSpinMR = 2, kSpinNV = 4;
constexpr bool kPlain = true;
constexpr int kFloatMR = 1, kFloatNV = 4;
#include "plain.inl"

#endif

#include "attention.inl"
#include "binary.inl"
#include "grouped.inl"
#include "pointwise.inl"
#include "real.inl"
#include "table.inl"

}  // namespace

const Kernels kNeon = BCDZOO_KERNELS("neon");

}  // namespace bcdzoo

#endif
