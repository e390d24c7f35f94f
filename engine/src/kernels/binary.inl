// Convolutions of bits, once for every instruction set, which provides
//   accumulate(sum, x)  adds the ones of each lane of x, and widen(sum) makes numbers of kRoom such sums; kRoom 0: at once
//   kCounted            vectors of a panel that are counted together
//   kRows               pixels of a tile

// What one call works on.
struct BinaryJob {
  const BinaryConv& conv;
  const BinaryMaps& maps;
  int depth;  // dwords of a window
};

// A panel's constants.
struct BinaryPanel {
  int first;      // channel
  uint32_t valid; // bits of channels that there are
  const uint32_t* weights;
  const int32_t* base;
  const float *scale, *gate, *offset, *inner, *alpha, *beta, *shift_in, *slope, *shift_out;
  const float* shortcut;
  float* out;

  BinaryPanel(const BinaryJob& job, int panel) : first(panel * kPanel), valid(low_bits(job.conv.c_out - first)) {
    const BinaryConv& conv = job.conv;
    const BinaryMaps& maps = job.maps;
    weights = conv.terms[0].pairs[0].panels.data() + int64_t{first} * job.depth;
    base = conv.terms[0].base.data() + first;
    scale = conv.terms[0].scale.data() + first;
    gate = maps.gate ? maps.gate + first : kOnes;
    offset = maps.offset ? maps.offset + first : kMinusZeros;
    inner = part(conv.inner_slope, first, kOnes);
    alpha = part(conv.alpha, first, kOnes);
    beta = part(conv.beta, first, kMinusZeros);
    shift_in = part(conv.shift_in, first, kMinusZeros);
    slope = part(conv.slope, first, kOnes);
    shift_out = part(conv.shift_out, first, kMinusZeros);
    shortcut = maps.shortcut ? maps.shortcut + (maps.shortcut_channels ? first % maps.shortcut_channels : first) : nullptr;
    out = maps.out ? maps.out + first : nullptr;
  }
};

// Ones of MR windows XOR NV vectors of a panel; run r of pixel p begins at at(p, r).
template <int MR, int NV, class At>
BCDZOO_INLINE void count_part(const At& at, int runs, int length, const uint32_t* w, I (&sums)[MR][NV]) {
  I partial[MR][NV];
#pragma GCC unroll 16
  for (int p = 0; p < MR; ++p)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) partial[p][v] = sums[p][v] = I{};
  int room = kRoom;
  for (int run = 0; run < runs; ++run) {
    const uint32_t* x[MR];
#pragma GCC unroll 16
    for (int p = 0; p < MR; ++p) x[p] = at(p, run);
    for (int k = 0; k < length;) {
      const int stop = kRoom && room < length - k ? k + room : length;
      room -= stop - k;
      for (; k < stop; ++k, w += kPanel) {
        I weight[NV];
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) weight[v] = load(static_cast<const void*>(w + kWidth * v));
#pragma GCC unroll 16
        for (int p = 0; p < MR; ++p) {
          const I value = splat(static_cast<int32_t>(x[p][k]));
#pragma GCC unroll 8
          for (int v = 0; v < NV; ++v) partial[p][v] = accumulate(partial[p][v], value ^ weight[v]);
        }
      }
      if (kRoom && room == 0) {
#pragma GCC unroll 16
        for (int p = 0; p < MR; ++p)
#pragma GCC unroll 8
          for (int v = 0; v < NV; ++v) {
            sums[p][v] += widen(partial[p][v]);
            partial[p][v] = I{};
          }
        room = kRoom;
      }
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < MR; ++p)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) sums[p][v] = kRoom ? sums[p][v] + widen(partial[p][v]) : partial[p][v];
}

template <int MR, int NV, class At>
BCDZOO_INLINE void count(const At& at, int runs, int length, const uint32_t* w, I (&sums)[MR][NV]) {
  if constexpr (NV <= kCounted) {
    count_part<MR, NV>(at, runs, length, w, sums);
  } else {
#pragma GCC unroll 1
    for (int v = 0; v < NV; v += kCounted) {
      I some[MR][kCounted];
      count_part<MR, kCounted>(at, runs, length, w + kWidth * v, some);
      for (int p = 0; p < MR; ++p)
        for (int i = 0; i < kCounted; ++i) sums[p][v + i] = some[p][i];
    }
  }
}

