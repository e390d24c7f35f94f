// Tasks on real values.
#pragma once

#include "task.h"

namespace bcdzoo {

// Copies a map (or the image itself) to one with a border around it, as windows read it.
class PadTask : public Task {
 public:
  bool of_image = false;
  bool replicates = false;  // the border repeats the outermost pixels
  Place from;
  Slot* to = nullptr;
  int channels = 0, height = 0, width = 0, top = 0, left = 0, bottom = 0, right = 0, repeat = 1;
  int64_t step = 0;
  float value = 0;

  int padded_width() const { return left + width + right; }
  void run(const Frame& frame, int begin, int end, Part part) const override;
  int needs(int read, int end) const override;
  int frees(int read, int end) const override;
  int scale(int) const override { return 0; }
};

// The image as a map.
class ImageTask : public Task {
 public:
  Place to;
  void run(const Frame& frame, int begin, int end, Part part) const override;
};

class FloatConvTask : public Task {
 public:
  FloatConv conv;
  Place from;  // of a copy: its slot alone
  Place to;
  int stride = 1, extent = 1, height = 0;  // of the rows; height of what it reads, padding included
  bool is_direct = false;                  // it reads a map, not a copy with a border
  void run(const Frame& frame, int begin, int end, Part part) const override;
  int needs(int read, int end) const override;
  int frees(int read, int end) const override;
  int scale(int) const override { return is_direct ? stride : -1; }
};

// Of narrow groups, or of a channel each.
class GroupedTask : public Task {
 public:
  GroupedConv narrow;
  DepthwiseConv depthwise;  // if it has channels
  Place from;               // of a copy: its slot alone
  Place to;
  int stride = 1, extent = 1, height = 0;  // as of FloatConvTask
  bool is_direct = false;
  void run(const Frame& frame, int begin, int end, Part part) const override;
  int needs(int read, int end) const override;
  int frees(int read, int end) const override;
  int scale(int) const override { return is_direct ? stride : -1; }
};

class PoolTask : public Task {
 public:
  Pooling pooling;
  Place from, to;
  void run(const Frame& frame, int begin, int end, Part part) const override;
  int needs(int read, int end) const override;
  int frees(int read, int end) const override;
  int scale(int) const override { return 0; }
};

class PointwiseTask : public Task {
 public:
  Pointwise pointwise;
  Place from, other, to;  // `other` without a slot: there is none
  void run(const Frame& frame, int begin, int end, Part part) const override;
};

// A map plus a constant one.
class AddMapTask : public Task {
 public:
  Floats map;  // [pixels][step]
  int64_t step = 0;
  Place from, to;
  void run(const Frame& frame, int begin, int end, Part part) const override;
};

// Each pixel several times.
class UpsampleTask : public Task {
 public:
  int factor[2] = {1, 1};
  Place from, to;
  void run(const Frame& frame, int begin, int end, Part part) const override;
  int needs(int read, int end) const override;
  int frees(int read, int end) const override;
  int scale(int) const override { return -1; }
};

// Maps side by side, channel by channel.
class ConcatTask : public Task {
 public:
  std::vector<Place> from;
  Place to;
  void run(const Frame& frame, int begin, int end, Part part) const override;
};

class LinearTask : public Task {
 public:
  const float *weights = nullptr, *bias = nullptr;
  int columns = 0;
  Place from, to;
  void run(const Frame& frame, int begin, int end, Part part) const override;
};

// Sums of each channel, in double, added row by row.
class SumTask : public Task {
 public:
  Place from;
  Slot* to = nullptr;
  void run(const Frame& frame, int begin, int end, Part part) const override;
};

// From the sums of each channel to their means, and a context of these: first → ReLU if any → second → sigmoid if any,
// in double; or to the mean of all.
class ContextTask : public Task {
 public:
  const Operation* context = nullptr;  // null: there is none
  Slot* from = nullptr;
  int channels = 0, pixels = 0;
  Place to;
  void run(const Frame& frame, int begin, int end, Part part) const override;
};

// Mean of each pixel's channels, in double.
class PixelMeanTask : public Task {
 public:
  Place from, to;
  void run(const Frame& frame, int begin, int end, Part part) const override;
};

// What no kernel knows.
class ReferenceTask : public Task {
 public:
  const Operation* source = nullptr;
  std::vector<Place> from;
  Place to;
  void run(const Frame& frame, int begin, int end, Part part) const override;
};

// What the network gives, in channel-major order.
class ResultTask : public Task {
 public:
  Place from;
  void run(const Frame& frame, int begin, int end, Part part) const override;
};

}  // namespace bcdzoo
