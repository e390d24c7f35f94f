// A network's first layers, real-valued: convolutions with few channels, batch normalization, ReLU, and a max pooling.
// Maps lie in planes, one for each channel, with the padding of the layer that reads them: 16 pixels of a row are one
// vector, whatever the groups of the convolution are.
#pragma once

#include "unit.h"

namespace bcdzoo {

constexpr int kLanes = 16;
constexpr int kBlock = 8;  // output channels at once, all of one group

struct FloatLayer {
  int c_in = 0, c_out = 0, kernel = 1, stride = 1, padding = 0, groups = 1;
  bool relu = false;
  Floats weights;      // [groups][blocks][kernel * kernel][c_in / groups][kBlock]
  Floats alpha, beta;  // [c_out]

  int group_in() const { return c_in / groups; }
  int group_out() const { return c_out / groups; }
  int blocks() const { return ceil_div(group_out(), kBlock); }  // of a group
  int output(int size) const { return (size + 2 * padding - kernel) / stride + 1; }
};

struct Stem {
  std::vector<FloatLayer> layers;
  int pool_kernel = 1, pool_stride = 1, pool_padding = 0;  // max pooling behind them

  int pooled(int size) const { return (size + 2 * pool_padding - pool_kernel) / pool_stride + 1; }
};

// Planes of a map as the layer with this stride and padding reads it: columns of one remainder by the stride lie together.
struct Planes {
  int channels = 0, height = 0, width = 0;  // of the map
  int stride = 1, padding = 0;
  int rows = 0, columns = 0;  // of a plane: padding included, and room for whole vectors

  Planes(int channels, int height, int width, int stride, int padding, int kernel)
      : channels(channels), height(height), width(width), stride(stride), padding(padding), rows(height + 2 * padding),
        columns(round_up(ceil_div(width + 2 * padding, stride), kLanes) + kernel + kLanes) {}
  int64_t size() const { return int64_t{channels} * stride * rows * columns; }
  int64_t row(int channel, int remainder, int y) const {  // y with padding
    return ((int64_t{channel} * stride + remainder) * rows + y) * columns;
  }
};

// An image with any order of its dimensions.
struct Image {
  const float* values = nullptr;
  int64_t row = 0, column = 0, channel = 0;  // steps
};

struct StemKernels {
  // Rows [begin, end) of the image to planes.
  void (*load)(const Image&, const Planes&, float* planes, int begin, int end);
  // Rows [begin, end) of a layer's output, from planes to planes.
  void (*layer)(const FloatLayer&, const Planes& from, const float* in, const Planes& to, float* out, int begin, int end);
  // Rows [begin, end) of the pooled map, from planes (of no stride) to [pixels][channels].
  void (*pool)(const Stem&, const Planes&, const float* in, float* out, int begin, int end);
};

}  // namespace bcdzoo