// Sums of one term and one pair.
template <int MR, int NV>
BCDZOO_INLINE void sum_one(const BinaryJob& job, const BinaryPanel& panel, int pixel, F (&v)[MR][NV]) {
  const Windows& windows = job.conv.windows;
  const uint32_t* x[MR];
#pragma GCC unroll 16
  for (int p = 0; p < MR; ++p) x[p] = job.maps.bits + windows.window_at[pixel + p];
  const int32_t* run_at = windows.run_at.data();
  I ones[MR][NV];
  count<MR, NV>([&](int p, int run) { return x[p] + run_at[run]; }, windows.runs(), windows.length, panel.weights, ones);
#pragma GCC unroll 16
  for (int p = 0; p < MR; ++p) {
    const int32_t* base = panel.base;
    if (!job.conv.classes.empty()) base += int64_t{job.conv.classes[pixel + p]} * job.conv.padded_out();
#pragma GCC unroll 8
    for (int i = 0; i < NV; ++i)
      v[p][i] = to_floats(load(static_cast<const void*>(base + kWidth * i)) - (ones[p][i] << 1)) * load(panel.scale + kWidth * i);
  }
}

// Sums of any terms.
template <int MR, int NV>
BCDZOO_INLINE void sum_many(const BinaryJob& job, const BinaryPanel& panel, int pixel, F (&v)[MR][NV]) {
  const BinaryConv& conv = job.conv;
  const Windows& windows = conv.windows;
  const int bases = conv.factors.empty() ? 1 : static_cast<int>(conv.factors.size());
  const int each = static_cast<int>(conv.terms.size()) / bases;
  const Term* term = conv.terms.data();
  for (auto& row : v)
    for (F& x : row) x = splat(-0.0f);  // changes nothing that is added to it
  for (int basis = 0; basis < bases; ++basis) {
    F part[MR][NV];
    for (auto& row : part)
      for (F& x : row) x = splat(-0.0f);
    for (int t = 0; t < each; ++t, ++term) {
      I sums[MR][NV];
#pragma GCC unroll 16
      for (int p = 0; p < MR; ++p) {
        const int32_t* base = term->base.data() + panel.first;
        if (!conv.classes.empty()) base += int64_t{conv.classes[pixel + p]} * conv.padded_out();
#pragma GCC unroll 8
        for (int i = 0; i < NV; ++i) sums[p][i] = load(static_cast<const void*>(base + kWidth * i));
      }
      for (const Pair& pair : term->pairs) {
        const uint32_t* bits = job.maps.bits + pair.bits_at;
        const uint32_t* w = pair.panels.data() + int64_t{panel.first} * job.depth;
        I ones[MR][NV];
        if (term->sampled_at) {
          const int32_t* at = term->sampled_at + int64_t{pixel} * 4;
          count<MR, NV>([&](int p, int run) { return bits + at[4 * p + run]; }, 4, job.depth / 4, w, ones);
        } else {
          const int32_t *window_at = windows.window_at.data() + pixel, *run_at = windows.run_at.data();
          count<MR, NV>([&](int p, int run) { return bits + window_at[p] + run_at[run]; }, windows.runs(), windows.length, w, ones);
        }
#pragma GCC unroll 16
        for (int p = 0; p < MR; ++p)
#pragma GCC unroll 8
          for (int i = 0; i < NV; ++i) sums[p][i] -= ones[p][i] << pair.shift;
      }
      const float* scale = term->scale.data() + panel.first;
#pragma GCC unroll 16
      for (int p = 0; p < MR; ++p)
#pragma GCC unroll 8
        for (int i = 0; i < NV; ++i) part[p][i] += to_floats(sums[p][i]) * load(scale + kWidth * i);
    }
#pragma GCC unroll 16
    for (int p = 0; p < MR; ++p)
#pragma GCC unroll 8
      for (int i = 0; i < NV; ++i) {
        if (!conv.factors.empty()) part[p][i] *= splat(conv.factors[basis]);
        v[p][i] += part[p][i];
      }
  }
}

enum class Adds { kNothing, kBeforeActivation, kAfterActivation };

