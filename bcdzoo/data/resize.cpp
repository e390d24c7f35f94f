// Pictures resized and cropped as Pillow does it, bit by bit, but only what the crop needs: first across, then down,
// each pixel a sum of whole-number weights, rounded to 8 bits. A picture is red, green and blue in turn.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <utility>
#include <vector>

namespace nb = nanobind;
using namespace nb::literals;

// The body of a function is compiled once for any processor and once for one with AVX2.
#define BCDZOO_BODY static inline __attribute__((always_inline))
#if defined(__x86_64__)
#define BCDZOO_WITH_AVX2 1
#endif

namespace {

constexpr int kBits = 22;   // of a weight's fraction: 8 bits of a pixel and 2 for sums above 1 are left
constexpr int kBlock = 64;  // numbers of a row that are summed at once

typedef int32_t I __attribute__((vector_size(16)));
typedef uint8_t Bytes __attribute__((vector_size(4)));

// What the output pixels of one side are the weighted sums of.
struct Weights {
  int64_t most = 0;            // input pixels of an output pixel
  std::vector<int64_t> first;  // the first input pixel of each
  std::vector<int64_t> count;
  std::vector<int32_t> weights;  // `most` for each
};

double bilinear(double x) { return std::max(0.0, 1.0 - std::fabs(x)); }

double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::fabs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

// For `outputs` pixels from `start` on of a side that becomes `resized` from `size` pixels.
Weights weights_of(int64_t size, int64_t resized, int64_t start, int64_t outputs, bool is_bicubic) {
  const double scale = static_cast<double>(size) / static_cast<double>(resized), stretch = std::max(scale, 1.0);
  const double support = (is_bicubic ? 2.0 : 1.0) * stretch;
  Weights found;
  found.most = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  found.weights.resize(static_cast<size_t>(outputs * found.most));
  std::vector<double> exact(static_cast<size_t>(found.most));
  for (int64_t i = 0; i < outputs; ++i) {
    const double center = (static_cast<double>(start + i) + 0.5) * scale, step = 1.0 / stretch;
    const auto from = std::max<int64_t>(static_cast<int64_t>(center - support + 0.5), 0);
    const auto count = std::min<int64_t>(static_cast<int64_t>(center + support + 0.5), size) - from;
    double sum = 0.0;
    for (int64_t k = 0; k < count; ++k) {
      const double at = (static_cast<double>(k + from) - center + 0.5) * step;
      sum += exact[static_cast<size_t>(k)] = is_bicubic ? bicubic(at) : bilinear(at);
    }
    for (int64_t k = 0; k < count; ++k) {
      const double share = sum != 0.0 ? exact[static_cast<size_t>(k)] / sum : exact[static_cast<size_t>(k)];
      const double weight = share * (1 << kBits) + (share < 0 ? -0.5 : 0.5);
      found.weights[static_cast<size_t>(i * found.most + k)] = static_cast<int32_t>(weight);
    }
    found.first.push_back(from);
    found.count.push_back(count);
  }
  return found;
}

BCDZOO_BODY uint8_t rounded(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kBits, 0, 255)); }

// One row of pixels, with a byte behind it that may be read.
BCDZOO_BODY void across(const uint8_t* row, const Weights& columns, int64_t outputs, uint8_t* out) {
  for (int64_t x = 0; x < outputs; ++x) {
    const int32_t* const weights = columns.weights.data() + x * columns.most;
    const uint8_t* from = row + 3 * columns.first[x];
    constexpr int32_t kHalf = 1 << (kBits - 1);
    I sum = {kHalf, kHalf, kHalf, 0};
    for (int64_t k = 0; k < columns.count[x]; ++k, from += 3) {
      Bytes pixel;
      std::memcpy(&pixel, from, 4);
      sum += __builtin_convertvector(pixel, I) * weights[k];
    }
    for (int channel = 0; channel < 3; ++channel) out[3 * x + channel] = rounded(sum[channel]);
  }
}

