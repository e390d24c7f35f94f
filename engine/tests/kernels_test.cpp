// Every kernel of every instruction set that this processor has, against what kernels.h says, written down as plainly
// as can be: bit for bit, on random sizes. Prints a line for each failure.
#include "kernels.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string>

using namespace bcdzoo;

namespace {

uint64_t state = 1;
int failures = 0;

uint32_t random_bits() {
  state = state * 6364136223846793005u + 1442695040888963407u;
  const uint32_t x = static_cast<uint32_t>(state >> 32);
  return x ^ x >> 15;
}
int below(int end) { return static_cast<int>(random_bits() % static_cast<uint32_t>(end)); }
int between(int low, int high) { return low + below(high - low + 1); }
bool maybe() { return random_bits() >> 16 & 1; }

// Floats of some length; with `wild` ones among them where sums and comparisons are most easily wrong.
float random_float(bool wild) {
  static const float kWild[] = {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e-42f, 1.0f, -1.0f};
  if (wild && below(16) == 0) return kWild[below(8)];
  return (static_cast<float>(random_bits() >> 8) / (1 << 23) - 1.0f) * (maybe() ? 1.0f : 3.7f);
}
Floats random_floats(int64_t count, bool wild = false) {
  Floats all(static_cast<size_t>(count));
  for (float& x : all) x = random_float(wild);
  return all;
}
Floats perhaps(int count) { return maybe() ? random_floats(count, below(4) == 0) : Floats(); }
Dwords random_dwords(int64_t count) {
  Dwords all(static_cast<size_t>(count));
  for (uint32_t& x : all) x = random_bits();
  return all;
}
int random_channels() {
  static const int kChannels[] = {1, 3, 15, 16, 17, 31, 32, 33, 47, 48, 49, 63, 64, 65, 96, 100, 128, 160};
  return below(40) == 0 ? 512 : kChannels[below(18)];
}

bool same(float a, float b) {
  if (a != a || b != b) return a != a && b != b;
  return std::memcmp(&a, &b, sizeof(a)) == 0;
}

void fail(const char* set, const char* what, const std::string& where) {
  if (++failures <= 50) std::printf("%s: %s: %s\n", set, what, where.c_str());
}

std::string text(const char* format, int a, int b, double x, double y) {
  char line[200];
  std::snprintf(line, sizeof(line), format, a, b, x, y);
  return line;
}

// Compares maps of `pixels` times `step`: `truth` in pixels [begin, end) of channels [first, last), and everywhere else
// what was there before. Behind the channels, whole vectors may be written.
void compare(const char* set, const char* what, const Floats& got, const Floats& truth, const Floats& before,
             int pixels, int64_t step, int begin, int end, int first, int last, int channels) {
  for (int pixel = 0; pixel < pixels; ++pixel)
    for (int c = 0; c < step; ++c) {
      const int64_t i = pixel * step + c;
      const bool written = pixel >= begin && pixel < end && c >= first && c < last;
      const float right = written && c < channels ? truth[i] : before[i];
      if (written && c >= channels && c < round_up(channels, kLanes)) continue;
      if (!same(got[i], right))
        return fail(set, what, text("pixel %d, channel %d: %.9g, not %.9g", pixel, c, got[i], right));
    }
}

void compare_bits(const char* set, const char* what, const Dwords& got, const Dwords& truth) {
  for (size_t i = 0; i < got.size(); ++i)
    if (got[i] != truth[i])
      return fail(set, what, text("dword %d of %d: %.0f, not %.0f", int(i), int(got.size()), got[i], truth[i]));
}

// Places of `pixels` outputs in a map of bits, none of which is another's.
Ints places(int pixels, int dwords) {
  Ints at(pixels);
  for (int i = 0; i < pixels; ++i) at[i] = (i + 1) * (dwords + 1);
  for (int i = pixels - 1; i > 0; --i) std::swap(at[i], at[below(i + 1)]);
  return at;
}

Windows random_windows(int pixels, int runs, int length, int room) {
  Windows windows;
  windows.length = length;
  for (int i = 0; i < runs; ++i) windows.run_at.push_back(below(room));
  for (int i = 0; i < pixels; ++i) windows.window_at.push_back(below(room));
  return windows;
}

// ---- convolutions of bits

struct BinaryCase {
  BinaryConv conv;
  BinaryMaps maps;
  int pixels, begin, end, first, last;
  Dwords bits;
  Floats shortcut, gate, offset, before;
  bool in_place = false, writes = true;
  Ints sampled;
  std::vector<Ints> pixel_at;
  std::vector<Floats> thresholds;
  std::vector<Dwords> written;
};

void random_binary(BinaryCase& c) {
  BinaryConv& conv = c.conv;
  conv.c_out = random_channels();
  c.pixels = between(1, 21);
  const int kind = below(4);  // one sum, branches, pairs, bases
  static const int kLengths[] = {1, 2, 3, 4, 8, 12, 16, 31, 32, 33, 40};
  const int runs = kind == 1 ? 1 : between(1, 3), length = kind == 1 ? 4 * between(1, 10) : kLengths[below(11)];
  const int room = 200, depth = runs * length, padded = conv.padded_out();
  conv.windows = random_windows(c.pixels, runs, length, room);
  const int planes = kind >= 2 ? between(1, 3) : 1;
  c.bits = random_dwords(planes * (2 * room + length));
  const bool extreme = below(8) == 0;  // all bits differ
  if (extreme) std::fill(c.bits.begin(), c.bits.end(), maybe() ? ~0u : 0u);
  for (int i = 0; i < 4 * c.pixels; ++i) c.sampled.push_back(below(room));
  const int classes = maybe() ? between(1, 9) : 1;
  if (classes > 1)
    for (int i = 0; i < c.pixels; ++i) conv.classes.push_back(static_cast<uint16_t>(below(classes)));
  const int bases = kind == 3 ? between(1, 3) : 1;
  for (int i = 0; kind == 3 && i < bases; ++i) conv.factors.push_back(random_float(false));
  conv.terms.resize(bases * (kind == 1 || kind == 3 ? between(1, 3) : 1));
  for (Term& term : conv.terms) {
    if (kind == 1 && maybe()) term.sampled_at = c.sampled.data();
    term.pairs.resize(kind >= 2 ? between(1, 4) : 1);
    for (Pair& pair : term.pairs) {
      pair.bits_at = int64_t{below(planes)} * (2 * room + length);
      pair.shift = kind >= 2 ? between(0, 4) : 1;
      if (conv.panels.empty() || maybe()) {  // or of a plane that another pair has, too
        conv.panels.push_back(random_dwords(int64_t{padded} * depth));
        if (extreme) std::fill(conv.panels.back().begin(), conv.panels.back().end(), ~c.bits[0]);
      }
      pair.panels = below(static_cast<int>(conv.panels.size()));
    }
    for (int i = 0; i < classes * padded; ++i) term.acc_init.push_back(between(-2000, 4000));
    term.scale = random_floats(padded);
    for (float& scale : term.scale)
      if (below(8) == 0) scale = maybe() ? 0.0f : -0.0f;
  }
  if (kind == 0 && maybe())
    for (int i = 0; i < c.pixels; ++i) {
      conv.first_run.push_back(static_cast<uint8_t>(below(3) == 0 ? below(runs) : 0));
      conv.end_run.push_back(static_cast<uint8_t>(below(3) == 0 ? between(conv.first_run[i] + 1, runs) : runs));
    }
  for (int i = 0; i < runs * padded; ++i) conv.padding_popcounts.push_back(below(32 * length));
  conv.inner_slope = perhaps(padded);
  conv.alpha = perhaps(padded);
  conv.beta = perhaps(padded);
  conv.shift_in = perhaps(padded);
  conv.slope = perhaps(padded);
  conv.shift_out = perhaps(padded);
  conv.activation_first = maybe();
  if (below(3) == 0) conv.limit = 3.0f;

  BinaryMaps& maps = c.maps;
  maps.bits = c.bits.data();
  maps.out_step = round_up(conv.c_out, kLanes) + kLanes * below(3);
  c.before = random_floats(c.pixels * maps.out_step, true);
  c.writes = below(5) != 0;
  if (maybe()) {
    c.in_place = c.writes && maybe();
    maps.shortcut_step = c.in_place ? maps.out_step : round_up(conv.c_out, kLanes) + kLanes * below(2);
    if (!c.in_place && conv.c_out % kPanel == 0 && maybe()) {
      maps.shortcut_channels = kPanel * between(1, conv.panel_count());
      maps.shortcut_step = maps.shortcut_channels + kLanes * below(2);
    }
    c.shortcut = random_floats(c.pixels * maps.shortcut_step, maybe());
  }
  if (maybe()) c.gate = random_floats(padded);
  if (maybe()) c.offset = random_floats(padded);
  maps.gate = c.gate.empty() ? nullptr : c.gate.data();
  maps.offset = c.offset.empty() ? nullptr : c.offset.data();
  const int readers = c.writes ? below(3) : between(1, 2);
  for (int i = 0; i < readers; ++i) {
    c.pixel_at.push_back(places(c.pixels, conv.panel_count()));
    c.thresholds.push_back(random_floats(padded, true));
    for (int channel = conv.c_out; channel < padded; ++channel) c.thresholds.back()[channel] = INFINITY;
    c.written.push_back(random_dwords((c.pixels + 1) * (conv.panel_count() + 1) + conv.panel_count()));
  }
  c.begin = below(c.pixels);
  c.end = between(c.begin, c.pixels);
  c.first = below(conv.panel_count());
  c.last = between(c.first, conv.panel_count());
}

float plain_prelu(float v, float slope) { return v > 0 ? v : v * slope; }

float plain_binary(const BinaryCase& c, int pixel, int channel, const Floats& out) {
  const BinaryConv& conv = c.conv;
  const Windows& windows = conv.windows;
  const int depth = windows.runs() * windows.length, panel = channel / kPanel;
  const size_t bases = conv.factors.empty() ? 1 : conv.factors.size(), each = conv.terms.size() / bases;
  float v = 0;
  for (size_t basis = 0; basis < bases; ++basis) {
    float part = 0;
    for (size_t t = 0; t < each; ++t) {
      const Term& term = conv.terms[basis * each + t];
      int32_t sum = term.acc_init[(conv.classes.empty() ? 0 : conv.classes[pixel]) * conv.padded_out() + channel];
      for (const Pair& pair : term.pairs) {
        int32_t ones = 0;
        for (int i = 0; i < depth; ++i) {
          const int number = i / windows.length;
          if (!conv.first_run.empty() && (number < conv.first_run[pixel] || number >= conv.end_run[pixel])) {
            if (i % windows.length == 0) ones += conv.padding_popcounts[number * conv.padded_out() + channel];
            continue;
          }
          const uint32_t* run =
              term.sampled_at ? c.bits.data() + term.sampled_at[4 * pixel + i / (depth / 4)] + i % (depth / 4)
                              : c.bits.data() + windows.window_at[pixel] + windows.run_at[number] + i % windows.length;
          ones += __builtin_popcount(
              run[pair.bits_at] ^ conv.panels[pair.panels][(int64_t{panel} * depth + i) * kPanel + channel % kPanel]);
        }
        sum -= ones << pair.shift;
      }
      const float scaled = static_cast<float>(sum) * term.scale[channel];
      part = t == 0 ? scaled : part + scaled;
    }
    if (!conv.factors.empty()) part = part * conv.factors[basis];
    v = basis == 0 ? part : v + part;
  }
  if (c.maps.gate) v = v * c.gate[channel];
  if (c.maps.offset) v = v + c.offset[channel];
  if (!conv.inner_slope.empty()) v = plain_prelu(v, conv.inner_slope[channel]);
  if (!conv.alpha.empty() || !conv.beta.empty())
    v = std::fmaf(v, conv.alpha.empty() ? 1.0f : conv.alpha[channel], conv.beta.empty() ? -0.0f : conv.beta[channel]);
  float shortcut = 0;
  const int from = c.maps.shortcut_channels ? channel % c.maps.shortcut_channels : channel;
  const bool adds = c.in_place || !c.shortcut.empty();
  if (adds)
    shortcut = c.in_place ? out[pixel * c.maps.out_step + channel] : c.shortcut[pixel * c.maps.shortcut_step + from];
  if (adds && !conv.activation_first) v = v + shortcut;
  if (!conv.shift_in.empty()) v = v + conv.shift_in[channel];
  if (!conv.slope.empty()) v = plain_prelu(v, conv.slope[channel]);
  if (!conv.shift_out.empty()) v = v + conv.shift_out[channel];
  if (adds && conv.activation_first) v = v + shortcut;
  return v > conv.limit ? conv.limit : v < -conv.limit ? -conv.limit : v;
}

void convolutions_of_bits(const char* what) {
  for (int number = 0; number < 1200; ++number) {
    BinaryCase c;
    random_binary(c);
    const BinaryConv& conv = c.conv;
    Floats truth = c.before;
    std::vector<Dwords> bits = c.written;
    const int first = c.first * kPanel, last = std::min(c.last * kPanel, conv.c_out);
    for (int pixel = c.begin; pixel < c.end; ++pixel) {
      for (int channel = first; channel < last; ++channel)
        truth[pixel * c.maps.out_step + channel] = plain_binary(c, pixel, channel, c.before);
      for (size_t r = 0; r < bits.size(); ++r)
        for (int panel = c.first; panel < c.last; ++panel) {
          uint32_t dword = 0;
          for (int channel = panel * kPanel; channel < std::min(panel * kPanel + kPanel, conv.c_out); ++channel)
            dword |= uint32_t{truth[pixel * c.maps.out_step + channel] >= c.thresholds[r][channel]} << channel % kPanel;
          bits[r][c.pixel_at[r][pixel] + panel] = dword;
        }
    }
    for (const Kernels* kernels : all_kernels()) {
      Floats out = c.before;
      std::vector<Dwords> written = c.written;
      BinaryMaps maps = c.maps;
      maps.out = c.writes ? out.data() : nullptr;
      maps.shortcut = c.in_place ? out.data() : c.shortcut.empty() ? nullptr : c.shortcut.data();
      for (size_t r = 0; r < written.size(); ++r)
        maps.readers.push_back({written[r].data(), c.pixel_at[r].data(), c.thresholds[r].data()});
      kernels->binary_conv(conv, maps, c.begin, c.end, c.first, c.last);
      const std::string name = text(" (case %d, %d channels)", number, conv.c_out, 0, 0);
      compare(kernels->name, (what + name).c_str(), out, c.writes ? truth : c.before, c.before, c.pixels,
              c.maps.out_step, c.begin, c.writes ? c.end : c.begin, first, c.last * kPanel, conv.c_out);
      for (size_t r = 0; r < written.size(); ++r)
        compare_bits(kernels->name, (what + name).c_str(), written[r], bits[r]);
    }
  }
}

// ---- bits of floats

void bits_of_floats(const char* what) {
  for (int number = 0; number < 400; ++number) {
    const int channels = random_channels(), dwords = ceil_div(channels, 32), pixels = between(1, 9);
    const int64_t step = round_up(channels, kLanes) + kLanes * below(2);
    const Floats x = random_floats(pixels * step, true);
    Floats threshold = random_floats(dwords * 32, true);
    Dwords falls = random_dwords(dwords);
    for (int c = channels; c < dwords * 32; ++c) {
      threshold[c] = INFINITY;
      falls[c / 32] &= ~(1u << c % 32);
    }
    const bool with_falls = maybe();
    const Ints at = places(pixels, dwords);
    const Dwords before = random_dwords((pixels + 1) * (dwords + 1) + dwords);
    const int begin = below(pixels), end = between(begin, pixels);
    Dwords truth = before;
    for (int pixel = begin; pixel < end; ++pixel)
      for (int first = 0; first < channels; first += 32) {
        uint32_t dword = 0;
        for (int c = first; c < std::min(first + 32, channels); ++c)
          dword |= (uint32_t{x[pixel * step + c] >= threshold[c]} ^ (with_falls ? falls[c / 32] >> c % 32 & 1 : 0))
                   << c % 32;
        truth[at[pixel] + first / 32] = dword;
      }
    for (const Kernels* kernels : all_kernels()) {
      Dwords got = before;
      kernels->binarize(x.data(), step, channels, threshold.data(), with_falls ? falls.data() : nullptr, got.data(),
                        at.data(), begin, end);
      compare_bits(kernels->name, what, got, truth);
    }
  }
}

void planes_of_levels(const char* what) {
  for (int number = 0; number < 400; ++number) {
    const int channels = random_channels(), dwords = ceil_div(channels, 32), pixels = between(1, 9);
    const int64_t step = round_up(channels, kLanes) + kLanes * below(2);
    LevelBits levels;
    levels.planes = between(1, 8);
    levels.quantizes = maybe();
    levels.divides = maybe();
    levels.low = maybe() ? 0.0f : -1.0f;
    levels.high = 1.0f;
    const float most = static_cast<float>((1 << levels.planes) - 1);
    levels.step = most / (levels.high - levels.low);
    if (levels.divides) levels.step = 1 / levels.step;
    levels.offset = levels.low < 0 ? static_cast<float>(1 << (levels.planes - 1)) : 0.0f;
    Floats x = random_floats(pixels * step, levels.quantizes);
    if (!levels.quantizes)
      for (float& one : x) one = static_cast<float>(below(1 << levels.planes)) - levels.offset;
    const Ints at = places(pixels, dwords);
    const int64_t plane_step = (pixels + 1) * (dwords + 1) + dwords;
    const Dwords before = random_dwords(plane_step * levels.planes);
    const int begin = below(pixels), end = between(begin, pixels);
    Dwords truth = before;
    for (int pixel = begin; pixel < end; ++pixel)
      for (int c = 0; c < channels; ++c) {
        float level = x[pixel * step + c];
        if (levels.quantizes) {
          level = level < levels.low ? levels.low : level > levels.high ? levels.high : level;
          level = std::nearbyint(levels.divides ? level / levels.step : level * levels.step);
        }
        level = level + levels.offset;
        const int32_t whole = level != level ? 0 : static_cast<int32_t>(level);
        for (int plane = 0; plane < levels.planes; ++plane) {
          uint32_t& dword = truth[plane * plane_step + at[pixel] + c / 32];
          if (c % 32 == 0) dword = 0;
          dword |= uint32_t(whole >> plane & 1) << c % 32;
        }
      }
    for (const Kernels* kernels : all_kernels()) {
      Dwords got = before;
      kernels->level_bits(levels, x.data(), step, channels, got.data(), plane_step, at.data(), begin, end);
      compare_bits(kernels->name, what, got, truth);
    }
  }
}

// ---- real-valued convolutions and products

template <class Conv>
float affine(const Conv& conv, float v, int channel) {
  if (!conv.bias.empty()) v = v + conv.bias[channel];
  if (!conv.alpha.empty() || !conv.beta.empty())
    v = std::fmaf(v, conv.alpha.empty() ? 1.0f : conv.alpha[channel], conv.beta.empty() ? -0.0f : conv.beta[channel]);
  return conv.relu && v < 0 ? 0.0f : v;
}

void real_convolutions(const char* what) {
  for (int number = 0; number < 400; ++number) {
    FloatConv conv;
    conv.c_out = random_channels();
    const int pixels = between(1, 40), room = 200, padded = conv.padded_out();
    static const int kLengths[] = {1, 3, 9, 16, 21, 32, 64};
    const bool groups = below(4) == 0;
    conv.windows = random_windows(pixels, between(1, 7), kLengths[below(7)], room);
    const int length = conv.windows.length, depth = conv.windows.runs() * length;
    const Floats in = random_floats(3 * room + length, below(8) == 0);
    if (groups)
      for (int i = 0; i < conv.panel_count(); ++i) conv.panel_at.push_back(below(room));
    conv.panels = random_floats(int64_t{padded} * depth);
    conv.bias = perhaps(padded);
    conv.alpha = perhaps(padded);
    conv.beta = perhaps(padded);
    conv.relu = maybe();
    const int begin = below(pixels), end = between(begin, pixels), first = below(conv.panel_count());
    const int last = between(first, conv.panel_count());
    const int64_t step = round_up(conv.c_out, kLanes) + kLanes * below(3);
    const Floats before = random_floats(pixels * step);
    Floats truth = before;
    for (int pixel = begin; pixel < end; ++pixel)
      for (int c = first * kPanel; c < std::min(last * kPanel, conv.c_out); ++c) {
        float v = 0;
        for (int i = 0; i < depth; ++i)
          v = std::fmaf(in[conv.windows.window_at[pixel] + conv.windows.run_at[i / length] +
                           (groups ? conv.panel_at[c / kPanel] : 0) + i % length],
                        conv.panels[(int64_t{c / kPanel} * depth + i) * kPanel + c % kPanel], v);
        truth[pixel * step + c] = affine(conv, v, c);
      }
    for (const Kernels* kernels : all_kernels()) {
      Floats got = before;
      kernels->float_conv(conv, in.data(), got.data(), step, begin, end, first, last);
      compare(kernels->name, what, got, truth, before, pixels, step, begin, end, first * kPanel, last * kPanel,
              conv.c_out);
    }
  }
}

void depthwise_convolutions(const char* what) {
  for (int number = 0; number < 300; ++number) {
    DepthwiseConv conv;
    conv.channels = random_channels();
    const int pixels = between(1, 9), room = 300, padded = round_up(conv.channels, kLanes);
    conv.windows = random_windows(pixels, between(1, 25), conv.channels, room);
    const Floats in = random_floats(2 * room + padded, below(8) == 0);
    conv.weights = random_floats(conv.windows.runs() * padded);
    conv.bias = perhaps(padded);
    conv.alpha = perhaps(padded);
    conv.beta = perhaps(padded);
    conv.relu = maybe();
    const int begin = below(pixels), end = between(begin, pixels);
    const int64_t step = padded + kLanes * below(3);
    const Floats before = random_floats(pixels * step);
    Floats truth = before;
    for (int pixel = begin; pixel < end; ++pixel)
      for (int c = 0; c < conv.channels; ++c) {
        float v = 0;
        for (int tap = 0; tap < conv.windows.runs(); ++tap)
          v = std::fmaf(in[conv.windows.window_at[pixel] + conv.windows.run_at[tap] + c],
                        conv.weights[tap * padded + c], v);
        truth[pixel * step + c] = affine(conv, v, c);
      }
    for (const Kernels* kernels : all_kernels()) {
      Floats got = before;
      kernels->depthwise_conv(conv, in.data(), got.data(), step, begin, end);
      compare(kernels->name, what, got, truth, before, pixels, step, begin, end, 0, static_cast<int>(step),
              conv.channels);
    }
  }
}

void products_with_a_vector(const char* what) {
  for (int number = 0; number < 300; ++number) {
    const int columns = between(1, 100), rows = between(1, 12), begin = below(rows), end = between(begin, rows);
    const Floats weights = random_floats(rows * columns), x = random_floats(columns), bias = perhaps(rows),
                 before = random_floats(rows);
    Floats truth = before;
    for (int row = begin; row < end; ++row) {
      float sums[kLanes] = {};
      for (int i = 0; i < columns; ++i)
        sums[i % kLanes] = std::fmaf(weights[row * columns + i], x[i], sums[i % kLanes]);
      for (int half = kLanes / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) sums[i] = sums[i] + sums[i + half];
      truth[row] = bias.empty() ? sums[0] : sums[0] + bias[row];
    }
    for (const Kernels* kernels : all_kernels()) {
      Floats got = before;
      kernels->linear(weights.data(), bias.empty() ? nullptr : bias.data(), x.data(), columns, got.data(), begin, end);
      compare(kernels->name, what, got, truth, before, rows, 1, begin, end, 0, 1, 1);
    }
  }
}

// ---- poolings, steps, sums

void poolings(const char* what) {
  for (int number = 0; number < 400; ++number) {
    Pooling p;
    p.is_max = maybe();
    p.count_padding = maybe();
    int out[2], size[2];
    for (int axis = 0; axis < 2; ++axis) {
      p.kernel[axis] = between(1, 3);
      p.stride[axis] = between(1, 2);
      p.padding[axis] = below(p.kernel[axis] / 2 + 1);
      size[axis] = between(p.kernel[axis], 7);
      const int left = size[axis] + 2 * p.padding[axis] - p.kernel[axis];
      out[axis] = left / p.stride[axis] + 1;
      if (maybe() && left % p.stride[axis] != 0 && out[axis] * p.stride[axis] < size[axis] + p.padding[axis])
        ++out[axis];
    }
    p.height = size[0], p.width = size[1], p.out_height = out[0], p.out_width = out[1];
    const int channels = random_channels(), pixels = out[0] * out[1], begin = below(pixels),
              end = between(begin, pixels);
    const int64_t in_step = round_up(channels, kLanes) + kLanes * below(2),
                  step = round_up(channels, kLanes) + kLanes * below(2);
    const Floats in = random_floats(size[0] * size[1] * in_step, maybe()), before = random_floats(pixels * step);
    Floats truth = before;
    for (int pixel = begin; pixel < end; ++pixel)
      for (int c = 0; c < channels; ++c) {
        float v = p.is_max ? -INFINITY : 0.0f;
        int count = 0;
        for (int ky = 0; ky < p.kernel[0]; ++ky)
          for (int kx = 0; kx < p.kernel[1]; ++kx) {
            const int y = pixel / out[1] * p.stride[0] - p.padding[0] + ky,
                      x = pixel % out[1] * p.stride[1] - p.padding[1] + kx;
            const bool inside = y >= 0 && y < size[0] && x >= 0 && x < size[1];
            count += inside || (p.count_padding && y < size[0] + p.padding[0] && x < size[1] + p.padding[1]);
            if (!inside) continue;
            const float value = in[(y * size[1] + x) * in_step + c];
            if (!p.is_max)
              v = v + value;
            else if (value > v || value != value)
              v = value;
          }
        truth[pixel * step + c] = p.is_max ? v : v / static_cast<float>(count);
      }
    for (const Kernels* kernels : all_kernels()) {
      Floats got = before;
      kernels->pool(p, 0, in.data(), in_step, got.data(), step, channels, begin, end);
      compare(kernels->name, what, got, truth, before, pixels, step, begin, end, 0, static_cast<int>(step), channels);
    }
  }
}

float plain_step(const Pointwise& step, float x, float other, int c) {
  switch (step.kind) {
    case Pointwise::Kind::kScaleShift:
      return std::fmaf(x, step.alpha[c], step.beta[c]);
    case Pointwise::Kind::kPrelu:
      if (!step.shift_in.empty()) x = x + step.shift_in[c];
      x = x > 0 ? (step.positive.empty() ? x : x * step.positive[c]) : x * step.slope[c];
      return step.shift_out.empty() ? x : x + step.shift_out[c];
    case Pointwise::Kind::kClip:
      x = x < step.low ? step.low : x;
      return x > step.high ? step.high : x;
    case Pointwise::Kind::kAbs:
      return std::fabs(x);
    case Pointwise::Kind::kSign:
      return x > 0 ? 1.0f : x < 0 ? -1.0f : 0.0f;
    case Pointwise::Kind::kStep:
      return x >= step.alpha[c] ? step.beta[c] : -step.beta[c];
    case Pointwise::Kind::kAdd:
      return x + other;
    case Pointwise::Kind::kSubtract:
      return x - other;
    case Pointwise::Kind::kMultiply:
      return x * other;
  }
  return NAN;
}

void steps_of_numbers(const char* what) {
  for (int number = 0; number < 600; ++number) {
    const int channels = random_channels(), padded = round_up(channels, kLanes), pixels = between(1, 9),
              begin = below(pixels);
    const int end = between(begin, pixels);
    Pointwise step;
    step.kind = static_cast<Pointwise::Kind>(number % 9);
    step.alpha = random_floats(padded);
    step.beta = random_floats(padded);
    step.shift_in = perhaps(padded);
    step.positive = perhaps(padded);
    step.slope = random_floats(padded);
    step.shift_out = perhaps(padded);
    if (maybe()) step.low = -0.5f;
    if (maybe()) step.high = maybe() ? 0.7f : -0.8f;
    const bool in_place = maybe(), single = maybe(), one = maybe();
    const int64_t x_step = padded + kLanes * below(2), out_step = in_place ? x_step : padded + kLanes * below(2);
    Floats x = random_floats(pixels * x_step, true);
    const int64_t other_step = one ? 0 : single ? 1 : padded;
    const Floats other = random_floats(pixels * padded, true);
    if (number % 18 == 0)  // products half-way between two floats, and hardly more or less
      for (int c = 0; c < padded; ++c) {
        step.alpha[c] = 1.0f + std::ldexp(1.0f + 2.0f * below(8), -12);
        step.beta[c] = maybe() ? std::ldexp(maybe() ? 1.0f : -1.0f, -between(30, 140)) : -0.0f;
        for (int pixel = 0; pixel < pixels; ++pixel)
          x[pixel * x_step + c] =
              std::ldexp(1.0f + std::ldexp(1.0f + 2.0f * below(8), -12), maybe() ? 0 : -between(120, 140));
      }
    const Floats before = in_place ? x : random_floats(pixels * out_step);
    Floats truth = before;
    for (int pixel = begin; pixel < end; ++pixel)
      for (int c = 0; c < channels; ++c)
        truth[pixel * out_step + c] =
            plain_step(step, x[pixel * x_step + c], other[pixel * other_step + (single ? 0 : c)], c);
    for (const Kernels* kernels : all_kernels()) {
      Floats got = before;
      kernels->pointwise(step, in_place ? got.data() : x.data(), x_step, {other.data(), other_step, single}, got.data(),
                         out_step, channels, begin, end);
      compare(kernels->name, what, got, truth, before, pixels, out_step, begin, end, 0, static_cast<int>(out_step),
              channels);
    }
  }
}

void sums_of_channels(const char* what) {
  for (int number = 0; number < 200; ++number) {
    const int channels = random_channels(), pixels = between(1, 30), begin = below(pixels),
              end = between(begin, pixels);
    const int64_t step = round_up(channels, kLanes);
    const Floats x = random_floats(pixels * step);
    std::vector<double> before(channels);
    for (double& one : before) one = random_float(false);
    std::vector<double> truth = before;
    for (int c = 0; c < channels; ++c)
      for (int pixel = begin; pixel < end; ++pixel) truth[c] += static_cast<double>(x[pixel * step + c]);
    for (const Kernels* kernels : all_kernels()) {
      std::vector<double> got = before;
      kernels->sum(x.data(), step, channels, got.data(), begin, end);
      if (got != truth) fail(kernels->name, what, text("%d channels, %d pixels", channels, end - begin, 0, 0));
    }
  }
}

// Of signs that are numbers again: what the definition says, without bits.
void attention_of_bits(const char* what) {
  for (int number = 0; number < 150; ++number) {
    Attention attention;
    attention.heads = between(1, 3);
    attention.head_dwords = between(1, 3);
    attention.keys = between(1, 80);
    attention.level = maybe() ? 0.01f : 0.3f;
    const int channels = 32 * attention.head_dwords, pixels = between(1, 9), words = attention.key_dwords();
    for (int i = 0; i <= channels; ++i) attention.exps.push_back(std::exp(-i / 4.0));
    const int64_t step = attention.heads * channels + kLanes * below(2);
    const int begin = below(pixels), end = between(begin, pixels);
    const Dwords queries = random_dwords((end - begin) * attention.dwords());
    const Dwords keys = random_dwords(attention.dwords() * attention.keys);
    Dwords values = random_dwords(attention.heads * words * channels);
    for (int i = 0; i < static_cast<int>(values.size()); ++i)
      if (i / channels % words == words - 1 && attention.keys % 32) values[i] &= (1u << attention.keys % 32) - 1;
    const Floats before = random_floats(pixels * step);
    Floats truth = before;
    for (int pixel = begin; pixel < end; ++pixel)
      for (int head = 0; head < attention.heads; ++head) {
        std::vector<int> differing(attention.keys);
        for (int j = 0; j < attention.keys; ++j)
          for (int c = 0; c < channels; ++c)
            differing[j] +=
                (queries[((pixel - begin) * attention.heads + head) * attention.head_dwords + c / 32] >> c % 32 & 1) !=
                (keys[(head * attention.head_dwords + c / 32) * attention.keys + j] >> c % 32 & 1);
        const int least = *std::min_element(differing.begin(), differing.end());
        std::vector<int> sorted = differing;
        std::sort(sorted.begin(), sorted.end());
        double all = 0;
        for (size_t i = 0; i < sorted.size(); i += std::count(sorted.begin(), sorted.end(), sorted[i]))
          all += static_cast<double>(std::count(sorted.begin(), sorted.end(), sorted[i])) *
                 attention.exps[sorted[i] - least];
        for (int c = 0; c < channels; ++c) {
          int sum = 0;
          for (int j = 0; j < attention.keys; ++j)
            if (static_cast<float>(attention.exps[differing[j] - least] / all) / attention.level > 0.5f)
              sum += values[(head * words + j / 32) * channels + c] >> j % 32 & 1 ? 1 : -1;
          truth[pixel * step + head * channels + c] = static_cast<float>(sum) * attention.level;
        }
      }
    for (const Kernels* kernels : all_kernels()) {
      Floats got = before;
      Ints scratch(attention.scratch());
      kernels->attend(attention, queries.data(), keys.data(), values.data(), scratch.data(), got.data(), step, begin,
                      end);
      compare(kernels->name, what, got, truth, before, pixels, step, begin, end, 0, static_cast<int>(step),
              attention.heads * channels);
    }
  }
}

void bare_rates(const char* what) {
  for (const Kernels* kernels : all_kernels())
    if (!(kernels->spin(9, 3) > 0 && kernels->float_spin(9, 3) > 0)) fail(kernels->name, what, "no work");
}

}  // namespace

int main() {
  convolutions_of_bits("a convolution of bits gives what its definition says");
  bits_of_floats("bits of floats are 1 from the threshold on");
  planes_of_levels("planes of bits are those of the levels");
  real_convolutions("a real-valued convolution rounds as its definition says");
  depthwise_convolutions("a depth-wise convolution rounds as its definition says");
  products_with_a_vector("a product with a vector rounds as its definition says");
  poolings("a pooling gives what its definition says");
  steps_of_numbers("a step of each number gives what its definition says");
  sums_of_channels("sums of channels are those of double precision");
  attention_of_bits("attention of bits gives what its definition says");
  bare_rates("the bare kernels do some work");
  for (const Kernels* kernels : all_kernels()) std::printf("%s ", kernels->name);
  std::printf("%s\n", failures ? "failed" : "passed");
  return failures != 0;
}
