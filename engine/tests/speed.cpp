// How fast is a binary layer with its whole epilogue (scale, normalization, shortcut, RPReLU, floats and bits written)?
// The share of the bare kernel's rate on one core, for the shapes that networks have; and real-valued ones beside a
// product's.
//   speed [instruction set]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "kernels.h"

using namespace bcdzoo;

namespace {

double now() {  // of this thread, so that others on the machine count less
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return time.tv_sec + 1e-9 * time.tv_nsec;
}

// The least time of several runs.
template <class Run>
double least(const Run& run) {
  run();
  const double start = now();
  run();
  const int times = std::max(1, static_cast<int>(4e-3 / std::max(now() - start, 1e-7)));
  double best = 1e9;
  for (int repeat = 0; repeat < 30; ++repeat) {
    const double begin = now();
    for (int i = 0; i < times; ++i) run();
    best = std::min(best, (now() - begin) / times);
  }
  return best;
}

template <class Spin>
double rate(const Spin& spin) {
  double best = 0;
  for (int i = 0; i < 40; ++i) {
    const double start = now(), done = spin();
    best = std::max(best, done / (now() - start));
  }
  return best;
}

Floats constants(int count, float first) {
  Floats all(count);
  for (int i = 0; i < count; ++i) all[i] = first + 0.01f * (i % 50);
  return all;
}

Windows square(int channels, int side, int kernel, int stride, int elements) {
  Windows windows;
  const int row = (side + kernel - 1) * elements, out = (side - 1) / stride + 1;
  static_cast<void>(channels);
  windows.length = kernel * elements;
  for (int y = 0; y < kernel; ++y) windows.run_at.push_back(y * row);
  for (int y = 0; y < out; ++y)
    for (int x = 0; x < out; ++x) windows.window_at.push_back(y * stride * row + x * stride * elements);
  return windows;
}

void binary(const Kernels& kernels, double peak, const char* what, int kernel, int channels, int side, int planes,
            int branches = 1) {
  BinaryConv conv;
  conv.c_out = channels;
  conv.windows = square(channels, side, kernel, 1, channels / 32);
  const int depth = conv.windows.runs() * conv.windows.length, pixels = side * side;
  const int dwords = (side + kernel - 1) * (side + kernel - 1) * channels / 32;
  if (kernel == 3 && planes == 1)
    for (int i = 0; i < pixels; ++i) {
      conv.first_run.push_back(i < side);
      conv.end_run.push_back(i < pixels - side ? 3 : 2);
    }
  conv.padding_popcounts.assign(kernel * channels, 0);
  conv.terms.resize(1);
  conv.terms[0].acc_init.assign(channels, depth * 32);
  conv.terms[0].scale = constants(channels, 0.001f);
  conv.terms[0].pairs.resize(planes * planes);
  for (int i = 0; i < planes * planes; ++i) {
    Pair& pair = conv.terms[0].pairs[i];
    pair.bits_at = int64_t{i % planes} * dwords;
    pair.shift = 1 + i % planes + i / planes;
    pair.panels = i / planes;
  }
  conv.panels.resize(planes);
  for (Dwords& plane : conv.panels) {
    plane.resize(static_cast<size_t>(channels) * depth);
    for (uint32_t& w : plane) w = static_cast<uint32_t>(rand());
  }
  Ints sampled(4 * pixels);
  for (int i = 0; i < 4 * pixels; ++i) sampled[i] = (i / 4 + i % 4 * 7) % pixels * depth + i % 4 * (depth / 4);
  for (int i = 1; i < branches; ++i) {
    conv.terms.push_back(conv.terms[0]);
    conv.terms.back().sampled_at = sampled.data();
  }
  conv.alpha = constants(channels, 0.5f);
  conv.beta = constants(channels, -0.2f);
  conv.shift_in = constants(channels, -0.1f);
  conv.slope = constants(channels, 0.1f);
  conv.shift_out = constants(channels, 0.0f);
  Dwords bits(static_cast<size_t>(planes) * dwords), written(static_cast<size_t>(pixels) * channels / 32);
  for (uint32_t& x : bits) x = static_cast<uint32_t>(rand());
  Floats map(static_cast<size_t>(pixels) * channels, 0.0f), threshold = constants(channels, 0.0f);
  Ints pixel_at(pixels);
  for (int i = 0; i < pixels; ++i) pixel_at[i] = i * channels / 32;
  BinaryMaps maps;
  maps.bits = bits.data();
  maps.out = map.data();
  maps.shortcut = map.data();
  maps.out_step = maps.shortcut_step = channels;
  maps.readers = {{written.data(), pixel_at.data(), threshold.data()}};
  const double time = least([&] { kernels.binary_conv(conv, maps, 0, pixels, 0, conv.panel_count()); });
  const double done = 32.0 * depth * channels * pixels * planes * planes * branches;
  std::printf("%-14s %4d  %3d^2  %7.0f us  %5.0f G/s  %3.0f %%\n", what, channels, side, time * 1e6, done / time * 1e-9,
              100 * done / time / peak);
}

void real(const Kernels& kernels, double peak, const char* what, int kernel, int in, int out, int side, int stride) {
  FloatConv conv;
  conv.c_out = out;
  conv.windows = square(in, side, kernel, stride, in);
  const int depth = kernel * kernel * in, pixels = static_cast<int>(conv.windows.window_at.size());
  conv.panels = constants(conv.padded_out() * depth, 0.1f);
  conv.alpha = constants(conv.padded_out(), 0.5f);
  conv.beta = constants(conv.padded_out(), -0.2f);
  const Floats map = constants((side + kernel) * (side + kernel) * in, 0.0f);
  Floats written(static_cast<size_t>(pixels) * conv.padded_out());
  const double time = least([&] {
    kernels.float_conv(conv, map.data(), written.data(), conv.padded_out(), 0, pixels, 0, conv.panel_count());
  });
  const double done = 1.0 * depth * out * pixels;
  std::printf("%-14s %4d  %3d^2  %7.0f us  %5.1f G/s  %3.0f %%\n", what, out, side, time * 1e6, done / time * 1e-9,
              100 * done / time / peak);
}

void linear(const Kernels& kernels, int columns, int rows) {
  const Floats weights = constants(columns * rows, 0.1f), x = constants(columns, 0.2f), bias = constants(rows, 0.0f);
  Floats out(rows);
  const double time =
      least([&] { kernels.linear(weights.data(), bias.data(), x.data(), columns, out.data(), 0, rows); });
  std::printf("linear %d -> %d  %.0f us  %.1f GB/s\n", columns, rows, time * 1e6, 4e-9 * columns * rows / time);
}

void depthwise(const Kernels& kernels, double peak, int channels, int side) {
  DepthwiseConv conv;
  conv.channels = channels;
  conv.windows.length = channels;
  for (int tap = 0; tap < 9; ++tap) conv.windows.run_at.push_back((tap / 3 * (side + 2) + tap % 3) * channels);
  for (int i = 0; i < side * side; ++i) conv.windows.window_at.push_back((i / side * (side + 2) + i % side) * channels);
  conv.weights = constants(9 * channels, 0.1f);
  const Floats map = constants((side + 2) * (side + 2) * channels, 0.0f);
  Floats out(static_cast<size_t>(side) * side * channels);
  const double time = least([&] { kernels.depthwise_conv(conv, map.data(), out.data(), channels, 0, side * side); });
  const double done = 9.0 * channels * side * side;
  std::printf("depthwise 3x3  %4d  %3d^2  %7.0f us  %5.1f G/s  %3.0f %%\n", channels, side, time * 1e6,
              done / time * 1e-9, 100 * done / time / peak);
}

}  // namespace

