// The kernels, once for every instruction set: a file that defines the two primitives popcounts() and at_least() in its
// own namespace includes this behind them. Compiled without contraction of products and sums, so that every float is
// that of the plain network: fused where torch fuses, and nowhere else.

// Bits of one input pixel; `count` channels from `x` on.
static void pack_pixel(const Unit& unit, const float* x, const float* threshold, uint64_t* out) {
  const float* scale = unit.in_scale.empty() ? nullptr : unit.in_scale.data();
  const float* shift = threshold ? threshold : unit.in_shift.data();
  alignas(64) float value[kChannels], limit[kChannels];
  uint32_t half[2];
  for (int word = 0; word < unit.words(); ++word) {
    for (int side = 0; side < 2; ++side) {
      const int first = word * kWordBits + side * kChannels;
      const int count = std::clamp(unit.c_in - first, 0, kChannels);
      if (count == kChannels && !scale) {
        half[side] = at_least(x + first, shift + first);
        continue;
      }
      for (int i = 0; i < kChannels; ++i) {
        value[i] = -1.0f;  // bits beyond the channels are 0
        limit[i] = 0.0f;
      }
      for (int i = 0; i < count; ++i) {
        value[i] = scale ? __builtin_fmaf(x[first + i], scale[first + i], shift[first + i]) : x[first + i];
        limit[i] = scale ? 0.0f : shift[first + i];
        // a comparison with a value that is not a number is false in the plain network too
      }
      half[side] = at_least(value, limit);
    }
    out[word] = half[0] | uint64_t{half[1]} << 32;
  }
}

static void pack(const Unit& unit, const Geometry& g, const Maps& maps, int begin, int end) {
  for (int pixel = begin; pixel < end; ++pixel)
    pack_pixel(unit, maps.input + int64_t{pixel} * g.in_channels, maps.threshold,
               maps.bits + int64_t{g.bit_at[pixel]} * unit.words());
}

// Pointers to the runs of words that make up a pixel's window.
static inline void runs_of(const Unit& unit, const Geometry& g, const Branch& branch, const uint64_t* bits, int pixel,
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
  for (int i = 0; i < count; ++i) out[i] = 0.0f;
  for (int row = 0; row < rows; ++row)
    for (int column = 0; column < columns; ++column) {
      const float* from = input + (int64_t{y + row} * g.width + x + column) * g.in_channels + first;
      for (int i = 0; i < count; ++i) out[i] += from[i];
    }
  const float divisor = static_cast<float>(rows * columns);
  for (int i = 0; i < count; ++i) out[i] /= divisor;
}

