// Poolings, steps of each number by itself, and sums, once for every instruction set.

// NV vectors of channels of one output pixel, whose window is rows [top, bottom) of columns [left, right).
template <bool kMax, int NV>
BCDZOO_INLINE void pool_part(const float* in, int64_t in_step, int width, int top, int bottom, int left, int right,
                             float divisor, float* out) {
  F v[NV];
  for (F& value : v) value = splat(kMax ? -INFINITY : 0.0f);
  for (int row = top; row < bottom; ++row) {
    const float* x = in + (int64_t{row} * width + left) * in_step;
    for (int column = left; column < right; ++column, x += in_step)
#pragma GCC unroll 8
      for (int i = 0; i < NV; ++i) {
        const F value = load(x + kWidth * i);
        if (kMax) {
          v[i] = larger(value, v[i]);            // a NaN stays,
          v[i] = value == value ? v[i] : value;  // and is taken
        } else {
          v[i] += value;
        }
      }
  }
  for (int i = 0; i < NV; ++i) store(out + kWidth * i, kMax ? v[i] : v[i] / splat(divisor));
}

template <bool kMax>
void pool_as(const Pooling& pooling, const float* in, int64_t in_step, float* out, int64_t out_step, int channels,
             int begin, int end) {
  const auto above = [](int a, int b) { return a > b ? a : b; };
  const auto below = [](int a, int b) { return a < b ? a : b; };
  for (int pixel = begin; pixel < end; ++pixel) {
    const int y = pixel / pooling.out_width * pooling.stride[0] - pooling.padding[0];
    const int x = pixel % pooling.out_width * pooling.stride[1] - pooling.padding[1];
    const int top = above(y, 0), bottom = below(y + pooling.kernel[0], pooling.height);
    const int left = above(x, 0), right = below(x + pooling.kernel[1], pooling.width);
    int count = above(bottom - top, 0) * above(right - left, 0);
    if (pooling.count_padding)
      count = (below(y + pooling.kernel[0], pooling.height + pooling.padding[0]) - y) *
              (below(x + pooling.kernel[1], pooling.width + pooling.padding[1]) - x);
    float* to = out + pixel * out_step;
    int c = 0;
    for (; c + kPanel <= channels; c += kPanel)
      pool_part<kMax, kPanel / kWidth>(in + c, in_step, pooling.width, top, bottom, left, right, count, to + c);
    for (; c < channels; c += kLanes)
      pool_part<kMax, kLaneVectors>(in + c, in_step, pooling.width, top, bottom, left, right, count, to + c);
  }
}

void pool(const Pooling& pooling, const float* in, int64_t in_step, float* out, int64_t out_step, int channels,
          int begin, int end) {
  (pooling.is_max ? pool_as<true> : pool_as<false>)(pooling, in, in_step, out, out_step, channels, begin, end);
}

// One step on all pixels.
template <class Compute>
BCDZOO_INLINE void each(const float* x, int64_t x_step, float* out, int64_t out_step, int channels, int begin, int end,
                        const Compute& compute) {
  for (int pixel = begin; pixel < end; ++pixel)
    for (int c = 0; c < channels; c += kLanes)
#pragma GCC unroll 4
      for (int i = c; i < c + kLanes; i += kWidth)
        store(out + pixel * out_step + i, compute(load(x + pixel * x_step + i), i));
}

template <class Combine>
BCDZOO_INLINE void both(const float* x, int64_t x_step, const Operand& other, float* out, int64_t out_step,
                        int channels, int begin, int end, const Combine& combine) {
  for (int pixel = begin; pixel < end; ++pixel) {
    const float* second = other.values + pixel * other.step;
    const auto given = [&](int i) { return other.single ? splat(second[0]) : load(second + i); };
    each(x, x_step, out, out_step, channels, pixel, pixel + 1, [&](F v, int i) { return combine(v, given(i)); });
  }
}

void pointwise(const Pointwise& step, const float* x, int64_t x_step, const Operand& other, float* out,
               int64_t out_step, int channels, int begin, int end) {
  const auto one = [&](const auto& compute) { each(x, x_step, out, out_step, channels, begin, end, compute); };
  const auto two = [&](const auto& combine) { both(x, x_step, other, out, out_step, channels, begin, end, combine); };
  const auto given = [](const Floats& constants, int i, float otherwise) {
    return constants.empty() ? splat(otherwise) : load(constants.data() + i);
  };
  switch (step.kind) {
    case Pointwise::Kind::kScaleShift:
      return one([&](F v, int i) { return fused(v, given(step.alpha, i, 1.0f), given(step.beta, i, -0.0f)); });
    case Pointwise::Kind::kPrelu:
      return one([&](F v, int i) {
        v = v + given(step.shift_in, i, -0.0f);
        v = v > F{} ? v * given(step.positive, i, 1.0f) : v * load(step.slope.data() + i);
        return v + given(step.shift_out, i, -0.0f);
      });
    case Pointwise::Kind::kClip:
      return one([&](F v, int) { return clip(v, splat(step.low), splat(step.high)); });
    case Pointwise::Kind::kAbs:
      return one([](F v, int) { return (F)((I)v & 0x7fffffff); });
    case Pointwise::Kind::kSign:
      return one([](F v, int) { return v > F{} ? splat(1.0f) : v < F{} ? splat(-1.0f) : F{}; });
    case Pointwise::Kind::kAdd:
      return two([](F v, F w) { return v + w; });
    case Pointwise::Kind::kSubtract:
      return two([](F v, F w) { return v - w; });
    case Pointwise::Kind::kMultiply:
      return two([](F v, F w) { return v * w; });
  }
}

void sum(const float* x, int64_t step, int channels, double* sums, int begin, int end) {
  int c = 0;
  for (; c + kPanel <= channels; c += kPanel) {
    double all[kPanel];
    for (int i = 0; i < kPanel; ++i) all[i] = sums[c + i];
    for (int pixel = begin; pixel < end; ++pixel)
      for (int i = 0; i < kPanel; ++i) all[i] += static_cast<double>(x[pixel * step + c + i]);
    for (int i = 0; i < kPanel; ++i) sums[c + i] = all[i];
  }
  for (int pixel = begin; pixel < end; ++pixel)
    for (int i = c; i < channels; ++i) sums[i] += static_cast<double>(x[pixel * step + i]);
}

#define BCDZOO_KERNELS(name) \
  {name, binary_conv, binarize, level_bits, float_conv, depthwise_conv, pool, pointwise, linear, sum, spin, float_spin}
