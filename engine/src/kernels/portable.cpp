// For any processor, in vectors of four that compilers split where there are none: binary tiles of 2 pixels x 8
// channels, four of them a panel; real-valued tiles of 2 x 16. On microcontrollers, which have few registers and little
// flash, 1 x 4 and 1 x 16.
#include "../kernels.h"

namespace bcdzoo {
namespace {

constexpr int kWidth = 4;
#include "vectors.inl"

constexpr int kRoom = 31;  // dwords that a byte can count: 8 ones each
#ifdef BCDZOO_MICROCONTROLLER
constexpr int kNV = 1, kMR = 1, kSpinMR = 1, kSpinNV = 1, kFloatMR = 1;
#else
constexpr int kNV = 2, kMR = 2, kSpinMR = 2, kSpinNV = 2, kFloatMR = 2;
#endif
constexpr bool kPlain = true;
constexpr int kFloatNV = 4;

#include "plain.inl"

typedef I Counts;
BCDZOO_INLINE I add_popcount(Counts sum, I bits) {
  U x = (U)bits;
  x -= (x >> 1) & 0x55555555u;
  x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
  return (I)((U)sum + ((x + (x >> 4)) & 0x0f0f0f0fu));
}
BCDZOO_INLINE I widen(Counts bytes) {
  U x = (U)bytes;
  x = (x & 0x00ff00ffu) + ((x >> 8) & 0x00ff00ffu);
  return (I)((x & 0xffffu) + (x >> 16));
}

#include "attention.inl"
#include "binary.inl"
#include "grouped.inl"
#include "pointwise.inl"
#include "real.inl"
#include "table.inl"

}  // namespace

const Kernels kPortable = BCDZOO_KERNELS("portable");

}  // namespace bcdzoo
