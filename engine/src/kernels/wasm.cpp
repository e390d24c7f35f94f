// WebAssembly with vectors of 128 bits: binary tiles of 2 pixels x 8 channels (the ones of bytes, then widened), four
// of them a panel; real-valued tiles of 2 x 16.
#include <wasm_simd128.h>

#include "../kernels.h"

namespace bcdzoo {
namespace {

constexpr int kWidth = 4;
#include "vectors.inl"

constexpr int kRoom = 31;  // dwords that a byte can count: 8 ones each
constexpr int kNV = 2, kMR = 2, kSpinMR = 2, kSpinNV = 2;
constexpr bool kPlain = true;
constexpr int kFloatMR = 2, kFloatNV = 4;

BCDZOO_INLINE F narrow(D first, D second) {
  const F lower = (F)wasm_f32x4_demote_f64x2_zero((v128_t)first);
  const F upper = (F)wasm_f32x4_demote_f64x2_zero((v128_t)second);
  return __builtin_shufflevector(lower, upper, 0, 1, 4, 5);
}
BCDZOO_INLINE bool any(I mask) { return wasm_v128_any_true((v128_t)mask); }
#include "fused.inl"

typedef I Counts;
BCDZOO_INLINE Counts add_popcount(Counts sum, I x) {
  return (I)wasm_i8x16_add((v128_t)sum, wasm_i8x16_popcnt((v128_t)x));
}
BCDZOO_INLINE I widen(Counts bytes) {
  return (I)wasm_u32x4_extadd_pairwise_u16x8(wasm_u16x8_extadd_pairwise_u8x16((v128_t)bytes));
}
BCDZOO_INLINE uint32_t movemask(I x) { return wasm_i32x4_bitmask((v128_t)x); }
BCDZOO_INLINE uint32_t cmp_ge_mask(F a, F b) { return movemask((I)(a >= b)); }
// a > b ? a : b, so b if one is a NaN.
BCDZOO_INLINE F max(F a, F b) { return (F)wasm_f32x4_pmax((v128_t)b, (v128_t)a); }
BCDZOO_INLINE F rint(F x) { return (F)wasm_f32x4_nearest((v128_t)x); }

// Floats as doubles.
BCDZOO_INLINE D to_doubles(const float* x) { return (D)wasm_f64x2_promote_low_f32x4(wasm_v128_load64_zero(x)); }

#include "attention.inl"
#include "binary.inl"
#include "grouped.inl"
#include "pointwise.inl"
#include "real.inl"
#include "table.inl"

}  // namespace

const Kernels kWasm = BCDZOO_KERNELS("simd128");

}  // namespace bcdzoo
