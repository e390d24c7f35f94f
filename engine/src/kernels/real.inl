// Real-valued convolutions and products, once for every instruction set, which provides kFloatMR and kFloatNV:
// pixels and vectors of a tile.

// A panel's constants; what is not there is replaced by what changes nothing.
struct Affine {
  const float *bias, *alpha, *beta;
  F low;  // what values are cut to from below: 0, or -inf

  template <class Conv>
  Affine(const Conv& conv, int first)
      : bias(part(conv.bias, first, kMinusZeros)),
        alpha(part(conv.alpha, first, kOnes)),
        beta(part(conv.beta, first, kMinusZeros)),
        low(splat(conv.relu ? 0.0f : -INFINITY)) {}

  inline __attribute__((always_inline)) F operator()(F v, int channel) const {
    v = fmadd(v + load(bias + channel), load(alpha + channel), load(beta + channel));
    return v < low ? low : v;
  }
};

// MR windows of floats times NV vectors of a panel.
template <int MR, int NV>
BCDZOO_INLINE void float_tile(const Windows& windows, const float* in, const float* w, const Affine& affine,
                              int channel, float* out, int64_t out_step, int pixel) {
  F sums[MR][NV];
#pragma GCC unroll 16
  for (int p = 0; p < MR; ++p)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v) sums[p][v] = F{};
  const int32_t* window_at = windows.window_at.data() + pixel;
  const int runs = windows.runs(), length = windows.length;
  for (int run = 0; run < runs; ++run) {
    const float* x[MR];
#pragma GCC unroll 16
    for (int p = 0; p < MR; ++p) x[p] = in + window_at[p] + windows.run_at[run];
    for (int k = 0; k < length; ++k, w += kPanel) {
      F weight[NV];
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) weight[v] = load(w + channel + kWidth * v);
#pragma GCC unroll 16
      for (int p = 0; p < MR; ++p) {
        const F value = splat(x[p][k]);
#pragma GCC unroll 8
        for (int v = 0; v < NV; ++v) sums[p][v] = fmadd(value, weight[v], sums[p][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int p = 0; p < MR; ++p)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v)
      store(out + (pixel + p) * out_step + channel + kWidth * v, affine(sums[p][v], channel + kWidth * v));
}

template <int MR>
BCDZOO_INLINE void float_pixels(const FloatConv& conv, const float* in, const float* w, int panel, float* out,
                                int64_t out_step, int begin, int end) {
  const int first = panel * kPanel, channels = conv.c_out - first <= kLanes ? kLanes : kPanel;
  const Affine affine(conv, first);
  int pixel = begin;
  if constexpr (kFloatNV * kWidth > kLanes) {
    if (channels == kPanel)
      for (; pixel + MR <= end; pixel += MR)
        float_tile<MR, kFloatNV>(conv.windows, in, w, affine, 0, out, out_step, pixel);
    else
      for (; pixel + MR <= end; pixel += MR)
        float_tile<MR, kLaneVectors>(conv.windows, in, w, affine, 0, out, out_step, pixel);
  } else {
    for (; pixel + MR <= end; pixel += MR)
      for (int channel = 0; channel < channels; channel += kFloatNV * kWidth)
        float_tile<MR, kFloatNV>(conv.windows, in, w, affine, channel, out, out_step, pixel);
  }
  if constexpr (MR > 1)
    if (pixel < end) float_pixels<MR / 2>(conv, in, w, panel, out, out_step, pixel, end);
}

// Some pixels at a time, so that what they read stays in the cache from one panel to the next.
void float_conv(const FloatConv& conv, const float* in, float* out, int64_t out_step, int begin, int end, int first,
                int last) {
  const int64_t depth = int64_t{conv.windows.runs()} * conv.windows.length;
  constexpr int kStep = 8 * kFloatMR;
  for (int pixel = begin; pixel < end; pixel += kStep)
    for (int panel = first; panel < last; ++panel)
      float_pixels<kFloatMR>(conv, in + (conv.panel_at.empty() ? 0 : conv.panel_at[panel]),
                             conv.panels.data() + panel * depth * kPanel, panel, out + panel * kPanel, out_step, pixel,
                             pixel + kStep < end ? pixel + kStep : end);
}

template <int MR, int NV>
BCDZOO_INLINE void depthwise_tile(const DepthwiseConv& conv, const float* in, float* out, int64_t out_step, int pixel,
                                  int first) {
  const Windows& windows = conv.windows;
  const int step = round_up(conv.channels, kLanes);
  F sums[MR][NV];
  for (auto& row : sums)
    for (F& sum : row) sum = F{};
  const float* w = conv.weights.data() + first;
  for (int tap = 0; tap < windows.runs(); ++tap, w += step)
#pragma GCC unroll 8
    for (int p = 0; p < MR; ++p) {
      const float* x = in + windows.window_at[pixel + p] + windows.run_at[tap] + first;
#pragma GCC unroll 8
      for (int v = 0; v < NV; ++v) sums[p][v] = fmadd(load(x + kWidth * v), load(w + kWidth * v), sums[p][v]);
    }
  const Affine affine(conv, first);
#pragma GCC unroll 8
  for (int p = 0; p < MR; ++p)
#pragma GCC unroll 8
    for (int v = 0; v < NV; ++v)
      store(out + (pixel + p) * out_step + first + kWidth * v, affine(sums[p][v], kWidth * v));
}

void depthwise_conv(const DepthwiseConv& conv, const float* in, float* out, int64_t out_step, int begin, int end) {
  int pixel = begin;
  for (; pixel + 4 <= end; pixel += 4)
    for (int first = 0; first < conv.channels; first += kLanes)
      depthwise_tile<4, kLaneVectors>(conv, in, out, out_step, pixel, first);
  for (; pixel < end; ++pixel)
    for (int first = 0; first < conv.channels; first += kLanes)
      depthwise_tile<1, kLaneVectors>(conv, in, out, out_step, pixel, first);
}

// Sums of kLanes partial sums, halves added to halves.
BCDZOO_INLINE float total(const F (&partial)[kLaneVectors]) {
  alignas(64) float all[kLanes];
  for (int v = 0; v < kLaneVectors; ++v) store(all + kWidth * v, partial[v]);
  for (int half = kLanes / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) all[i] += all[i + half];
  return all[0];
}

template <int MR>
BCDZOO_INLINE void rows_of(const float* weights, const float* bias, const float* x, int columns, float* out, int row) {
  F sums[MR][kLaneVectors];
  for (auto& each : sums)
    for (F& sum : each) sum = F{};
  const float* w = weights + int64_t{row} * columns;
  int k = 0;
  for (; k + kLanes <= columns; k += kLanes)
#pragma GCC unroll 8
    for (int r = 0; r < MR; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kLaneVectors; ++v)
        sums[r][v] = fmadd(load(w + int64_t{r} * columns + k + kWidth * v), load(x + k + kWidth * v), sums[r][v]);
  if (k < columns) {
    alignas(64) float last[kLanes] = {}, other[kLanes] = {};
    std::memcpy(other, x + k, sizeof(float) * (columns - k));
    for (int r = 0; r < MR; ++r) {
      std::memcpy(last, w + int64_t{r} * columns + k, sizeof(float) * (columns - k));
      for (int v = 0; v < kLaneVectors; ++v)
        sums[r][v] = fmadd(load(last + kWidth * v), load(other + kWidth * v), sums[r][v]);
    }
  }
  for (int r = 0; r < MR; ++r) out[row + r] = bias ? total(sums[r]) + bias[row + r] : total(sums[r]);
}

void linear(const float* weights, const float* bias, const float* x, int columns, float* out, int begin, int end) {
  int row = begin;
  for (; row + 4 <= end; row += 4) rows_of<4>(weights, bias, x, columns, out, row);
  for (; row < end; ++row) rows_of<1>(weights, bias, x, columns, out, row);
}

double float_spin(int length, int repeats) {
  constexpr int kDepth = 32;
  alignas(64) float weights[kDepth * kFloatNV * kWidth], pixels[kFloatMR][kDepth];
  for (float& w : weights) w = 0.5f;
  for (auto& row : pixels)
    for (float& x : row) x = 0.25f;
  F all{};
  for (int repeat = 0; repeat < repeats; ++repeat) {
    F sums[kFloatMR][kFloatNV];
    for (auto& row : sums)
      for (F& sum : row) sum = F{};
    for (int done = 0; done < length;) {
      const int depth = length - done < kDepth ? length - done : kDepth;
      const float* w = weights;
      for (int k = 0; k < depth; ++k, w += kFloatNV * kWidth) {
        F weight[kFloatNV];
#pragma GCC unroll 8
        for (int v = 0; v < kFloatNV; ++v) weight[v] = load(w + kWidth * v);
#pragma GCC unroll 16
        for (int p = 0; p < kFloatMR; ++p) {
          const F value = splat(pixels[p][k]);
#pragma GCC unroll 8
          for (int v = 0; v < kFloatNV; ++v) sums[p][v] = fmadd(value, weight[v], sums[p][v]);
        }
      }
      done += depth;
    }
    for (auto& row : sums)
      for (F& sum : row) all += sum;
    pixels[repeat % kFloatMR][0] += 1.0f;  // so that it is not computed once for all
  }
  volatile float sink = all[0];
  static_cast<void>(sink);
  return 1.0 * length * kFloatMR * kFloatNV * kWidth * repeats;
}
