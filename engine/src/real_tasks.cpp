#include "real_tasks.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace bcdzoo {
namespace {

// Rows of a padded map that a window needs for the output's rows up to `end`.
int window_rows(int end, int stride, int extent, int height) { return std::min((end - 1) * stride + extent, height); }

// Runs something on a share of the pixels, or of the panels where there are too few pixels to share.
template <class Run>
void share(Part part, int begin, int end, int panels, const Run& run) {
  constexpr int kFewest = 64;  // pixels of a part
  if (part.count > 1 && (end - begin) / part.count < kFewest && panels >= part.count) {
    const auto [first, last] = part.of(0, panels);
    run(begin, end, first, last);
  } else {
    const auto [first, last] = part.of(begin, end);
    run(first, last, 0, panels);
  }
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

// to[column][row] = from[row][column], a tile at a time, so that whole lines of the cache are read and written.
void transpose(const float* from, int64_t from_step, float* to, int64_t to_step, int rows, int columns) {
  constexpr int kTile = 16;
  for (int row = 0; row < rows; row += kTile)
    for (int column = 0; column < columns; column += kTile) {
      const int row_end = std::min(row + kTile, rows), column_end = std::min(column + kTile, columns);
      for (int r = row; r < row_end; ++r)
        for (int c = column; c < column_end; ++c) to[c * to_step + r] = from[r * from_step + c];
    }
}

}  // namespace

void PadTask::run(const Frame& frame, int begin, int end, Part part) const {
  const auto [first, last] = part.of(begin, end);
  const int columns = padded_width();
  float* const out = frame.at<float>(*to);
  for (int row = first; row < last; ++row) {
    float* const to_row = out + int64_t{to->ring ? row % to->ring : row} * columns * step;
    const int y = replicates ? std::clamp(row - top, 0, height - 1) : row - top;
    if (y < 0 || y >= height) {
      std::fill(to_row, to_row + columns * step, value);
      continue;
    }
    std::fill(to_row, to_row + left * step, value);
    std::fill(to_row + (left + width) * step, to_row + columns * step, value);
    float* const inside = to_row + left * step;
    if (of_image) {
      const Image& image = frame.image;
      const float* const x = image.values + y * image.row_step;
      if (channels == 3 && image.column_step == 1 && step == 3) {  // by far the most common
        const float *const green = x + image.channel_step, *const blue = green + image.channel_step;
        for (int column = 0; column < width; ++column) {
          inside[3 * column] = x[column];
          inside[3 * column + 1] = green[column];
          inside[3 * column + 2] = blue[column];
        }
        continue;
      }
      for (int c = 0; c < channels; ++c)
        for (int column = 0; column < width; ++column)
          inside[column * step + c] = x[c * image.channel_step + column * image.column_step];
    } else {
      const Map map = frame.map(from, y);
      for (int column = 0; column < width; ++column)
        std::memcpy(inside + column * step, map.pixel(int64_t{y} * width + column), sizeof(float) * channels);
      for (int column = replicates ? -left : 0; column < 0; ++column)
        std::memcpy(inside + column * step, inside, sizeof(float) * channels);
      for (int column = width; column < (replicates ? width + right : width); ++column)
        std::memcpy(inside + column * step, inside + (width - 1) * step, sizeof(float) * channels);
    }
  }
}

int PadTask::needs(int, int end) const { return std::clamp(end - top, replicates ? 1 : 0, height); }

int PadTask::frees(int, int end) const { return end + top + (replicates && end == height ? bottom : 0); }

void ImageTask::run(const Frame& frame, int begin, int end, Part part) const {
  const auto [first, last] = part.of(begin, end);
  const Map map = frame.map(to, begin);
  const Image& image = frame.image;
  for (int y = first; y < last; ++y) {
    const float* const x = image.values + y * image.row_step;
    float* const out = map.pixel(int64_t{y} * map.width);
    if (image.column_step == 1) {
      transpose(x, image.channel_step, out, map.step, map.channels, map.width);
      continue;
    }
    for (int column = 0; column < map.width; ++column)
      for (int c = 0; c < map.channels; ++c)
        out[column * map.step + c] = x[c * image.channel_step + column * image.column_step];
  }
}

void FloatConvTask::run(const Frame& frame, int begin, int end, Part part) const {
  const Map out = frame.map(to, begin);
  const float* const in = frame.map(from, begin * stride).values;
  share(part, begin * out.width, end * out.width, conv.panel_count(),
        [&](int first, int last, int from_panel, int to_panel) {
          frame.kernels.float_conv(conv, in, out.values, out.step, first, last, from_panel, to_panel);
        });
}

int FloatConvTask::needs(int, int end) const { return window_rows(end, stride, extent, height); }

int FloatConvTask::frees(int, int end) const { return ceil_div(end, stride); }

void GroupedTask::run(const Frame& frame, int begin, int end, Part part) const {
  const Map out = frame.map(to, begin);
  const auto [first, last] = part.of(begin * out.width, end * out.width);
  const float* const in = frame.map(from, begin * stride).values;
  if (depthwise.channels)
    frame.kernels.depthwise_conv(depthwise, in, out.values, out.step, first, last);
  else
    frame.kernels.grouped_conv(narrow, in, out.values, out.step, first, last);
}

int GroupedTask::needs(int, int end) const { return window_rows(end, stride, extent, height); }

int GroupedTask::frees(int, int end) const { return ceil_div(end, stride); }

void PoolTask::run(const Frame& frame, int begin, int end, Part part) const {
  const Map in = frame.map(from), out = frame.map(to, begin);
  const auto [first, last] = part.of(begin * out.width, end * out.width);
  frame.kernels.pool(pooling, from.slot->ring, in.values, in.step, out.values, out.step, out.channels, first, last);
}

int PoolTask::needs(int, int end) const {
  return std::clamp((end - 1) * pooling.stride[0] + pooling.kernel[0] - pooling.padding[0], 1, pooling.height);
}

int PoolTask::frees(int, int end) const { return ceil_div(end + pooling.padding[0], pooling.stride[0]); }

void PointwiseTask::run(const Frame& frame, int begin, int end, Part part) const {
  const Map in = frame.map(from, begin), out = frame.map(to, begin);
  const auto [first, last] = part.of(begin * out.width, end * out.width);
  Operand operand;
  if (other.slot) {
    const Map second = frame.map(other, begin);
    operand = {second.values, second.pixels() == 1 && out.pixels() > 1 ? 0 : second.step,
               second.channels == 1 && out.channels > 1};
  }
  frame.kernels.pointwise(pointwise, in.values, in.step, operand, out.values, out.step, out.channels, first, last);
}

void AddMapTask::run(const Frame& frame, int begin, int end, Part part) const {
  const Map in = frame.map(from, begin), out = frame.map(to, begin);
  const auto [first, last] = part.of(begin * out.width, end * out.width);
  for (int pixel = first; pixel < last; ++pixel) {
    const float *const x = in.pixel(pixel), *const added = map.data() + pixel * step;
    float* const y = out.pixel(pixel);
    for (int c = 0; c < out.channels; ++c) y[c] = x[c] + added[c];
  }
}

void UpsampleTask::run(const Frame& frame, int begin, int end, Part part) const {
  const Map in = frame.map(from), out = frame.map(to, begin);
  const auto [first, last] = part.of(begin * out.width, end * out.width);
  for (int pixel = first; pixel < last; ++pixel) {
    const int row = pixel / out.width / factor[0], column = pixel % out.width / factor[1];
    std::memcpy(out.pixel(pixel), in.pixel(int64_t{row} * in.width + column), sizeof(float) * in.channels);
  }
}

int UpsampleTask::needs(int, int end) const { return ceil_div(end, factor[0]); }

int UpsampleTask::frees(int, int end) const { return end * factor[0]; }

void ConcatTask::run(const Frame& frame, int begin, int end, Part part) const {
  const Map out = frame.map(to, begin);
  const auto [first, last] = part.of(begin * out.width, end * out.width);
  int channel = 0;
  for (const Place& place : from) {
    const Map map = frame.map(place, begin);
    if (map.pixel(0) != out.values + channel)
      for (int pixel = first; pixel < last; ++pixel)
        std::memcpy(out.pixel(pixel) + channel, map.pixel(pixel), sizeof(float) * map.channels);
    channel += map.channels;
  }
}

void LinearTask::run(const Frame& frame, int, int, Part part) const {
  const Map in = frame.map(from), out = frame.map(to);
  const auto [first, last] = part.of(0, out.channels);
  frame.kernels.linear(weights, bias, in.values, columns, out.values, first, last);
}

void SumTask::run(const Frame& frame, int begin, int end, Part part) const {
  const Map map = frame.map(from, begin);
  const auto [first, last] = part.of(0, map.channels);
  double* const sums = frame.at<double>(*to) + first;
  if (begin == 0) std::fill_n(sums, last - first, 0.0);
  frame.kernels.sum(map.values + first, map.step, last - first, sums, begin * map.width, end * map.width);
}

void PixelMeanTask::run(const Frame& frame, int begin, int end, Part part) const {
  const Map in = frame.map(from, begin), out = frame.map(to, begin);
  const auto [first, last] = part.of(begin * in.width, end * in.width);
  for (int pixel = first; pixel < last; ++pixel) {
    const float* const x = in.pixel(pixel);
    double sums[kLanes] = {};
    int c = 0;
    for (; c + kLanes <= in.channels; c += kLanes)
      for (int i = 0; i < kLanes; ++i) sums[i] += static_cast<double>(x[c + i]);
    for (; c < in.channels; ++c) sums[0] += static_cast<double>(x[c]);
    *out.pixel(pixel) = static_cast<float>(std::accumulate(sums, sums + kLanes, 0.0) / in.channels);
  }
}

void ContextTask::run(const Frame& frame, int, int, Part part) const {
  if (part.index) return;
  const Map out = frame.map(to);
  const double* const sums = frame.at<double>(*from);
  std::vector<double> means(sums, sums + channels);
  if (out.channels == 1 && !context) means = {std::accumulate(sums, sums + channels, 0.0) / channels};
  for (double& mean : means) mean /= pixels;
  if (!context) {
    std::copy(means.begin(), means.end(), out.values);
    return;
  }
  const auto product = [&](const char* name, const std::vector<double>& x) {
    const Constant& weights = context->constant(name);
    std::vector<double> y(weights.shape.sizes[0]);
    frame.kernels.double_linear(weights.floats, x.data(), weights.shape.sizes[1], y.data(), 0,
                                static_cast<int>(y.size()));
    return y;
  };
  std::vector<double> hidden = product("first", means);
  if (context->word("hidden") == "relu")
    for (double& value : hidden) value = std::max(value, 0.0);
  const std::vector<double> result = product("second", hidden);
  const bool squashed = context->word("output") == "sigmoid";
  for (size_t i = 0; i < result.size(); ++i)
    out.values[i] = static_cast<float>(squashed ? sigmoid(result[i]) : result[i]);
}

void ReferenceTask::run(const Frame& frame, int, int, Part part) const {
  if (part.index) return;
  std::vector<Map> inputs;
  for (const Place& place : from) inputs.push_back(frame.map(place));
  run_reference(*source, inputs, frame.map(to));
}

void ResultTask::run(const Frame& frame, int, int, Part part) const {
  const Map map = frame.map(from);
  const auto [first, last] = part.of(0, map.pixels());
  for (int level = 0; level < map.levels; ++level)
    transpose(map.pixel(int64_t{level} * map.pixels() + first), map.step,
              frame.result + int64_t{level} * map.channels * map.pixels() + first, map.pixels(), last - first,
              map.channels);
}

}  // namespace bcdzoo
