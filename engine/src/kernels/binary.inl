// Convolutions of bits, once for every instruction set, which provides
// - Counts, vectors of ones that were counted: add_popcount(counts, x) adds those of x, and widen(counts) makes numbers
//   of kRoom such sums; kRoom is 0 where they are numbers at once
// - kMR: pixels of a tile; kNV: vectors of a panel that are counted together
// - kSpinMR, kSpinNV: the tile that is fastest where there is nothing else to do
// - kPlain: whether there are no vectors to be counted on, so that small code counts for more and fmadd() is slow

// What one call works on.
struct BinaryJob {
  const BinaryConv& conv;
  const BinaryMaps& maps;
  int runs, length, depth;  // dwords of a run, and of a window
  const int32_t *run_at, *window_at;
  const uint16_t* classes;  // or null
  int64_t class_step;
  float* out;
  int64_t out_step, shortcut_step;
  const BitsOut *readers, *readers_end;

  BinaryJob(const BinaryConv& conv, const BinaryMaps& maps)
      : conv(conv),
        maps(maps),
        runs(conv.windows.runs()),
        length(conv.windows.length),
        depth(runs * length),
        run_at(conv.windows.run_at.data()),
        window_at(conv.windows.window_at.data()),
        classes(conv.classes.empty() ? nullptr : conv.classes.data()),
        class_step(conv.padded_out()),
        out(maps.out),
        out_step(maps.out_step),
        shortcut_step(maps.shortcut ? maps.shortcut_step : 0),
        readers(maps.readers.data()),
        readers_end(readers + maps.readers.size()) {}
};

// A panel's constants, next to each other: tiles read them from the first cache by one pointer.
struct BinaryPanel {
  alignas(64) float only_acc_init[kPanel], scale[kPanel], alpha[kPanel], beta[kPanel], shift_in[kPanel], slope[kPanel],
      shift_out[kPanel];
  float gate[kPanel], offset[kPanel], inner[kPanel];
  int64_t first, dword;  // channel, and its dword of bits
  uint32_t valid;        // bits of channels that there are
  const uint32_t *bits, *weights;
  int first_run = 0, end_run;  // that are counted
  const int32_t *acc_init, *padding_popcounts;
  const float* shortcut;
  float* out;

  BinaryPanel(const BinaryJob& job, int panel, bool extra)
      : first(int64_t{panel} * kPanel), dword(panel), valid(low_bits(job.conv.c_out - panel * kPanel)) {
    const BinaryConv& conv = job.conv;
    const BinaryMaps& maps = job.maps;
    const Term& term = conv.terms[maps.term];
    bits = maps.bits + (conv.panel_at.empty() ? 0 : conv.panel_at[panel]);
    weights = conv.panels[term.pairs[0].panels].data() + first * job.depth;
    end_run = job.runs;
    acc_init = term.acc_init.data() + first;
    padding_popcounts = conv.padding_popcounts.data() + first;
    for (int i = 0; i < kPanel; ++i) only_acc_init[i] = static_cast<float>(acc_init[i]);
    copy(scale, term.scale.data() + first);
    copy(alpha, part(conv.alpha, first, kOnes));
    copy(beta, part(conv.beta, first, kMinusZeros));
    copy(shift_in, part(conv.shift_in, first, kMinusZeros));
    copy(slope, part(conv.slope, first, kOnes));
    copy(shift_out, part(conv.shift_out, first, kMinusZeros));
    if (extra) {
      copy(gate, maps.gate ? maps.gate + first : kOnes);
      copy(offset, maps.offset ? maps.offset + first : kMinusZeros);
      copy(inner, part(conv.inner_slope, first, kOnes));
    }
    shortcut = kMinusZeros;
    if (maps.shortcut) shortcut = maps.shortcut + (maps.shortcut_channels ? first % maps.shortcut_channels : first);
    out = job.out ? job.out + first : nullptr;
  }

  static void copy(float* to, const float* from) { std::memcpy(to, from, sizeof(float) * kPanel); }
};

