#include "binary_tasks.h"

#include <algorithm>
#include <utility>

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
  if (gate.slot) maps.gate = frame.map(gate).values;
  if (offset.slot) maps.offset = frame.map(offset).values;
  for (const Reader& reader : readers)
    maps.readers.push_back({frame.at<uint32_t>(*reader.to->slot) + reader.first_dword, reader.to->pixel_at.data(),
                            reader.threshold.data()});
  constexpr int kFewest = 64;  // pixels of a part; of fewer the panels are shared
  const int first_pixel = begin * out_columns, last_pixel = end * out_columns;
  if (part.count > 1 && (last_pixel - first_pixel) / part.count < kFewest && conv.panel_count() >= part.count) {
    convolve(frame.kernels, std::move(maps), {first_pixel, last_pixel}, part.of(0, conv.panel_count()));
  } else {
    convolve(frame.kernels, std::move(maps), part.of(first_pixel, last_pixel), {0, conv.panel_count()});
  }
}

// The panels of each group read the bits of their own.
void UnitTask::convolve(const Kernels& kernels, BinaryMaps maps, std::pair<int, int> pixels,
                        std::pair<int, int> panels) const {
  const uint32_t* const all = maps.bits;
  const int each = conv.panel_count() / groups;
  for (int group = panels.first / each; group * each < panels.second; ++group) {
    maps.bits = all + group * (bits->dwords / groups);
    kernels.binary_conv(conv, maps, pixels.first, pixels.second, std::max(panels.first, group * each),
                        std::min(panels.second, (group + 1) * each));
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

}  // namespace bcdzoo
