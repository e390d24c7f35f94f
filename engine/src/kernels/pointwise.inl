// Poolings, steps of each number by itself, and sums, once for every instruction set.

// NV vectors of channels of one output pixel, whose window is rows [top, bottom) of columns [left, right).
template <bool kMax, int NV>
BCDZOO_INLINE void pool_part(const float* in, int64_t in_step, int ring, int width, int top, int bottom, int left,
                             int right, float divisor, float* out) {
  F v[NV];
  for (F& value : v) value = splat(kMax ? -INFINITY : 0.0f);
  for (int row = top; row < bottom; ++row) {
    const float* x = in + (int64_t{ring ? row % ring : row} * width + left) * in_step;
    for (int column = left; column < right; ++column, x += in_step)
#pragma GCC unroll 8
      for (int i = 0; i < NV; ++i) {
        const F value = load(x + kWidth * i);
        if (kMax) {
          v[i] = max(value, v[i]);               // a NaN stays,
          v[i] = value == value ? v[i] : value;  // and is taken
        } else {
          v[i] += value;
        }
      }
  }
  for (int i = 0; i < NV; ++i) store(out + kWidth * i, kMax ? v[i] : v[i] / splat(divisor));
}

template <bool kMax>
void pool_as(const Pooling& pooling, int ring, const float* in, int64_t in_step, float* out, int64_t out_step,
             int channels, int begin, int end) {
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
      pool_part<kMax, kPanel / kWidth>(in + c, in_step, ring, pooling.width, top, bottom, left, right, count, to + c);
    for (; c < channels; c += kLanes)
      pool_part<kMax, kLaneVectors>(in + c, in_step, ring, pooling.width, top, bottom, left, right, count, to + c);
  }
}

void pool(const Pooling& pooling, int ring, const float* in, int64_t in_step, float* out, int64_t out_step,
          int channels, int begin, int end) {
  (pooling.is_max ? pool_as<true> : pool_as<false>)(pooling, ring, in, in_step, out, out_step, channels, begin, end);
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
  const int64_t other_step = other.step;
  const float* second = other.values + begin * other_step;
  if (other.single)
    for (int pixel = begin; pixel < end; ++pixel, second += other_step) {
      const F all = splat(*second);
      each(x, x_step, out, out_step, channels, pixel, pixel + 1, [=](F v, int) { return combine(v, all); });
    }
  else
    for (int pixel = begin; pixel < end; ++pixel, second += other_step)
      each(x, x_step, out, out_step, channels, pixel, pixel + 1,
           [=](F v, int i) { return combine(v, load(second + i)); });
}

void pointwise(const Pointwise& step, const float* x, int64_t x_step, const Operand& other, float* out,
               int64_t out_step, int channels, int begin, int end) {
  const auto one = [&](const auto& compute) { each(x, x_step, out, out_step, channels, begin, end, compute); };
  const auto two = [&](const auto& combine) { both(x, x_step, other, out, out_step, channels, begin, end, combine); };
  // Pointers of their own, because what is written might be anything to the compiler.
  const auto at = [](const Floats& constants) { return constants.empty() ? nullptr : constants.data(); };
  const auto given = [](const float* constants, int i, float otherwise) {
    return constants ? load(constants + i) : splat(otherwise);
  };
  switch (step.kind) {
    case Pointwise::Kind::kScaleShift: {
      const float *alpha = at(step.alpha), *beta = at(step.beta);
      return one([=](F v, int i) { return fmadd(v, given(alpha, i, 1.0f), given(beta, i, -0.0f)); });
    }
    case Pointwise::Kind::kPrelu: {
      const float *shift_in = at(step.shift_in), *positive = at(step.positive), *slope = at(step.slope),
                  *shift_out = at(step.shift_out);
      return one([=](F v, int i) {
        v = v + given(shift_in, i, -0.0f);
        v = v > F{} ? v * given(positive, i, 1.0f) : v * load(slope + i);
        return v + given(shift_out, i, -0.0f);
      });
    }
    case Pointwise::Kind::kClip:
      return one([&](F v, int) { return clip(v, splat(step.low), splat(step.high)); });
    case Pointwise::Kind::kAbs:
      return one([](F v, int) { return (F)((I)v & 0x7fffffff); });
    case Pointwise::Kind::kSign:
      return one([](F v, int) { return v > F{} ? splat(1.0f) : v < F{} ? splat(-1.0f) : F{}; });
    case Pointwise::Kind::kStep: {
      const float *threshold = step.alpha.data(), *high = step.beta.data();
      return one([=](F v, int i) { return v >= load(threshold + i) ? load(high + i) : -load(high + i); });
    }
    case Pointwise::Kind::kAdd:
      return two([](F v, F w) { return v + w; });
    case Pointwise::Kind::kSubtract:
      return two([](F v, F w) { return v - w; });
    case Pointwise::Kind::kMultiply:
      return two([](F v, F w) { return v * w; });
  }
}

// So many vectors of channels, each a chain of sums of its own.
template <int kVectors>
BCDZOO_INLINE void sum_part(const float* x, int64_t step, double* sums, int pixels) {
  D all[kVectors];
  for (int v = 0; v < kVectors; ++v) all[v] = load(sums + kDoubles * v);
  for (int pixel = 0; pixel < pixels; ++pixel, x += step)
#pragma GCC unroll 16
    for (int v = 0; v < kVectors; ++v) all[v] += to_doubles(x + kDoubles * v);
  for (int v = 0; v < kVectors; ++v) *reinterpret_cast<LooseD*>(sums + kDoubles * v) = all[v];
}

void sum(const float* x, int64_t step, int channels, double* sums, int begin, int end) {
  int c = 0;
  const auto run = [&](auto vectors) {
    constexpr int kVectors = decltype(vectors)::value, kChannels = kVectors * kDoubles;
    for (; c + kChannels <= channels; c += kChannels)
      sum_part<kVectors>(x + begin * step + c, step, sums + c, end - begin);
  };
  run(std::integral_constant<int, 8>{});
  run(std::integral_constant<int, 4>{});
  run(std::integral_constant<int, 1>{});
  for (int pixel = begin; pixel < end; ++pixel)
    for (int i = c; i < channels; ++i) sums[i] += static_cast<double>(x[pixel * step + i]);
}

// Rows of products with a vector, two vectors of sums each.
template <int kMR>
BCDZOO_INLINE void double_rows(const float* w, const double* x, int columns, double* out) {
  D sums[kMR][2] = {};
  int c = 0;
  for (; c + 2 * kDoubles <= columns; c += 2 * kDoubles)
#pragma GCC unroll 8
    for (int row = 0; row < kMR; ++row)
#pragma GCC unroll 2
      for (int v = 0; v < 2; ++v)
        sums[row][v] += to_doubles(w + int64_t{row} * columns + c + kDoubles * v) * load(x + c + kDoubles * v);
  for (int row = 0; row < kMR; ++row) {
    double all = 0;
    for (int i = c; i < columns; ++i) all += static_cast<double>(w[int64_t{row} * columns + i]) * x[i];
    const D both = sums[row][0] + sums[row][1];
    for (int i = 0; i < kDoubles; ++i) all += both[i];
    out[row] = all;
  }
}

void double_linear(const float* weights, const double* x, int columns, double* out, int begin, int end) {
  int row = begin;
  for (; row + 4 <= end; row += 4) double_rows<4>(weights + int64_t{row} * columns, x, columns, out + row);
  for (; row < end; ++row) double_rows<1>(weights + int64_t{row} * columns, x, columns, out + row);
}
