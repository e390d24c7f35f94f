// The kernels, once for every instruction set: a file that defines the primitives popcounts(), at_least(), Lanes,
// splat(), positive() and fused() in its own namespace includes this behind them. Compiled without contraction of products and sums, so that every float is
// that of the plain network: fused where torch fuses, and nowhere else.

#include "stem.inl"

// Bits of one input pixel.
static void pack_pixel(const float* x, const float* threshold, int channels, uint64_t* out) {
  uint32_t* halves = reinterpret_cast<uint32_t*>(out);
  int first = 0;
  for (; first + kChannels <= channels; first += kChannels) halves[first / kChannels] = at_least(x + first, threshold + first);
  if (first == channels) return;
  alignas(64) float value[kChannels], limit[kChannels];
  for (int i = 0; i < kChannels; ++i) {
    value[i] = first + i < channels ? x[first + i] : -INFINITY;  // bits beyond the channels are 0
    limit[i] = first + i < channels ? threshold[first + i] : INFINITY;
  }
  halves[first / kChannels] = at_least(value, limit);
}

static void pack(const Unit& unit, const Geometry& g, const Source& from, uint64_t* bits, int begin, int end) {
  const float* threshold = from.threshold ? from.threshold : unit.threshold.data();
  for (int pixel = begin; pixel < end; ++pixel)
    pack_pixel(from.values + int64_t{pixel} * from.channels, threshold, from.channels,
               bits + int64_t{g.bit_at[pixel]} * unit.words());
}

// Pointers to the runs of words that make up a pixel's window.
BCDZOO_INLINE void runs_of(const Unit& unit, const Geometry& g, const Branch& branch, const uint64_t* bits, int pixel,
                           const uint64_t** runs) {
  const int64_t words = unit.words();
  if (branch.sampling == Sampling::kNone) {
    const uint64_t* start = bits + g.window_at[pixel] * words;
    for (int row = 0; row < unit.kernel; ++row) runs[row] = start + row * g.bit_width * words;
    return;
  }
  const int32_t* from = g.sampled_at[branch.sampling == Sampling::kLongRange].data() + int64_t{pixel} * 4;
  for (int quarter = 0; quarter < 4; ++quarter) runs[quarter] = bits + from[quarter] * words + quarter * (words / 4);
}

static void average(const Geometry& g, const float* input, int pixel, int first, int count, float* out) {
  const int y = pixel / g.out_width * 2, x = pixel % g.out_width * 2;
  const int rows = std::min(2, g.height - y), columns = std::min(2, g.width - x);
  alignas(64) float sum[kChannels] = {};
  for (int row = 0; row < rows; ++row)
    for (int column = 0; column < columns; ++column) {
      const float* from = input + (int64_t{y + row} * g.width + x + column) * g.in_channels + first;
      if (count == kChannels)
        for (int i = 0; i < kChannels; ++i) sum[i] += from[i];
      else
        for (int i = 0; i < count; ++i) sum[i] += from[i];
    }
  const float divisor = static_cast<float>(rows * columns);
  for (int i = 0; i < kChannels; ++i) out[i] = sum[i] / divisor;
}

// The shortcut's values of one pixel, kChannels of them or null; `scratch` has room for them.
BCDZOO_INLINE const float* shortcut_of(const Unit& unit, const Geometry& g, const Maps& maps, int pixel, int first,
                                       int count, float* scratch) {
  const float* from = nullptr;
  switch (unit.shortcut) {
    case Shortcut::kNone:
      return nullptr;
    case Shortcut::kSame:
      from = maps.input + int64_t{pixel} * g.in_channels + g.out_offset + first;
      break;
    case Shortcut::kGiven:
      from = maps.shortcut + int64_t{pixel} * unit.c_out + first;
      break;
    case Shortcut::kAveragePool:
      average(g, maps.input, pixel, first, count, scratch);
      return scratch;
    case Shortcut::kDuplicate:
      from = maps.input + int64_t{pixel} * g.in_channels;
      if (first + count <= unit.c_in || first >= unit.c_in) {
        from += first >= unit.c_in ? first - unit.c_in : first;
        break;
      }
      for (int i = 0; i < count; ++i) scratch[i] = from[(first + i) % unit.c_in];
      return scratch;
  }
  if (count == kChannels) return from;
  std::memcpy(scratch, from, sizeof(float) * count);
  return scratch;
}