BCDZOO_BODY void down(const uint8_t* rows, int64_t stride, const int32_t* weights, int64_t count, int64_t size,
                      uint8_t* out) {
  for (int64_t start = 0; start < size; start += kBlock) {
    const int64_t some = std::min<int64_t>(kBlock, size - start);
    int32_t sums[kBlock];
    for (int64_t i = 0; i < kBlock; ++i) sums[i] = 1 << (kBits - 1);
    for (int64_t k = 0; k < count; ++k) {
      const uint8_t* const from = rows + k * stride + start;
      const int32_t weight = weights[k];
      for (int64_t i = 0; i < kBlock; ++i) sums[i] += from[i] * weight;  // rows end with room for a block
    }
    for (int64_t i = 0; i < some; ++i) out[start + i] = rounded(sums[i]);
  }
}

BCDZOO_BODY void run(const uint8_t* picture, int64_t width, const Weights& rows, const Weights& columns, int64_t crop,
                     uint8_t* out) {
  const int64_t first = rows.first.front(), last = rows.first.back() + rows.count.back(), stride = 3 * crop + kBlock;
  std::vector<uint8_t> narrow(static_cast<size_t>((last - first) * stride)), row(static_cast<size_t>(3 * width + 1)),
      line(static_cast<size_t>(stride));
  for (int64_t y = first; y < last; ++y) {
    std::memcpy(row.data(), picture + 3 * width * y, static_cast<size_t>(3 * width));
    across(row.data(), columns, crop, narrow.data() + (y - first) * stride);
  }
  for (int64_t y = 0; y < crop; ++y) {
    down(narrow.data() + (rows.first[y] - first) * stride, stride, rows.weights.data() + y * rows.most, rows.count[y],
         3 * crop, line.data());
    for (int channel = 0; channel < 3; ++channel)
      for (int64_t x = 0; x < crop; ++x) out[(channel * crop + y) * crop + x] = line[3 * x + channel];
  }
}

#ifdef BCDZOO_WITH_AVX2
__attribute__((target("avx2"))) void run_with_avx2(const uint8_t* picture, int64_t width, const Weights& rows,
                                                   const Weights& columns, int64_t crop, uint8_t* out) {
  run(picture, width, rows, columns, crop, out);
}
#endif

using Picture = nb::ndarray<const uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Cropped = nb::ndarray<uint8_t, nb::ndim<3>, nb::c_contig, nb::device::cpu>;
using Pair = std::pair<int64_t, int64_t>;

void require(bool holds, const char* otherwise) {
  if (!holds) throw std::invalid_argument(otherwise);
}

void resize(const Picture& picture, const Cropped& out, Pair resized, Pair corner, bool is_bicubic) {
  constexpr int64_t kLargest = 1 << 26;  // of a side
  const auto height = static_cast<int64_t>(picture.shape(0)), width = static_cast<int64_t>(picture.shape(1));
  const auto crop = static_cast<int64_t>(out.shape(1));
  require(picture.shape(2) == 3 && std::min(height, width) > 0 && std::max(height, width) <= kLargest,
          "a picture has the shape (H, W, 3)");
  require(out.shape(0) == 3 && crop > 0 && out.shape(2) == out.shape(1), "the output has a wrong shape");
  const auto holds = [&](int64_t size, int64_t start) {
    return size <= kLargest && start >= 0 && start <= size - crop;
  };
  require(holds(resized.first, corner.first) && holds(resized.second, corner.second), "the crop is outside");
  const nb::gil_scoped_release release;
  const Weights rows = weights_of(height, resized.first, corner.first, crop, is_bicubic);
  const Weights columns = weights_of(width, resized.second, corner.second, crop, is_bicubic);
#ifdef BCDZOO_WITH_AVX2
  if (__builtin_cpu_supports("avx2")) return run_with_avx2(picture.data(), width, rows, columns, crop, out.data());
#endif
  run(picture.data(), width, rows, columns, crop, out.data());
}

NB_MODULE(_resize, m) {
  m.doc() = "Pillow's resize, of the pixels that a crop needs.";
  m.def("resize", &resize, "picture"_a.noconvert(), "out"_a.noconvert(), "resized"_a, "corner"_a, "is_bicubic"_a);
}

}  // namespace