// MR pixels and NV vectors of a panel, from bits to floats and bits.
template <bool kMany, bool kExtra, Adds kAdds, int MR, int NV>
BCDZOO_INLINE void binary_tile(const BinaryJob& job, const BinaryPanel& panel, int pixel) {
  F v[MR][NV];
  if constexpr (kMany)
    sum_many<MR, NV>(job, panel, pixel, v);
  else
    sum_one<MR, NV>(job, panel, pixel, v);
  const BinaryMaps& maps = job.maps;
#pragma GCC unroll 16
  for (int p = 0; p < MR; ++p)
#pragma GCC unroll 8
    for (int i = 0; i < NV; ++i) {
      const auto of = [&](const float* constants) { return load(constants + kWidth * i); };
      F x = v[p][i];
      if (kExtra) x = prelu(x * of(panel.gate) + of(panel.offset), of(panel.inner));
      x = fused(x, of(panel.alpha), of(panel.beta));
      F shortcut{};
      if (kAdds != Adds::kNothing) shortcut = of(panel.shortcut + (pixel + p) * maps.shortcut_step);
      if (kAdds == Adds::kBeforeActivation) x = x + shortcut;
      x = prelu(x + of(panel.shift_in), of(panel.slope)) + of(panel.shift_out);
      if (kAdds == Adds::kAfterActivation) x = x + shortcut;
      if (kExtra) x = clip(x, splat(-job.conv.limit), splat(job.conv.limit));
      v[p][i] = x;
    }
  if (panel.out) {
#pragma GCC unroll 16
    for (int p = 0; p < MR; ++p)
#pragma GCC unroll 8
      for (int i = 0; i < NV; ++i) store(panel.out + (pixel + p) * maps.out_step + kWidth * i, v[p][i]);
  }
  for (const BitsOut& reader : maps.readers) {
    const float* threshold = reader.threshold + panel.first;
#pragma GCC unroll 16
    for (int p = 0; p < MR; ++p) {
      uint32_t bits = 0;
#pragma GCC unroll 8
      for (int i = 0; i < NV; ++i) bits |= at_least(v[p][i], load(threshold + kWidth * i)) << (kWidth * i);
      reader.bits[reader.pixel_at[pixel + p] + panel.first / kPanel] = bits & panel.valid;
    }
  }
}

template <bool kMany, bool kExtra, Adds kAdds, int NV>
BCDZOO_INLINE void binary_pixels(const BinaryJob& job, const BinaryPanel& panel, int begin, int end) {
  int pixel = begin;
  for (; pixel + kRows <= end; pixel += kRows) binary_tile<kMany, kExtra, kAdds, kRows, NV>(job, panel, pixel);
  for (; pixel < end; ++pixel) binary_tile<kMany, kExtra, kAdds, 1, NV>(job, panel, pixel);
}

// Few pixels at a time, so that their floats stay in the first cache, but more if a panel's weights are many.
template <bool kMany, bool kExtra, Adds kAdds>
void binary_conv_as(const BinaryJob& job, int begin, int end, int first, int last) {
  const int step = job.depth <= 32 ? 16 : job.depth <= 96 ? 32 : 64;
  for (int pixel = begin; pixel < end; pixel += step) {
    const int stop = pixel + step < end ? pixel + step : end;
    for (int index = first; index < last; ++index) {
      const BinaryPanel panel(job, index);
      if (job.conv.c_out - panel.first <= kLanes)
        binary_pixels<kMany, kExtra, kAdds, kLanes / kWidth>(job, panel, pixel, stop);
      else
        binary_pixels<kMany, kExtra, kAdds, kPanel / kWidth>(job, panel, pixel, stop);
    }
  }
}

template <bool kMany, bool kExtra>
void binary_conv_adds(const BinaryJob& job, int begin, int end, int first, int last) {
  if (!job.maps.shortcut)
    binary_conv_as<kMany, kExtra, Adds::kNothing>(job, begin, end, first, last);
  else if (job.conv.activation_first)
    binary_conv_as<kMany, kExtra, Adds::kAfterActivation>(job, begin, end, first, last);
  else
    binary_conv_as<kMany, kExtra, Adds::kBeforeActivation>(job, begin, end, first, last);
}

void binary_conv(const BinaryConv& conv, const BinaryMaps& maps, int begin, int end, int first, int last) {
  const BinaryJob job{conv, maps, conv.windows.runs() * conv.windows.length};
  const Term& term = conv.terms[0];
  const bool many = conv.terms.size() > 1 || term.pairs.size() > 1 || term.sampled_at || !conv.factors.empty() ||
                    term.pairs[0].shift != 1 || term.pairs[0].bits_at != 0;
  if (many)
    binary_conv_adds<true, true>(job, begin, end, first, last);
  else if (maps.gate || maps.offset || !conv.inner_slope.empty() || conv.limit < INFINITY)
    binary_conv_adds<false, true>(job, begin, end, first, last);
  else
    binary_conv_adds<false, false>(job, begin, end, first, last);
}