// Counts of one tile of a panel, of all branches.
template <int kBranches>
BCDZOO_INLINE void count(const Unit& unit, const Geometry& g, const Maps& maps, int panel, int pixel, int pixels,
                         int32_t (*counts)[kPixels][kChannels]) {
  const uint64_t* runs[kPixels][kMostRuns];
  const int64_t window = unit.window_words();
  for (int b = 0; b < kBranches; ++b) {
    const Branch& branch = unit.branches[b];
    const bool sampled = branch.sampling != Sampling::kNone;
    for (int p = 0; p < kPixels; ++p)  // a tile that is not full repeats its last pixel
      runs_of(unit, g, branch, maps.bits, pixel + (p < pixels ? p : pixels - 1), runs[p]);
    popcounts(runs, sampled ? 4 : unit.kernel, sampled ? unit.words() / 4 : unit.kernel * unit.words(),
              branch.panels.data() + panel * window * kChannels, counts[b]);
  }
}

// A panel's constants.
template <int kBranches>
struct Constants {
  const float* scale[kBranches];
  const float *alpha, *beta, *shift_in, *slope, *shift_out;
  alignas(64) float gate[kChannels], offset[kChannels];  // of this image
  const float* inner_slope;
  float limit;

  Constants(const Unit& unit, const Maps& maps, int first, int count) {
    for (int b = 0; b < kBranches; ++b) scale[b] = unit.branches[b].scale.data() + first;
    alpha = unit.alpha.data() + first;
    beta = unit.beta.data() + first;
    shift_in = unit.shift_in.data() + first;
    slope = unit.slope.data() + first;
    shift_out = unit.shift_out.data() + first;
    inner_slope = unit.inner_slope.empty() ? nullptr : unit.inner_slope.data() + first;
    limit = unit.limit;
    for (int i = 0; i < kChannels; ++i) {
      gate[i] = maps.gate && i < count ? maps.gate[first + i] : 1.0f;
      offset[i] = maps.offset && i < count ? maps.offset[first + i] : 0.0f;
    }
  }
};

// From one pixel's counts to what the unit gives; one loop, so that all of it stays in registers.
template <int kBranches, bool kDynamic, bool kExtra, bool kShortcut, bool kActivationFirst>
BCDZOO_INLINE void finish(const Constants<kBranches>& constants, const int32_t (*counts)[kPixels][kChannels], int pixel,
                          const int32_t* base, int base_step, const float* shortcut, float* out) {
  const float *alpha = constants.alpha, *beta = constants.beta;
  const float *shift_in = constants.shift_in, *slope = constants.slope, *shift_out = constants.shift_out;
  const float limit = constants.limit;
  for (int i = 0; i < kChannels; ++i) {
    float x = static_cast<float>(base[i] - 2 * counts[0][pixel][i]) * constants.scale[0][i];
    for (int b = 1; b < kBranches; ++b)
      x = x + static_cast<float>(base[b * base_step + i] - 2 * counts[b][pixel][i]) * constants.scale[b][i];
    if (kDynamic) {
      x = x * constants.gate[i];
      x = x + constants.offset[i];
    }
    if (kExtra) x = x > 0.0f ? x : x * constants.inner_slope[i];
    x = __builtin_fmaf(x, alpha[i], beta[i]);  // as torch's batch normalization rounds
    if (kShortcut && !kActivationFirst) x = x + shortcut[i];
    x = x + shift_in[i];
    const float negative = x * slope[i];
    x = x > 0.0f ? x : negative;
    x = x + shift_out[i];
    if (kShortcut && kActivationFirst) x = x + shortcut[i];
    if (kExtra) x = x > limit ? limit : x < -limit ? -limit : x;
    out[i] = x;
  }
}

// Some channels' bits of one pixel, kChannels of them, for a unit that reads them.
BCDZOO_INLINE void read(const Reader& reader, int first, int pixel, const float* x) {
  reader.bits[int64_t{reader.geometry->bit_at[pixel]} * 2 * reader.unit->words() + first / kChannels] =
      at_least(x, reader.unit->threshold.data() + first);
}