int main(int argc, char** argv) {
  for (const Kernels* kernels : all_kernels()) {
    if (argc > 1 && std::strcmp(argv[1], kernels->name) != 0) continue;
    const double peak = rate([&] { return kernels->spin(144, 4000); });
    std::printf("%s: %.0f G/s binary\n", kernels->name, peak * 1e-9);
    for (int channels = 64, side = 112; channels <= 1024; channels *= 2, side /= 2)
      binary(*kernels, peak, "1x1", 1, channels, side, 1);
    for (int channels = 64, side = 112; channels <= 1024; channels *= 2, side /= 2)
      binary(*kernels, peak, "3x3", 3, channels, side, 1);
    binary(*kernels, peak, "3x3 2x2 bits", 3, 128, 28, 2);
    binary(*kernels, peak, "1x1 2x2 bits", 1, 128, 28, 2);
    binary(*kernels, peak, "1x1 3 sampled", 1, 256, 28, 1, 3);
    binary(*kernels, peak, "1x1 3 sampled", 1, 512, 14, 1, 3);
    const double float_peak = rate([&] { return kernels->float_spin(512, 4000); });
    std::printf("%s: %.1f G/s real\n", kernels->name, float_peak * 1e-9);
    real(*kernels, float_peak, "7x7 of 3, /2", 7, 3, 64, 224, 2);
    real(*kernels, float_peak, "3x3 of 3, /2", 3, 3, 32, 224, 2);
    real(*kernels, float_peak, "1x1 of 64", 1, 64, 128, 28, 1);
    real(*kernels, float_peak, "1x1 of 256", 1, 256, 512, 7, 1);
    real(*kernels, float_peak, "1x1 of 512", 1, 512, 1024, 7, 1);
    depthwise(*kernels, float_peak, 64, 56);
    depthwise(*kernels, float_peak, 512, 14);
    linear(*kernels, 512, 1000);
    linear(*kernels, 1024, 1000);
  }
}
