// For any processor, in vectors of four that compilers split where there are none: binary tiles of 2 pixels x 8
// channels, four of them a panel; real-valued tiles of 2 x 16.
#include "../kernels.h"

namespace bcdzoo {
namespace {

constexpr int kWidth = 4;
#include "vectors.inl"

constexpr int kRoom = 31;  // dwords that a byte can count: 8 ones each
constexpr int kNV = 2, kMR = 2, kSpinMR = 2, kSpinNV = 2;
constexpr bool kPlain = true;
constexpr int kFloatMR = 2, kFloatNV = 4;

typedef uint32_t U __attribute__((vector_size(4 * kWidth)));

BCDZOO_INLINE F narrow(D first, D second) {
  typedef float HalfF __attribute__((vector_size(2 * kWidth)));
  const HalfF lower = __builtin_convertvector(first, HalfF), upper = __builtin_convertvector(second, HalfF);
  return __builtin_shufflevector(lower, upper, 0, 1, 2, 3);
}
BCDZOO_INLINE bool any(I mask) {
  typedef int64_t L __attribute__((vector_size(4 * kWidth)));
  return (((L)mask)[0] | ((L)mask)[1]) != 0;
}
#include "fused.inl"

BCDZOO_INLINE I add_popcount(I sum, I bits) {
  U x = (U)bits;
  x -= (x >> 1) & 0x55555555u;
  x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
  return (I)((U)sum + ((x + (x >> 4)) & 0x0f0f0f0fu));
}
BCDZOO_INLINE I widen(I bytes) {
  U x = (U)bytes;
  x = (x & 0x00ff00ffu) + ((x >> 8) & 0x00ff00ffu);
  return (I)((x & 0xffffu) + (x >> 16));
}
BCDZOO_INLINE uint32_t movemask(I x) {
  const U one = (U)x >> 31;
  return one[0] | one[1] << 1 | one[2] << 2 | one[3] << 3;
}
BCDZOO_INLINE uint32_t cmp_ge_mask(F a, F b) { return movemask((I)(a >= b)); }
// a > b ? a : b, so b if one is a NaN.
BCDZOO_INLINE F max(F a, F b) { return a > b ? a : b; }
BCDZOO_INLINE F rint(F x) {
  for (int i = 0; i < kWidth; ++i) x[i] = __builtin_rintf(x[i]);
  return x;
}

// Floats as doubles.
BCDZOO_INLINE D to_doubles(const float* x) {
  D all;
  for (int i = 0; i < kDoubles; ++i) all[i] = static_cast<double>(x[i]);
  return all;
}

#include "binary.inl"
#include "grouped.inl"
#include "pointwise.inl"
#include "real.inl"
#include "table.inl"

}  // namespace

const Kernels kPortable = BCDZOO_KERNELS("portable");

}  // namespace bcdzoo