// The shortcut's values of one pixel, kChannels of them or null; `scratch` has room for them.
static inline const float* shortcut_of(const Unit& unit, const Geometry& g, const Maps& maps, int pixel, int first,
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

// From the sums of one pixel's channels, kChannels of them, to what the unit gives.
template <bool kDynamic, bool kShortcut, bool kActivationFirst>
static void finish(const Unit& unit, const Maps& maps, int first, int count, const float* shortcut, const float* sums,
                   float* out) {
  const float *alpha = unit.alpha.data() + first, *beta = unit.beta.data() + first;
  const float *shift_in = unit.shift_in.data() + first, *slope = unit.slope.data() + first,
              *shift_out = unit.shift_out.data() + first;
  alignas(64) float scaled[kChannels];
  if (kDynamic) {
    std::memcpy(scaled, sums, sizeof(scaled));
    for (int i = 0; maps.gate && i < count; ++i) scaled[i] *= maps.gate[first + i];
    for (int i = 0; maps.offset && i < count; ++i) scaled[i] += maps.offset[first + i];
    sums = scaled;
  }
  for (int i = 0; i < kChannels; ++i) {
    float x = __builtin_fmaf(sums[i], alpha[i], beta[i]);  // as torch's batch normalization rounds
    if (kShortcut && !kActivationFirst) x = x + shortcut[i];
    x = x + shift_in[i];
    const float negative = x * slope[i];
    x = x > 0.0f ? x : negative;
    x = x + shift_out[i];
    if (kShortcut && kActivationFirst) x = x + shortcut[i];
    out[i] = x;
  }
}

using Finish = void (*)(const Unit&, const Maps&, int, int, const float*, const float*, float*);

static Finish finish_for(const Unit& unit, bool dynamic) {
  const bool shortcut = unit.shortcut != Shortcut::kNone, first = unit.activation_first;
  if (dynamic) {
    if (!shortcut) return finish<true, false, false>;
    return first ? finish<true, true, true> : finish<true, true, false>;
  }
  if (!shortcut) return finish<false, false, false>;
  return first ? finish<false, true, true> : finish<false, true, false>;
}

// One tile of a panel: sums of all branches, [kPixels][kChannels].
static inline void sums_of(const Unit& unit, const Geometry& g, const Maps& maps, int panel, int pixel, int pixels,
                           float (*sums)[kChannels]) {
  const uint64_t* runs[kPixels][kMostRuns];
  int lengths[kMostRuns];
  alignas(64) int32_t counts[kPixels][kChannels];
  const int window = unit.window_words(), branches = static_cast<int>(unit.branches.size());
  for (int b = 0; b < branches; ++b) {
    const Branch& branch = unit.branches[b];
    const bool sampled = branch.sampling != Sampling::kNone;
    const int number = sampled ? 4 : unit.kernel, length = sampled ? unit.words() / 4 : unit.kernel * unit.words();
    for (int run = 0; run < number; ++run) lengths[run] = length;
    for (int p = 0; p < kPixels; ++p)  // a tile that is not full repeats its last pixel
      runs_of(unit, g, branch, maps.bits, pixel + (p < pixels ? p : pixels - 1), runs[p]);
    popcounts(runs, lengths, number, branch.panels.data() + int64_t{panel} * window * kChannels, counts);
    const float* scale = branch.scale.data() + panel * kChannels;
    for (int p = 0; p < pixels; ++p) {
      const int32_t* base = g.bases.data() +
                            (int64_t{g.classes[pixel + p]} * branches + b) * unit.padded_out() + panel * kChannels;
      if (b == 0)
        for (int i = 0; i < kChannels; ++i) sums[p][i] = static_cast<float>(base[i] - 2 * counts[p][i]) * scale[i];
      else
        for (int i = 0; i < kChannels; ++i) sums[p][i] += static_cast<float>(base[i] - 2 * counts[p][i]) * scale[i];
    }
  }
}

static void convolve(const Unit& unit, const Geometry& g, const Maps& maps, int begin, int end) {
  alignas(64) float sums[kPixels][kChannels], scratch[kChannels], partial[kChannels];
  const int64_t next_words = maps.next_bits ? 2 * maps.next->words() : 0;
  const Finish finished = finish_for(unit, maps.gate || maps.offset);
  for (int panel = 0; panel < unit.panels(); ++panel) {
    const int first = panel * kChannels, count = std::min(kChannels, unit.c_out - first);
    const float* thresholds = maps.next_bits ? maps.next->in_shift.data() + first : nullptr;
    for (int tile = begin; tile < end; ++tile) {
      const int pixel = tile * kPixels, pixels = std::min(kPixels, g.pixels() - pixel);
      sums_of(unit, g, maps, panel, pixel, pixels, sums);
      for (int p = 0; p < pixels; ++p) {
        const float* shortcut = shortcut_of(unit, g, maps, pixel + p, first, count, scratch);
        float* out = maps.output + int64_t{pixel + p} * g.out_channels + g.out_offset + first;
        float* here = count == kChannels ? out : partial;
        finished(unit, maps, first, count, shortcut, sums[p], here);
        if (count < kChannels) {
          std::memcpy(out, partial, sizeof(float) * count);
          for (int i = count; i < kChannels; ++i) partial[i] = -INFINITY;  // bits beyond the channels are 0
        }
        if (thresholds)
          maps.next_bits[maps.next_geometry->bit_at[pixel + p] * next_words + panel] = at_least(here, thresholds);
      }
    }
  }
}

static double spin(const uint64_t* activations, const uint64_t* weights, int words, int repeats) {
  const uint64_t* runs[kPixels][kMostRuns];
  for (int p = 0; p < kPixels; ++p) runs[p][0] = activations + p * words;
  alignas(64) int32_t counts[kPixels][kChannels];
  volatile int32_t sink = 0;
  for (int i = 0; i < repeats; ++i) {
    popcounts(runs, &words, 1, weights, counts);
    sink = sink + counts[i % kPixels][i % kChannels];
  }
  return double{kWordBits} * words * kPixels * kChannels * repeats;
}
