// Plain C++ on 64-bit words, for any processor.
#include "stem.h"

namespace bcdzoo {
namespace {

inline int ones(uint64_t x) {
  x -= (x >> 1) & 0x5555555555555555ULL;
  x = (x & 0x3333333333333333ULL) + ((x >> 2) & 0x3333333333333333ULL);
  x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
  return static_cast<int>((x * 0x0101010101010101ULL) >> 56);
}

// Ones in (activations XOR weights) of each pixel and channel of a tile.
void popcounts(const uint64_t* (*runs)[kMostRuns], int number, int length, const uint64_t* weights,
               int32_t (*counts)[kChannels]) {
  for (int p = 0; p < kPixels; ++p) {
    const uint64_t* w = weights;
    for (int i = 0; i < kChannels; ++i) counts[p][i] = 0;
    for (int run = 0; run < number; ++run)
      for (int k = 0; k < length; ++k, w += kChannels)
        for (int i = 0; i < kChannels; ++i) counts[p][i] += ones(runs[p][run][k] ^ w[i]);
  }
}

#include "plain.inl"
#include "kernel.inl"

const StemKernels kStem = {load, float_layer, pool};

}  // namespace

const Kernels kPortable = {"portable", kStem, pack, convolve, halve, spin};

}  // namespace bcdzoo