template <int kBranches, bool kDynamic, bool kExtra, bool kShortcut, bool kActivationFirst>
static void convolve_block(const Unit& unit, const Geometry& g, const Maps& maps, int begin, int end) {
  alignas(64) int32_t counts[kBranches][kPixels][kChannels];
  alignas(64) float scratch[kChannels], values[kChannels];  // not the output itself, which may be where the shortcut is
  const int base_step = unit.padded_out();
  for (int panel = 0; panel < unit.panels(); ++panel) {
    const int first = panel * kChannels, channels = std::min(kChannels, unit.c_out - first);
    const Constants<kBranches> constants(unit, maps, first, channels);
    for (int tile = begin; tile < end; ++tile) {
      const int pixel = tile * kPixels, pixels = std::min(kPixels, g.pixels() - pixel);
      count<kBranches>(unit, g, maps, panel, pixel, pixels, counts);
      for (int p = 0; p < pixels; ++p) {
        const int32_t* base = g.bases.data() + int64_t{g.classes[pixel + p]} * kBranches * base_step + first;
        const float* shortcut = kShortcut ? shortcut_of(unit, g, maps, pixel + p, first, channels, scratch) : nullptr;
        finish<kBranches, kDynamic, kExtra, kShortcut, kActivationFirst>(constants, counts, p, base, base_step, shortcut, values);
        float* out = maps.output + int64_t{pixel + p} * g.out_channels + g.out_offset + first;
        if (channels == kChannels) {
          std::memcpy(out, values, sizeof(values));
        } else {
          std::memcpy(out, values, sizeof(float) * channels);
          for (int i = channels; i < kChannels; ++i) values[i] = -INFINITY;  // bits beyond the channels are 0
        }
        for (const Reader& reader : maps.readers) read(reader, g.out_offset + first, pixel + p, values);
      }
    }
  }
}

// Few tiles at a time, so that their floats are read and written in one go while a panel's weights wait in the cache.
template <int kBranches, bool kDynamic, bool kExtra, bool kShortcut, bool kActivationFirst>
static void convolve_as(const Unit& unit, const Geometry& g, const Maps& maps, int begin, int end) {
  for (int tile = begin; tile < end; tile += kTiles)
    convolve_block<kBranches, kDynamic, kExtra, kShortcut, kActivationFirst>(unit, g, maps, tile, std::min(tile + kTiles, end));
}

template <int kBranches, bool kDynamic, bool kExtra>
static void convolve_with(const Unit& unit, const Geometry& g, const Maps& maps, int begin, int end) {
  auto chosen = convolve_as<kBranches, kDynamic, kExtra, false, false>;
  if (unit.shortcut != Shortcut::kNone)
    chosen = unit.activation_first ? convolve_as<kBranches, kDynamic, kExtra, true, true>
                                   : convolve_as<kBranches, kDynamic, kExtra, true, false>;
  chosen(unit, g, maps, begin, end);
}

static void convolve(const Unit& unit, const Geometry& g, const Maps& maps, int begin, int end) {
  const bool dynamic = maps.gate || maps.offset, extra = unit.has_extra();
  auto chosen = dynamic ? convolve_with<1, true, false> : convolve_with<1, false, false>;
  if (extra) chosen = dynamic ? convolve_with<1, true, true> : convolve_with<1, false, true>;
  if (unit.branches.size() > 1) chosen = convolve_with<kMostBranches, false, false>;
  chosen(unit, g, maps, begin, end);
}

static void halve(const Halving& halving, int height, int width, const float* x, float* out, int begin, int end) {
  const int channels = static_cast<int>(halving.alpha.size()), out_width = Halving::output(width);
  const int64_t pixels = int64_t{Halving::output(height)} * out_width;
  alignas(64) float best[kChannels];
  for (int first = 0; first < channels; first += kChannels) {
    const int count = std::min(kChannels, channels - first);
    const float *alpha = halving.alpha.data() + first, *beta = halving.beta.data() + first;
    for (int y = begin; y < end; ++y)
      for (int column = 0; column < out_width; ++column) {
        for (float& value : best) value = 0.0f;  // ReLU
        for (int row = 2 * y; row < std::min(2 * y + 2, height); ++row)
          for (int at = 2 * column; at < std::min(2 * column + 2, width); ++at) {
            const float* from = x + (int64_t{row} * width + at) * channels + first;
            for (int i = 0; i < count; ++i) {
              const float value = __builtin_fmaf(from[i], alpha[i], beta[i]);
              best[i] = value > best[i] ? value : best[i];
            }
          }
        for (int i = 0; i < count; ++i) out[(first + i) * pixels + y * out_width + column] = best[i];
      }
  }
}

static double spin(const uint64_t* activations, const uint64_t* weights, int words, int repeats) {
  const uint64_t* runs[kPixels][kMostRuns];
  for (int p = 0; p < kPixels; ++p) runs[p][0] = activations + p * words;
  alignas(64) int32_t counts[kPixels][kChannels];
  volatile int32_t sink = 0;
  for (int i = 0; i < repeats; ++i) {
    popcounts(runs, 1, words, weights, counts);
    sink = sink + counts[i % kPixels][i % kChannels];
  }
  return double{kWordBits} * words * kPixels * kChannels * repeats;
}
