// The stem's kernels, once for every instruction set, which provides Lanes (a vector of kLanes floats), splat(),
// positive() and fused().

static void load(const Image& image, const Planes& to, float* planes, int begin, int end) {
  for (int y = begin; y < end; ++y)
    for (int c = 0; c < to.channels; ++c) {
      const float* from = image.values + c * image.channel + y * image.row;
      for (int remainder = 0; remainder < to.stride; ++remainder) {
        const int first = round_up(std::max(to.padding - remainder, 0), to.stride) / to.stride;  // inside of the image
        float* row = planes + to.row(c, remainder, y + to.padding) + first;
        for (int x = first * to.stride + remainder - to.padding; x < to.width; x += to.stride) *row++ = from[x * image.column];
      }
    }
}

// In the order of oneDNN's own kernels, over rows, columns and channels, each product fused with the sum.
static void float_layer(const FloatLayer& layer, const Planes& from, const float* in, const Planes& to, float* out,
                        int begin, int end) {
  const int64_t next_channel = from.row(1, 0, 0);
  const int window = layer.kernel * layer.kernel * layer.group_in() * kBlock;
  for (int y = begin; y < end; ++y)
    for (int group = 0; group < layer.groups; ++group)
      for (int block = 0; block < layer.blocks(); ++block)
        for (int x = 0; x < to.width; x += kLanes) {
          Lanes sums[kBlock];
          for (Lanes& sum : sums) sum = splat(0.0f);
          const float* w = layer.weights.data() + int64_t{group * layer.blocks() + block} * window;
          for (int row = 0; row < layer.kernel; ++row)
            for (int column = 0; column < layer.kernel; ++column) {
              const float* values = in + from.row(group * layer.group_in(), column % layer.stride, y * layer.stride + row) +
                                    x + column / layer.stride;
              for (int c = 0; c < layer.group_in(); ++c, values += next_channel, w += kBlock) {
                Lanes value;
                std::memcpy(&value, values, sizeof(value));
#pragma GCC unroll 8
                for (int k = 0; k < kBlock; ++k) sums[k] = fused(value, w[k], sums[k]);
              }
            }
          const int first = group * layer.group_out() + block * kBlock;
          const int channels = std::min(kBlock, layer.group_out() - block * kBlock), count = std::min(kLanes, to.width - x);
          for (int k = 0; k < channels; ++k) {
            alignas(64) float values[kLanes];
            Lanes normal = fused(sums[k], layer.alpha[first + k], splat(layer.beta[first + k]));
            if (layer.relu) normal = positive(normal);
            std::memcpy(values, &normal, sizeof(values));
            if (to.stride == 1 && count == kLanes) {
              std::memcpy(out + to.row(first + k, 0, y + to.padding) + x + to.padding, values, sizeof(values));
              continue;
            }
            for (int i = 0; i < count; ++i) {
              const int at = x + i + to.padding;
              out[to.row(first + k, at % to.stride, y + to.padding) + at / to.stride] = values[i];
            }
          }
        }
}

static void pool(const Stem& stem, const Planes& from, const float* in, float* out, int begin, int end) {
  const int width = stem.pooled(from.width);
  std::vector<float> tops(from.width);
  for (int y = begin; y < end; ++y) {
    const int top = std::max(y * stem.pool_stride - stem.pool_padding, 0);
    const int bottom = std::min(y * stem.pool_stride - stem.pool_padding + stem.pool_kernel, from.height);
    float* row = out + int64_t{y} * width * from.channels;
    for (int c = 0; c < from.channels; ++c) {
      const float* values = in + from.row(c, 0, top);
      if (stem.pool_kernel == 1 && stem.pool_stride == 1) {
        for (int x = 0; x < width; ++x) row[int64_t{x} * from.channels + c] = values[x];
        continue;
      }
      if (bottom - top > 1) {
        std::copy(values, values + from.width, tops.begin());
        for (int below = top + 1; below < bottom; ++below) {
          const float* others = in + from.row(c, 0, below);
          for (int x = 0; x < from.width; ++x) tops[x] = others[x] > tops[x] ? others[x] : tops[x];
        }
        values = tops.data();
      }
      for (int x = 0; x < width; ++x) {
        const int left = std::max(x * stem.pool_stride - stem.pool_padding, 0);
        const int right = std::min(x * stem.pool_stride - stem.pool_padding + stem.pool_kernel, from.width);
        float best = values[left];
        for (int at = left + 1; at < right; ++at) best = values[at] > best ? values[at] : best;
        row[int64_t{x} * from.channels + c] = best;
      }
    }
  }
}
