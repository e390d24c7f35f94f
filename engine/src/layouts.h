// How constants and places are laid out for the kernels: free functions of an operation's numbers. They know of no
// task.
#pragma once

#include "kernels.h"
#include "plan.h"

namespace bcdzoo {

// A constant of each channel from `first` on, padded with `rest`; a single number is for all channels.
Floats filled(const Constant& constant, int first, int count, int padded, float rest);
// The same of a constant by its name; empty if there is none.
Floats constants_of(const Operation& operation, const char* name, int count, int padded, float rest = 0.0f);

// Height and width of what slides over a map.
struct Sliding {
  int kernel[2], stride[2], dilation[2], out[2], before[2], behind[2];

  Sliding(const Operation& operation, const Shape& shape, int kernel_height, int kernel_width);
  int extent(int axis) const { return (kernel[axis] - 1) * dilation[axis] + 1; }
  bool is_padded() const { return before[0] || before[1] || behind[0] || behind[1]; }
  int taps() const { return kernel[0] * kernel[1]; }
  int64_t pixels() const { return int64_t{out[0]} * out[1]; }

  // Windows in a map of so many columns, of `step` elements a pixel, of which `length` are read.
  Windows windows(int columns, int64_t step, int length) const;
};

// [panels][taps][c_in of a group][kPanel] of [outputs][c_in of a group][taps].
Floats panels_of(const Constant& weight, int taps);
// [outputs / kLanes][taps][c_in of a group][kLanes] of the same; of a channel each, [taps][padded outputs].
Floats grouped_weights(const Constant& weight, int taps);
Floats depthwise_weights(const Constant& weight, int taps);

// The weights' bits of one plane in panels, and the sums of each tap's weights, [taps][padded rows].
struct Plane {
  int padded_rows = 0;
  Dwords panels;
  Ints tap_sums;

  // Sum of a row's weights over taps.
  int64_t sum(int row, const std::vector<int>& taps) const;
};

// `words`: [rows][taps][words of c_in], of which the rows from `first` on are taken.
Plane plane_of(const uint64_t* words, int first, int rows, int taps, int c_in);

// Border classes: output pixels whose windows have the same taps in the padding. Zeros there would need a third value
// of a bit; as a bit is 0 or 1, what the padding adds is known for each class, and taken from the sum at its beginning.
struct Classes {
  std::vector<uint16_t> of_pixel;         // empty: there is one class
  std::vector<std::vector<int>> missing;  // of each class: taps
};
Classes classes_of(const Sliding& sliding, int height, int width);

// Which runs of a window are not padding alone, and the ones of the weights that meet padding.
void skip_padding(BinaryConv& conv, const Sliding& sliding, const Plane& plane, int height, int c_in);

// Where the quarters of each pixel's channels come from, in dwords: its neighbours, or pixels half the map away.
std::vector<int32_t> samples(int height, int width, int dwords, bool is_long);

// The sums of some of a basis in their order, and what changes from each to the next one: beyond the middle of the two.
SumBits sum_bits(const Constant& basis);

}  // namespace bcdzoo