// Ones of MR windows XOR NV vectors of a panel; run r of pixel p begins at at(p, r).
template <int MR, int NV, class At>
BCDZOO_INLINE void popcount_part(const At& at, int runs, int length, const uint32_t* w, I (&sums)[MR][NV]) {
  Counts partial[MR][NV];
#pragma GCC unroll 16
  for (int p = 0; p < MR; ++p)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) partial[p][v] = Counts{}, sums[p][v] = I{};
  int room = kRoom;
  for (int run = 0; run < runs; ++run) {
    const uint32_t* x[MR];
#pragma GCC unroll 16
    for (int p = 0; p < MR; ++p) {
      x[p] = at(p, run);
      asm("" : "+r"(x[p]));  // or the compiler finds one pointer by another's distance, at each step
    }
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
          for (int v = 0; v < NV; ++v) partial[p][v] = add_popcount(partial[p][v], value ^ weight[v]);
        }
      }
      if (kRoom && room == 0) {
#pragma GCC unroll 16
        for (int p = 0; p < MR; ++p)
#pragma GCC unroll 8
          for (int v = 0; v < NV; ++v) {
            sums[p][v] += widen(partial[p][v]);
            partial[p][v] = Counts{};
          }
        room = kRoom;
      }
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < MR; ++p)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) sums[p][v] += widen(partial[p][v]);
}

template <int MR, int NV, class At>
BCDZOO_INLINE void popcount(const At& at, int runs, int length, const uint32_t* w, I (&sums)[MR][NV]) {
  if constexpr (NV <= kNV) {
    popcount_part<MR, NV>(at, runs, length, w, sums);
  } else {
#pragma GCC unroll 1
    for (int v = 0; v < NV; v += kNV) {
      I some[MR][kNV];
      popcount_part<MR, kNV>(at, runs, length, w + kWidth * v, some);
      for (int p = 0; p < MR; ++p)
        for (int i = 0; i < kNV; ++i) sums[p][v + i] = some[p][i];
    }
  }
}

// What is summed: one run of one pair of planes, several runs of one pair, or anything.
enum class Sums { kRun, kRuns, kTerms };
enum class Adds { kNothing, kBeforeActivation, kAfterActivation };

// Sums of one term and one pair.
template <Sums kSums, int MR, int NV>
BCDZOO_INLINE void sum_one(const BinaryJob& job, const BinaryPanel& panel, int pixel, F (&v)[MR][NV]) {
  const uint32_t* x[MR];
#pragma GCC unroll 16
  for (int p = 0; p < MR; ++p) x[p] = panel.bits + job.window_at[pixel + p];
  I ones[MR][NV];
  if (kSums == Sums::kRun) {
    const auto at = [&](int p, int) { return x[p] + job.run_at[0]; };
    if (kRoom == 0 && job.length == 2)  // of 64 and 128 channels: without a loop
      popcount<MR, NV>(at, 1, 2, panel.weights, ones);
    else if (kRoom == 0 && job.length == 4)
      popcount<MR, NV>(at, 1, 4, panel.weights, ones);
    else
      popcount<MR, NV>(at, 1, job.length, panel.weights, ones);
  } else {
    const int32_t* run_at = job.run_at + panel.first_run;
    const uint32_t* w = panel.weights + int64_t{panel.first_run} * job.length * kPanel;
    popcount<MR, NV>([&](int p, int run) { return x[p] + run_at[run]; }, panel.end_run - panel.first_run, job.length, w,
                     ones);
    if (panel.end_run - panel.first_run < job.runs)
      for (int run = 0; run < job.runs; ++run) {
        if (run >= panel.first_run && run < panel.end_run) continue;
#pragma GCC unroll 8
        for (int i = 0; i < NV; ++i) {
          const I padding = load(static_cast<const void*>(panel.padding_popcounts + run * job.class_step + kWidth * i));
#pragma GCC unroll 16
          for (int p = 0; p < MR; ++p) ones[p][i] += padding;
        }
      }
  }
  // acc_init - 2 * ones in floats, which hold it exactly
  const auto scaled = [&](int p, int i, F acc_init) {
    const F number = to_floats(ones[p][i]);
    return (kPlain ? acc_init - (number + number) : fmadd(number, splat(-2.0f), acc_init)) *
           load(panel.scale + kWidth * i);
  };
  if (job.classes) {
#pragma GCC unroll 16
    for (int p = 0; p < MR; ++p) {
      const int32_t* acc_init = panel.acc_init + job.classes[pixel + p] * job.class_step;
#pragma GCC unroll 8
      for (int i = 0; i < NV; ++i)
        v[p][i] = scaled(p, i, to_floats(load(static_cast<const void*>(acc_init + kWidth * i))));
    }
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < NV; ++i)
#pragma GCC unroll 16
      for (int p = 0; p < MR; ++p) v[p][i] = scaled(p, i, load(panel.only_acc_init + kWidth * i));
  }
}

