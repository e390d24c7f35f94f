// What every operation computes, slow and obvious: the truth for the kernels, and what runs where no kernel is known.
#pragma once

#include "plan.h"

namespace bcdzoo {

// The first of the highest scores; one that is not a number counts as the highest.
int highest(const float* scores, int count);

// A value of one image in memory: pixels of `step` floats each, of which the first `channels` are the value's; one such
// map behind the other if there are several levels.
struct Map {
  float* values = nullptr;
  int channels = 0, height = 0, width = 0, levels = 1;
  int64_t step = 0;

  int pixels() const { return height * width; }
  float* pixel(int64_t index) const { return values + index * step; }
  float& at(int level, int channel, int y, int x) const {
    return values[((int64_t{level} * height + y) * width + x) * step + channel];
  }
};

// Runs an operation; `inputs` in the sequence of its own, `output` with room for what it gives.
void run_reference(const Operation& operation, const std::vector<Map>& inputs, const Map& output);

}  // namespace bcdzoo
