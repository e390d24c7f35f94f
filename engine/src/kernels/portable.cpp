// For any processor, in vectors of four that compilers split where there are none: binary tiles of 2 pixels x 8 channels,
// four of them a panel; real-valued tiles of 2 x 16.
#include "../kernels.h"

namespace bcdzoo {
namespace {

constexpr int kWidth = 4;
#include "vectors.inl"

constexpr int kRoom = 31;  // dwords that a byte can count: 8 ones each
constexpr int kCounted = 2, kRows = 2, kSpinRows = 2, kSpinVectors = 2;
constexpr bool kFewTiles = true;
constexpr int kFloatRows = 2, kFloatVectors = 4;

typedef uint32_t U __attribute__((vector_size(4 * kWidth)));

BCDZOO_INLINE I accumulate(I sum, I bits) {
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
// a * b + c, rounded once.
BCDZOO_INLINE F fused(F a, F b, F c) {
  for (int i = 0; i < kWidth; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
}
BCDZOO_INLINE uint32_t signs(I x) {
  const U one = (U)x >> 31;
  return one[0] | one[1] << 1 | one[2] << 2 | one[3] << 3;
}
BCDZOO_INLINE uint32_t at_least(F a, F b) { return signs((I)(a >= b)); }
// a > b ? a : b, so b if one is a NaN.
BCDZOO_INLINE F larger(F a, F b) { return a > b ? a : b; }
BCDZOO_INLINE F rounded(F x) {
  for (int i = 0; i < kWidth; ++i) x[i] = __builtin_rintf(x[i]);
  return x;
}

#include "binary.inl"
#include "real.inl"
#include "grouped.inl"
#include "pointwise.inl"

}  // namespace

const Kernels kPortable = BCDZOO_KERNELS("portable");

}  // namespace bcdzoo