// Sums of any terms.
template <int MR, int NV>
BCDZOO_INLINE void sum_terms(const BinaryJob& job, const BinaryPanel& panel, int pixel, F (&v)[MR][NV]) {
  const BinaryConv& conv = job.conv;
  const int bases = conv.factors.empty() ? 1 : static_cast<int>(conv.factors.size());
  const int each = conv.chooses ? 1 : static_cast<int>(conv.terms.size()) / bases;
  const Term* term = conv.terms.data() + job.maps.term;
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
        const int32_t* acc_init = term->acc_init.data() + panel.first;
        if (job.classes) acc_init += job.classes[pixel + p] * job.class_step;
#pragma GCC unroll 8
        for (int i = 0; i < NV; ++i) sums[p][i] = load(static_cast<const void*>(acc_init + kWidth * i));
      }
      for (const Pair& pair : term->pairs) {
        const uint32_t* bits = panel.bits + pair.bits_at;
        const uint32_t* w = conv.panels[pair.panels].data() + panel.first * job.depth;
        I ones[MR][NV];
        if (term->sampled_at) {
          const int32_t* at = term->sampled_at + int64_t{pixel} * 4;
          popcount<MR, NV>([&](int p, int run) { return bits + at[4 * p + run]; }, 4, job.depth / 4, w, ones);
        } else {
          const int32_t *window_at = job.window_at + pixel, *run_at = job.run_at;
          popcount<MR, NV>([&](int p, int run) { return bits + window_at[p] + run_at[run]; }, job.runs, job.length, w,
                           ones);
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

template <int NV>
BCDZOO_INLINE uint32_t cmp_ge_masks(const F (&v)[NV], const float* threshold) {
  uint32_t bits = 0;
#pragma GCC unroll 8
  for (int i = 0; i < NV; ++i) bits |= cmp_ge_mask(v[i], load(threshold + kWidth * i)) << (kWidth * i);
  return bits;
}

// MR pixels and NV vectors of a panel, from bits to floats and bits.
template <Sums kSums, bool kExtra, Adds kAdds, int MR, int NV>
BCDZOO_INLINE void binary_tile(const BinaryJob& job, const BinaryPanel& panel, int pixel) {
  F v[MR][NV];
  if constexpr (kSums == Sums::kTerms)
    sum_terms<MR, NV>(job, panel, pixel, v);
  else
    sum_one<kSums, MR, NV>(job, panel, pixel, v);
#pragma GCC unroll 8
  for (int i = 0; i < NV; ++i) {
    const auto of = [&](const float* constants) { return load(constants + kWidth * i); };
#pragma GCC unroll 16
    for (int p = 0; p < MR; ++p) {
      F x = v[p][i];
      if (kExtra) x = prelu(x * of(panel.gate) + of(panel.offset), of(panel.inner));
      x = fmadd(x, of(panel.alpha), of(panel.beta));
      F shortcut{};
      if (kAdds != Adds::kNothing) shortcut = of(panel.shortcut + (pixel + p) * job.shortcut_step);
      if (kAdds == Adds::kBeforeActivation) x = x + shortcut;
      x = prelu(x + of(panel.shift_in), of(panel.slope)) + of(panel.shift_out);
      if (kAdds == Adds::kAfterActivation) x = x + shortcut;
      if (kExtra) x = clip(x, splat(-job.conv.limit), splat(job.conv.limit));
      v[p][i] = x;
    }
  }
  if (float* const out = panel.out) {
    const int64_t step = job.out_step;
#pragma GCC unroll 16
    for (int p = 0; p < MR; ++p)
#pragma GCC unroll 8
      for (int i = 0; i < NV; ++i) store(out + (pixel + p) * step + kWidth * i, v[p][i]);
  }
  const uint32_t valid = panel.valid;
  for (const BitsOut* reader = job.readers; reader != job.readers_end; ++reader) {
    const float* threshold = reader->threshold + panel.first;
    uint32_t* to = reader->bits + panel.dword;
    const int32_t* at = reader->pixel_at + pixel;
#pragma GCC unroll 16
    for (int p = 0; p < MR; ++p) to[at[p]] = cmp_ge_masks(v[p], threshold) & valid;
  }
}

// As many tiles as there are; where they end.
template <Sums kSums, bool kExtra, Adds kAdds, int MR, int NV>
__attribute__((noinline)) int binary_tiles(const BinaryJob& job, const BinaryPanel& panel, int pixel, int end) {
  for (; pixel + MR <= end; pixel += MR) {
    // or the compiler loads all constants in front of the loop, has no room for them, and spills
    asm volatile("" ::: "memory");
    binary_tile<kSums, kExtra, kAdds, MR, NV>(job, panel, pixel);
  }
  return pixel;
}

template <Sums kSums, bool kExtra, Adds kAdds, int MR, int NV>
BCDZOO_INLINE void binary_pixels(const BinaryJob& job, const BinaryPanel& panel, int begin, int end) {
  if (begin + MR <= end) begin = binary_tiles<kSums, kExtra, kAdds, MR, NV>(job, panel, begin, end);
  if constexpr (MR > 1)
    if (begin < end) binary_pixels<kSums, kExtra, kAdds, MR / 2, NV>(job, panel, begin, end);
}

// The next pixel behind `begin` whose window has other runs of padding.
inline int same_runs(const BinaryConv& conv, int begin, int end) {
  int pixel = begin + 1;
  while (pixel < end && conv.first_run[pixel] == conv.first_run[begin] && conv.end_run[pixel] == conv.end_run[begin])
    ++pixel;
  return pixel;
}

// Few pixels at a time, so that their floats stay in the first cache, and a panel's weights while they are read.
// Asks for a share of a panel's weights, parts [begin, end) of `count`, while another one is computed with.
BCDZOO_INLINE void prefetch(const BinaryJob& job, int panel, int begin, int end, int count) {
  constexpr int64_t kLine = 16;  // dwords
  const int64_t size = int64_t{job.depth} * kPanel;
  const int64_t first = size * begin / count / kLine * kLine, last = size * end / count;
  const auto ask = [&](const Dwords& panels) {
    for (int64_t at = first; at < last; at += kLine) __builtin_prefetch(panels.data() + panel * size + at, 0, 2);
  };
  if (job.conv.chooses) return ask(job.conv.panels[job.maps.term]);
  for (const Dwords& panels : job.conv.panels) ask(panels);
}

template <Sums kSums, bool kExtra, Adds kAdds>
void binary_conv_as(const BinaryJob& job, int begin, int end, int first, int last) {
  constexpr int kStep = 64, kFetchStep = 16;
  for (int block = begin; block < end; block += kStep)
    for (int index = first; index < last; ++index) {
      BinaryPanel panel(job, index, kExtra);
      const int block_end = block + kStep < end ? block + kStep : end;
      const bool fetches = block == begin && index + 1 < last;  // later blocks find the weights in the second cache
      for (int pixel = block, stop; pixel < block_end; pixel = stop) {
        stop = fetches && pixel + kFetchStep < block_end ? pixel + kFetchStep : block_end;
        if (fetches) prefetch(job, index + 1, pixel - block, stop - block, block_end - block);
        if (kSums == Sums::kRuns && !job.conv.first_run.empty()) {
          stop = same_runs(job.conv, pixel, stop);
          panel.first_run = job.conv.first_run[pixel];
          panel.end_run = job.conv.end_run[pixel];
        }
        if (job.conv.c_out - panel.first <= kLanes)
          binary_pixels<kSums, kExtra, kAdds, kMR, kLaneVectors>(job, panel, pixel, stop);
        else
          binary_pixels<kSums, kExtra, kAdds, kMR, kPanel / kWidth>(job, panel, pixel, stop);
      }
    }
}

template <Sums kSums, bool kExtra>
void binary_conv_adds(const BinaryJob& job, int begin, int end, int first, int last) {
  constexpr bool kLean = !kPlain && kSums != Sums::kTerms;
  if (kLean && !job.maps.shortcut)
    binary_conv_as<kSums, kExtra, kLean ? Adds::kNothing : Adds::kBeforeActivation>(job, begin, end, first, last);
  else if (job.conv.activation_first)
    binary_conv_as<kSums, kExtra, Adds::kAfterActivation>(job, begin, end, first, last);
  else
    binary_conv_as<kSums, kExtra, Adds::kBeforeActivation>(job, begin, end, first, last);
}

void binary_conv(const BinaryConv& conv, const BinaryMaps& maps, int begin, int end, int first, int last) {
  const BinaryJob job(conv, maps);
  const Term& term = conv.terms[maps.term];
  const bool terms = (conv.terms.size() > 1 && !conv.chooses) || term.pairs.size() > 1 || term.sampled_at ||
                     !conv.factors.empty() || term.pairs[0].shift != 1 || term.pairs[0].bits_at != 0 ||
                     job.depth > 1 << 17;
  if (terms)
    binary_conv_adds<Sums::kTerms, true>(job, begin, end, first, last);
  else if (kPlain || maps.gate || maps.offset || !conv.inner_slope.empty() || conv.limit < INFINITY)
    binary_conv_adds<Sums::kRuns, true>(job, begin, end, first, last);
  else if (job.runs > 1)
    binary_conv_adds<Sums::kRuns, kPlain>(job, begin, end, first, last);
  else
    binary_conv_adds<kPlain ? Sums::kRuns : Sums::kRun, kPlain>(job, begin, end, first, last);
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
      uint32_t dword =
          dword_of(channels - first, [&](int i) { return cmp_ge_mask(load(from + i), load(threshold + first + i)); });
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
          value = rint(levels.divides ? value / unit : value * unit);
        }
        value = value + offset;
        level[i / kWidth] = __builtin_convertvector(value == value ? value : F{}, I);  // of a NaN no bits
      }
      uint32_t* to = bits + pixel_at[pixel] + first / kPanel;
      for (int plane = 0; plane < levels.planes; ++plane, to += plane_step)
        *to = dword_of(count, [&](int i) { return movemask(level[i / kWidth] << (31 - plane)); });
    }
}

