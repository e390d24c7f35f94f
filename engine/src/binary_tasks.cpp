#include "binary_tasks.h"

#include <algorithm>

namespace bcdzoo {

constexpr int kAllRows = 1 << 30;

void BorderTask::run(const Frame& frame, int, int, Part part) const {
  if (part.index) return;
  const int64_t row = int64_t{to->padded_width()} * to->dwords;
  for (int plane = 0; plane < to->planes; ++plane) {
    uint32_t* const bits = frame.at<uint32_t>(*to->slot) + plane * to->plane_dwords();
    const auto clear = [&](int64_t begin, int64_t count) { std::fill_n(bits + begin, count, 0u); };
    clear(0, to->top * row);
    clear((to->top + to->height) * row, to->bottom * row);
    for (int y = to->top; y < to->top + to->height; ++y) {
      clear(y * row, int64_t{to->left} * to->dwords);
      clear(y * row + (int64_t{to->left} + to->width) * to->dwords, int64_t{to->right} * to->dwords);
    }
  }
}

void BitsTask::run(const Frame& frame, int begin, int end, Part part) const {
  const Map map = frame.map(from, begin);
  const auto [first, last] = part.of(begin * map.width, end * map.width);
  for (int level = 0; level < map.levels; ++level) {
    const float* const x = map.values + int64_t{level} * map.pixels() * map.step;
    uint32_t* const bits =
        frame.at<uint32_t>(*to->slot) + first_dword +
        (int64_t{first_plane} + level * (levels.empty() ? 1 : levels[0].planes)) * to->plane_dwords();
    if (!sums.empty()) {
      frame.kernels.sum_bits(sums[0], x, map.step, map.channels, bits, to->plane_dwords(), to->pixel_at.data(), first,
                             last);
      continue;
    }
    if (!levels.empty()) {
      frame.kernels.level_bits(levels[0], x, map.step, map.channels, bits, to->plane_dwords(), to->pixel_at.data(),
                               first, last);
      continue;
    }
    const float* const limit = limits.slot ? frame.map(limits).values : threshold.data();
    frame.kernels.binarize(x, map.step, map.channels, limit, falls.empty() ? nullptr : falls.data(), bits,
                           to->pixel_at.data(), first, last);
  }
}

int BitsTask::needs(int read, int end) const { return read == 0 ? end : 1; }

void UnitTask::run(const Frame& frame, int begin, int end, Part part) const {
  BinaryMaps maps;
  maps.bits = frame.at<uint32_t>(*bits->slot);
  if (to.slot) {
    const Map out = frame.map(to, begin);
    maps.out = out.values;
    maps.out_step = out.step;
  }
  if (shortcut.slot) {
    const Map map = frame.map(shortcut, begin);
    maps.shortcut = map.values;
    maps.shortcut_step = map.step;
    maps.shortcut_channels = shortcut_channels;
  }
  if (scores.slot) maps.term = highest(frame.map(scores).values, scores.shape.channels());
  if (gate.slot) maps.gate = frame.map(gate).values;
  if (offset.slot) maps.offset = frame.map(offset).values;
  for (const Reader& reader : readers)
    maps.readers.push_back({frame.at<uint32_t>(*reader.to->slot) + reader.first_dword, reader.to->pixel_at.data(),
                            reader.threshold.data()});
  constexpr int kFewest = 64;  // pixels of a part; of fewer the panels are shared
  const int first_pixel = begin * out_columns, last_pixel = end * out_columns;
  if (part.count > 1 && (last_pixel - first_pixel) / part.count < kFewest && conv.panel_count() >= part.count) {
    const auto [first, last] = part.of(0, conv.panel_count());
    frame.kernels.binary_conv(conv, maps, first_pixel, last_pixel, first, last);
  } else {
    const auto [first, last] = part.of(first_pixel, last_pixel);
    frame.kernels.binary_conv(conv, maps, first, last, 0, conv.panel_count());
  }
}

int UnitTask::needs(int read, int end) const {
  if (read != bits_read) return whole[read] ? kAllRows : end;
  if (samples()) return bits->height;
  return std::clamp((end - 1) * stride + extent - bits->top, 1, bits->height);
}

int UnitTask::frees(int read, int end) const {
  if (read != bits_read) return end;
  return samples() ? kAllRows : ceil_div(end + bits->top, stride);
}

// Whether branches read pixels from anywhere in the map.
bool UnitTask::samples() const {
  return std::any_of(conv.terms.begin(), conv.terms.end(), [](const Term& term) { return term.sampled_at != nullptr; });
}

// Of pixels [begin, end): [pixel - begin][dwords].
Dwords AttentionTask::signs(const Frame& frame, const Place& place, const Floats& threshold, int begin, int end) const {
  const Map map = frame.map(place);
  Dwords bits(static_cast<size_t>(end - begin) * attention.dwords());
  frame.kernels.binarize(map.pixel(begin), map.step, map.channels, threshold.data(), nullptr, bits.data(),
                         pixel_at.data(), 0, end - begin);
  return bits;
}

void AttentionTask::run(const Frame& frame, int, int, Part part) const {
  const Map out = frame.map(to);
  const auto [first, last] = part.of(0, out.pixels());
  if (first == last) return;
  const int dwords = attention.dwords(), count = attention.keys, words = attention.key_dwords();
  const int head_dwords = attention.head_dwords, channels = 32 * head_dwords;
  const Dwords of_keys = signs(frame, key, key_threshold, 0, count);
  const Dwords of_values = signs(frame, value, value_threshold, 0, count);
  Dwords keys(of_keys.size()), values(static_cast<size_t>(attention.heads) * words * channels);
  std::fill(values.begin(), values.end(), 0u);
  for (int j = 0; j < count; ++j)
    for (int dword = 0; dword < dwords; ++dword) {
      keys[static_cast<size_t>(dword) * count + j] = of_keys[static_cast<size_t>(j) * dwords + dword];
      const uint32_t bits = of_values[static_cast<size_t>(j) * dwords + dword];
      const int head = dword / head_dwords, channel = dword % head_dwords * 32;
      uint32_t* const at = &values[(static_cast<size_t>(head) * words + j / 32) * channels + channel];
      for (int i = 0; i < 32; ++i) at[i] |= (bits >> i & 1) << j % 32;
    }
  const Dwords queries = signs(frame, query, query_threshold, first, last);
  Ints scratch(attention.scratch());
  frame.kernels.attend(attention, queries.data(), keys.data(), values.data(), scratch.data(), out.values, out.step,
                       first, last);
}

}  // namespace bcdzoo
