// The kernels, once for every instruction set: a file that defines the two primitives popcounts() and at_least() in its
// own namespace includes this behind them. Compiled without contraction of products and sums, so that every float is
// that of the plain network: fused where torch fuses, and nowhere else.

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

// From the sums of one pixel's channels, kChannels of them, to what the unit gives.
template <bool kDynamic, bool kShortcut, bool kActivationFirst>
BCDZOO_INLINE void finish(const Unit& unit, const Maps& maps, int first, int count, const float* shortcut,
                          float (&v)[kChannels]) {
  const float *alpha = unit.alpha.data() + first, *beta = unit.beta.data() + first;
  const float *shift_in = unit.shift_in.data() + first, *slope = unit.slope.data() + first,
              *shift_out = unit.shift_out.data() + first;
  if (kDynamic) {
    for (int i = 0; maps.gate && i < count; ++i) v[i] *= maps.gate[first + i];
    for (int i = 0; maps.offset && i < count; ++i) v[i] += maps.offset[first + i];
  }
  for (int i = 0; i < kChannels; ++i) {
    float x = __builtin_fmaf(v[i], alpha[i], beta[i]);  // as torch's batch normalization rounds
    if (kShortcut && !kActivationFirst) x = x + shortcut[i];
    x = x + shift_in[i];
    const float negative = x * slope[i];
    x = x > 0.0f ? x : negative;
    x = x + shift_out[i];
    if (kShortcut && kActivationFirst) x = x + shortcut[i];
    v[i] = x;
  }
}

// One tile of a panel: sums of all branches, [kPixels][kChannels].
BCDZOO_INLINE void sums_of(const Unit& unit, const Geometry& g, const Maps& maps, int panel, int pixel, int pixels,
                           float (&sums)[kPixels][kChannels]) {
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

// Some channels' bits of one pixel, kChannels of them, for a unit that reads them.
BCDZOO_INLINE void read(const Reader& reader, int first, int pixel, const float* x) {
  reader.bits[int64_t{reader.geometry->bit_at[pixel]} * 2 * reader.unit->words() + first / kChannels] =
      at_least(x, reader.unit->threshold.data() + first);
}

template <bool kDynamic, bool kShortcut, bool kActivationFirst>
static void convolve_as(const Unit& unit, const Geometry& g, const Maps& maps, int begin, int end) {
  // All arithmetic is on these arrays: the output may be where the shortcut is, which keeps compilers from vectors.
  alignas(64) float sums[kPixels][kChannels], scratch[kChannels], shortcut[kChannels];
  for (int panel = 0; panel < unit.panels(); ++panel) {
    const int first = panel * kChannels, count = std::min(kChannels, unit.c_out - first);
    for (int tile = begin; tile < end; ++tile) {
      const int pixel = tile * kPixels, pixels = std::min(kPixels, g.pixels() - pixel);
      sums_of(unit, g, maps, panel, pixel, pixels, sums);
      for (int p = 0; p < pixels; ++p) {
        if (kShortcut) {
          const float* from = shortcut_of(unit, g, maps, pixel + p, first, count, scratch);
          std::memcpy(shortcut, from, sizeof(shortcut));
        }
        finish<kDynamic, kShortcut, kActivationFirst>(unit, maps, first, count, shortcut, sums[p]);
        float* out = maps.output + int64_t{pixel + p} * g.out_channels + g.out_offset + first;
        if (count == kChannels) {
          std::memcpy(out, sums[p], sizeof(sums[p]));
        } else {
          std::memcpy(out, sums[p], sizeof(float) * count);
          for (int i = count; i < kChannels; ++i) sums[p][i] = -INFINITY;  // bits beyond the channels are 0
        }
        for (const Reader& reader : maps.readers) read(reader, g.out_offset + first, pixel + p, sums[p]);
      }
    }
  }
}

static void convolve(const Unit& unit, const Geometry& g, const Maps& maps, int begin, int end) {
  const bool dynamic = maps.gate || maps.offset, shortcut = unit.shortcut != Shortcut::kNone;
  auto chosen = convolve_as<false, false, false>;
  if (dynamic) chosen = convolve_as<true, false, false>;
  if (shortcut && !unit.activation_first) chosen = dynamic ? convolve_as<true, true, false> : convolve_as<false, true, false>;
  if (shortcut && unit.activation_first) chosen = dynamic ? convolve_as<true, true, true> : convolve_as<false, true, true>;
  chosen(unit, g, maps, begin, end);
}

// In torch's order: over rows, columns, channels, each product fused with the sum.
static void stem(const Stem& stem, const Image& image, float* out, const Reader& reader, int begin, int end) {
  const int out_width = stem.output(image.width), padded = stem.padded_out();
  for (int pixel = begin; pixel < end; pixel += kPixels) {
    const int pixels = std::min(kPixels, end - pixel);
    int top[kPixels], left[kPixels];
    for (int p = 0; p < kPixels; ++p) {
      const int at = pixel + std::min(p, pixels - 1);
      top[p] = at / out_width * stem.stride - stem.padding;
      left[p] = at % out_width * stem.stride - stem.padding;
    }
    for (int first = 0; first < stem.c_out; first += kChannels) {
      alignas(64) float sums[kPixels][kChannels] = {};
      const float* weights = stem.weights.data() + first;
      for (int row = 0; row < stem.kernel; ++row)
        for (int column = 0; column < stem.kernel; ++column) {
          const float* x[kPixels];
          for (int p = 0; p < kPixels; ++p) {
            const int y = top[p] + row, at = left[p] + column;
            const bool inside = y >= 0 && y < image.height && at >= 0 && at < image.width;
            x[p] = inside ? image.values + y * image.row + at * image.column : nullptr;
          }
          for (int c = 0; c < stem.c_in; ++c, weights += padded)
            for (int p = 0; p < kPixels; ++p) {
              const float value = x[p] ? x[p][c * image.channel] : 0.0f;
              for (int i = 0; i < kChannels; ++i) sums[p][i] = __builtin_fmaf(value, weights[i], sums[p][i]);
            }
        }
      const int count = std::min(kChannels, stem.c_out - first);
      for (int p = 0; p < pixels; ++p) {
        for (int i = 0; i < kChannels; ++i)
          sums[p][i] = __builtin_fmaf(sums[p][i], stem.alpha[first + i], stem.beta[first + i]);
        std::memcpy(out + int64_t{pixel + p} * stem.c_out + first, sums[p], sizeof(float) * count);
        for (int i = count; i < kChannels; ++i) sums[p][i] = -INFINITY;
        read(reader, first, pixel + p, sums[p]);
      }
    }
  }
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
    popcounts(runs, &words, 1, weights, counts);
    sink = sink + counts[i % kPixels][i % kChannels];
  }
  return double{kWordBits} * words * kPixels * kChannels * repeats;
}