void sum_bits(const SumBits& sums, const float* x, int64_t step, int channels, uint32_t* bits, int64_t plane_step,
              const int32_t* pixel_at, int begin, int end) {
  const int limits = static_cast<int>(sums.limits.size()), planes = sums.planes;
  const float* const limit = sums.limits.data();
  const uint32_t* const changes = sums.changes.data();
  for (int pixel = begin; pixel < end; ++pixel)
    for (int first = 0; first < channels; first += kPanel) {
      const int count = channels - first;
      const float* const from = x + pixel * step + first;
      uint32_t all[8];
      for (int k = 0; k < planes; ++k) all[k] = sums.lowest >> k & 1 ? low_bits(count) : 0u;
      for (int t = 0; t < limits; ++t) {
        const F least = splat(limit[t]);
        const uint32_t reached = dword_of(count, [&](int i) { return cmp_ge_mask(load(from + i), least); });
        for (int k = 0; k < planes; ++k)
          if (changes[t] >> k & 1) all[k] ^= reached;
      }
      for (int k = 0; k < planes; ++k) bits[pixel_at[pixel] + first / kPanel + k * plane_step] = all[k];
    }
}

// In the first cache whatever the depth is: the same dwords again and again.
double spin(int dwords, int repeats) {
  constexpr int kDepth = 32, kMost = kSpinMR * kSpinNV;
  alignas(64) uint32_t weights[kDepth * kSpinNV * kWidth], pixels[kSpinMR][kDepth];
  for (uint32_t& w : weights) w = static_cast<uint32_t>(&w - weights) * 2654435761u;
  for (auto& row : pixels)
    for (uint32_t& x : row) x = static_cast<uint32_t>(&x - pixels[0]) * 2246822519u;
  I all{};
  for (int repeat = 0; repeat < repeats; ++repeat) {
    I sums[kMost];
    Counts partial[kMost];
    for (int i = 0; i < kMost; ++i) sums[i] = I{}, partial[i] = Counts{};
    for (int done = 0; done < dwords;) {
      int depth = dwords - done < kDepth ? dwords - done : kDepth;
      if (kRoom && depth > kRoom) depth = kRoom;
      const uint32_t* w = weights;
      for (int k = 0; k < depth; ++k, w += kSpinNV * kWidth) {
        I weight[kSpinNV];
#pragma GCC unroll 8
        for (int v = 0; v < kSpinNV; ++v) weight[v] = load(static_cast<const void*>(w + kWidth * v));
#pragma GCC unroll 8
        for (int p = 0; p < kSpinMR; ++p) {
          const I value = splat(static_cast<int32_t>(pixels[p][k]));
#pragma GCC unroll 8
          for (int v = 0; v < kSpinNV; ++v)
            partial[p * kSpinNV + v] = add_popcount(partial[p * kSpinNV + v], value ^ weight[v]);
        }
      }
      if (kRoom)
        for (int i = 0; i < kMost; ++i) {
          sums[i] += widen(partial[i]);
          partial[i] = Counts{};
        }
      done += depth;
    }
    for (int i = 0; i < kMost; ++i) all += kRoom ? sums[i] : widen(partial[i]);
    pixels[repeat % kSpinMR][0] ^= 1;  // so that it is not computed once for all
  }
  volatile int32_t sink = all[0];
  static_cast<void>(sink);
  return 32.0 * dwords * kSpinMR * kSpinNV * kWidth * repeats;
}