// Bits of a pixel's channels [first, first + 32), of which there are `count`.
template <class Bits>
BCDZOO_INLINE uint32_t dword_of(int count, const Bits& bits) {
  uint32_t all = 0;
  if (count > kLanes) {
#pragma GCC unroll 8
    for (int i = 0; i < kPanel; i += kWidth) all |= bits(i) << i;
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < kLanes; i += kWidth) all |= bits(i) << i;
  }
  return all & low_bits(count);
}

void binarize(const float* x, int64_t step, int channels, const float* threshold, const uint32_t* falls, uint32_t* bits,
              const int32_t* pixel_at, int begin, int end) {
  for (int pixel = begin; pixel < end; ++pixel)
    for (int first = 0; first < channels; first += kPanel) {
      const float* from = x + pixel * step + first;
      uint32_t dword = dword_of(channels - first, [&](int i) { return at_least(load(from + i), load(threshold + first + i)); });
      if (falls) dword ^= falls[first / kPanel];
      bits[pixel_at[pixel] + first / kPanel] = dword;
    }
}

void level_bits(const LevelBits& levels, const float* x, int64_t step, int channels, uint32_t* bits, int64_t plane_step,
                const int32_t* pixel_at, int begin, int end) {
  const F low = splat(levels.low), high = splat(levels.high), unit = splat(levels.step), offset = splat(levels.offset);
  for (int pixel = begin; pixel < end; ++pixel)
    for (int first = 0; first < channels; first += kPanel) {
      const int count = channels - first;
      I level[kPanel / kWidth] = {};
      for (int i = 0; i < kPanel; i += kWidth) {
        if (i >= kLanes && count <= kLanes) break;  // memory may end there
        F value = load(x + pixel * step + first + i);
        if (levels.quantizes) {
          value = clip(value, low, high);
          value = rounded(levels.divides ? value / unit : value * unit);
        }
        value = value + offset;
        level[i / kWidth] = __builtin_convertvector(value == value ? value : F{}, I);  // of a NaN no bits
      }
      uint32_t* to = bits + pixel_at[pixel] + first / kPanel;
      for (int plane = 0; plane < levels.planes; ++plane, to += plane_step)
        *to = dword_of(count, [&](int i) { return signs(level[i / kWidth] << (31 - plane)); });
    }
}

// In the first cache whatever the depth is: the same dwords again and again.
double spin(int dwords, int repeats) {
  constexpr int kDepth = 32, kMost = kSpinRows * kSpinVectors;
  alignas(64) uint32_t weights[kDepth * kSpinVectors * kWidth], pixels[kSpinRows][kDepth];
  for (uint32_t& w : weights) w = static_cast<uint32_t>(&w - weights) * 2654435761u;
  for (auto& row : pixels)
    for (uint32_t& x : row) x = static_cast<uint32_t>(&x - pixels[0]) * 2246822519u;
  I all{};
  for (int repeat = 0; repeat < repeats; ++repeat) {
    I sums[kMost], partial[kMost];
    for (int i = 0; i < kMost; ++i) sums[i] = partial[i] = I{};
    for (int done = 0; done < dwords;) {
      int depth = dwords - done < kDepth ? dwords - done : kDepth;
      if (kRoom && depth > kRoom) depth = kRoom;
      const uint32_t* w = weights;
      for (int k = 0; k < depth; ++k, w += kSpinVectors * kWidth) {
        I weight[kSpinVectors];
#pragma GCC unroll 8
        for (int v = 0; v < kSpinVectors; ++v) weight[v] = load(static_cast<const void*>(w + kWidth * v));
#pragma GCC unroll 8
        for (int p = 0; p < kSpinRows; ++p) {
          const I value = splat(static_cast<int32_t>(pixels[p][k]));
#pragma GCC unroll 8
          for (int v = 0; v < kSpinVectors; ++v)
            partial[p * kSpinVectors + v] = accumulate(partial[p * kSpinVectors + v], value ^ weight[v]);
        }
      }
      if (kRoom)
        for (int i = 0; i < kMost; ++i) {
          sums[i] += widen(partial[i]);
          partial[i] = I{};
        }
      done += depth;
    }
    for (int i = 0; i < kMost; ++i) all += kRoom ? sums[i] : partial[i];
    pixels[repeat % kSpinRows][0] ^= 1;  // so that it is not computed once for all
  }
  volatile int32_t sink = all[0];
  static_cast<void>(sink);
  return 32.0 * dwords * kSpinRows * kSpinVectors * kWidth * repeats;
}
