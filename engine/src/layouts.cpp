#include "layouts.h"

#include <algorithm>
#include <map>

namespace bcdzoo {
namespace {

// Taps of an output row (or column) that fall into the padding, a bit each.
uint64_t missing(const Sliding& sliding, int axis, int position, int size) {
  uint64_t taps = 0;
  for (int tap = 0; tap < sliding.kernel[axis]; ++tap) {
    const int at = position * sliding.stride[axis] + tap * sliding.dilation[axis] - sliding.before[axis];
    if (at < 0 || at >= size) taps |= uint64_t{1} << (tap % 64);
  }
  return taps;
}

// A vector or panel's weights: [outputs / lanes][taps][c_in of a group][lanes].
Floats interleaved(const Constant& weight, int taps, int lanes) {
  const int outputs = weight.shape.sizes[0], c_in = weight.shape.sizes[1];
  const int64_t depth = int64_t{taps} * c_in;
  Floats made(static_cast<size_t>(ceil_div(outputs, lanes) * depth * lanes), 0.0f);
  for (int o = 0; o < outputs; ++o) {
    float* const to = made.data() + o / lanes * depth * lanes + o % lanes;
    const float* const from = weight.floats + o * depth;
    for (int c = 0; c < c_in; ++c)
      for (int tap = 0; tap < taps; ++tap) to[(int64_t{tap} * c_in + c) * lanes] = from[int64_t{c} * taps + tap];
  }
  return made;
}

// Rows of a kernel that lie in the map, [first, second), for a row of the output.
std::pair<int, int> rows_inside(const Sliding& sliding, int y, int height) {
  const auto is_inside = [&](int row) {
    const int at = y * sliding.stride[0] + row * sliding.dilation[0] - sliding.before[0];
    return at >= 0 && at < height;
  };
  int first = 0, end = sliding.kernel[0];
  while (first < end && !is_inside(first)) ++first;
  while (end > first && !is_inside(end - 1)) --end;
  return {first, end};
}

// The sum of those of a basis whose bits are 1, in sequence, as float32.
float basis_sum(const Constant& basis, uint32_t code) {
  float sum = 0;
  for (int k = 0; k < basis.count(); ++k) sum += (code >> k & 1) ? basis.floats[k] : 0.0f * basis.floats[k];
  return sum;
}

}  // namespace

Floats filled(const Constant& constant, int first, int count, int padded, float rest) {
  Floats values(padded, rest);
  for (int i = 0; i < count; ++i) values[i] = constant.floats[constant.count() == 1 ? 0 : first + i];
  return values;
}

Floats constants_of(const Operation& operation, const char* name, int count, int padded, float rest) {
  return operation.has(name) ? filled(operation.constant(name), 0, count, padded, rest) : Floats();
}

Sliding::Sliding(const Operation& operation, const Shape& shape, int kernel_height, int kernel_width)
    : kernel{kernel_height, kernel_width} {
  for (int axis = 0; axis < 2; ++axis) {
    stride[axis] = operation.whole("stride", axis);
    dilation[axis] = operation.whole("dilation", axis);
    const Side side = window_side(operation, axis ? shape.width() : shape.height(), kernel[axis], axis);
    out[axis] = side.out;
    before[axis] = side.before;
    behind[axis] = side.behind;
  }
}

Windows Sliding::windows(int columns, int64_t step, int length) const {
  Windows made;
  const bool whole_rows = length == step && dilation[1] == 1;  // a row of the kernel is one run
  const auto at = [&](int64_t row, int64_t column) { return static_cast<int32_t>((row * columns + column) * step); };
  for (int row = 0; row < kernel[0]; ++row)
    for (int column = 0; column < (whole_rows ? 1 : kernel[1]); ++column)
      made.run_at.push_back(at(int64_t{row} * dilation[0], int64_t{column} * dilation[1]));
  made.length = whole_rows ? length * kernel[1] : length;
  made.window_at.reserve(static_cast<size_t>(pixels()));
  for (int y = 0; y < out[0]; ++y)
    for (int x = 0; x < out[1]; ++x) made.window_at.push_back(at(int64_t{y} * stride[0], int64_t{x} * stride[1]));
  return made;
}

Floats panels_of(const Constant& weight, int taps) { return interleaved(weight, taps, kPanel); }

Floats grouped_weights(const Constant& weight, int taps) { return interleaved(weight, taps, kLanes); }

Floats depthwise_weights(const Constant& weight, int taps) {
  const int outputs = weight.shape.sizes[0], all = round_up(outputs, kLanes);
  Floats made(static_cast<size_t>(all) * taps, 0.0f);
  for (int o = 0; o < outputs; ++o)
    for (int tap = 0; tap < taps; ++tap)
      made[static_cast<size_t>(tap) * all + o] = weight.floats[int64_t{o} * taps + tap];
  return made;
}

int64_t Plane::sum(int row, const std::vector<int>& taps) const {
  int64_t all = 0;
  for (const int tap : taps) all += tap_sums[static_cast<size_t>(tap) * padded_rows + row];
  return all;
}

Plane plane_of(const uint64_t* words, int first, int rows, int taps, int c_in) {
  const int dwords = ceil_div(c_in, 32), row_words = ceil_div(c_in, 64), all = round_up(rows, kPanel);
  Plane made;
  made.padded_rows = all;
  made.panels.assign(static_cast<size_t>(all) * taps * dwords, 0);
  made.tap_sums.assign(static_cast<size_t>(all) * taps, 0);
  const uint32_t last = ~uint32_t{0} >> (dwords * 32 - c_in);
  for (int row = 0; row < rows; ++row)
    for (int tap = 0; tap < taps; ++tap) {
      const uint64_t* const from = words + (static_cast<int64_t>(first + row) * taps + tap) * row_words;
      const int64_t element = (static_cast<int64_t>(row / kPanel) * taps + tap) * dwords;
      int ones = 0;
      for (int d = 0; d < dwords; ++d) {
        uint32_t bits = static_cast<uint32_t>(from[d / 2] >> (d % 2 * 32));
        if (d == dwords - 1) bits &= last;  // bits beyond the channels are 0 in both operands
        ones += __builtin_popcount(bits);
        made.panels[(element + d) * kPanel + row % kPanel] = bits;
      }
      made.tap_sums[static_cast<size_t>(tap) * all + row] = 2 * ones - c_in;
    }
  return made;
}

Classes classes_of(const Sliding& sliding, int height, int width) {
  std::map<std::pair<uint64_t, uint64_t>, int> known;
  Classes found;
  for (int y = 0; y < sliding.out[0]; ++y) {
    const uint64_t rows = missing(sliding, 0, y, height);
    for (int x = 0; x < sliding.out[1]; ++x) {
      const uint64_t columns = missing(sliding, 1, x, width);
      const auto [entry, is_new] = known.emplace(std::pair(rows, columns), static_cast<int>(known.size()));
      found.of_pixel.push_back(static_cast<uint16_t>(entry->second));
      if (!is_new) continue;
      found.missing.emplace_back();
      for (int row = 0; row < sliding.kernel[0]; ++row)
        for (int column = 0; column < sliding.kernel[1]; ++column)
          if ((rows >> row & 1) || (columns >> column & 1))
            found.missing.back().push_back(row * sliding.kernel[1] + column);
    }
  }
  if (found.missing.size() == 1) found.of_pixel.clear();
  return found;
}

void skip_padding(BinaryConv& conv, const Sliding& sliding, const Plane& plane, int height, int c_in) {
  const int row_runs = conv.windows.runs() / sliding.kernel[0], run_taps = sliding.taps() / conv.windows.runs();
  for (int y = 0; y < sliding.out[0]; ++y) {
    const auto [first, end] = rows_inside(sliding, y, height);
    conv.first_run.insert(conv.first_run.end(), sliding.out[1], static_cast<uint16_t>(first * row_runs));
    conv.end_run.insert(conv.end_run.end(), sliding.out[1], static_cast<uint16_t>(end * row_runs));
  }
  conv.padding_popcounts.reserve(static_cast<size_t>(conv.windows.runs()) * plane.padded_rows);
  for (int run = 0; run < conv.windows.runs(); ++run)
    for (int row = 0; row < plane.padded_rows; ++row) {
      int ones = 0;
      for (int tap = run * run_taps; tap < (run + 1) * run_taps; ++tap)
        ones += (plane.tap_sums[static_cast<size_t>(tap) * plane.padded_rows + row] + c_in) / 2;
      conv.padding_popcounts.push_back(ones);
    }
}

std::vector<int32_t> samples(int height, int width, int dwords, bool is_long) {
  const int rows = is_long ? height / 2 : 1, columns = is_long ? width / 2 : 1;
  const auto rolled = [](int at, int by, int size) { return ((at + by) % size + size) % size; };
  std::vector<int32_t> found;
  found.reserve(static_cast<size_t>(height) * width * 4);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) {
      const std::pair<int, int> from[4] = {{rolled(y, -rows, height), x},
                                           {rolled(y, rows, height), x},
                                           {y, rolled(x, -columns, width)},
                                           {y, rolled(x, columns, width)}};
      for (int quarter = 0; quarter < 4; ++quarter)
        found.push_back((from[quarter].first * width + from[quarter].second) * dwords + quarter * (dwords / 4));
    }
  return found;
}

SumBits sum_bits(const Constant& basis) {
  const int count = static_cast<int>(basis.count());
  std::vector<std::pair<float, uint32_t>> sums;
  for (uint32_t code = 0; code < 1u << count; ++code) sums.emplace_back(basis_sum(basis, code), code);
  std::stable_sort(sums.begin(), sums.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  SumBits made;
  made.planes = count;
  made.lowest = sums[0].second;
  for (size_t i = 1; i < sums.size(); ++i) {
    const float middle = (sums[i].first + sums[i - 1].first) / 2.0f;
    made.limits.push_back(std::nextafter(middle, INFINITY));
    made.changes.push_back(sums[i].second ^ sums[i - 1].second);
  }
  return made;
}

}  // namespace bcdzoo
