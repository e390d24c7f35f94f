// NEON: CNT counts the ones of bytes, lane = channel.
#include <arm_neon.h>

#include "stem.h"

namespace bcdzoo {
namespace {

void popcounts(const uint64_t* (*runs)[kMostRuns], int number, int length, const uint64_t* weights,
               int32_t (*counts)[kChannels]) {
  for (int j = 0; j < kChannels; j += 2) {
    uint64x2_t sums[kPixels];
    uint8x16_t bytes[kPixels];
    for (int p = 0; p < kPixels; ++p) {
      sums[p] = vdupq_n_u64(0);
      bytes[p] = vdupq_n_u8(0);
    }
    const uint64_t* w = weights + j;
    int room = 31;  // words that a byte can still count: 8 ones each
    const auto widen = [&] {
      for (int p = 0; p < kPixels; ++p) {
        sums[p] = vaddq_u64(sums[p], vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(bytes[p]))));
        bytes[p] = vdupq_n_u8(0);
      }
      room = 31;
    };
    for (int run = 0; run < number; ++run)
      for (int k = 0; k < length; ++k, w += kChannels) {
        const uint64x2_t weight = vld1q_u64(w);
        for (int p = 0; p < kPixels; ++p)
          bytes[p] = vaddq_u8(bytes[p],
                              vcntq_u8(vreinterpretq_u8_u64(veorq_u64(vdupq_n_u64(runs[p][run][k]), weight))));
        if (--room == 0) widen();
      }
    widen();
    for (int p = 0; p < kPixels; ++p) {
      counts[p][j] = static_cast<int32_t>(vgetq_lane_u64(sums[p], 0));
      counts[p][j + 1] = static_cast<int32_t>(vgetq_lane_u64(sums[p], 1));
    }
  }
}

#include "plain.inl"
#include "kernel.inl"

const StemKernels kStem = {load, float_layer, pool};

}  // namespace

const Kernels kNeon = {"neon", kStem, pack, convolve, halve, spin};

}  // namespace bcdzoo
