// What a network does to the maps of one image, piece by piece. Planning and execution are apart: tasks and the memory
// that they use are made once for a plan; running them touches nothing but an arena.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "kernels.h"
#include "plan.h"
#include "reference.h"

namespace bcdzoo {

// Of a map, of an arena, and of all indices and constants: indices are 32 bits wide, and so may be pointers.
constexpr int64_t kMostBytes = std::min<int64_t>(int64_t{1} << 32, PTRDIFF_MAX);

// A piece of the arena, alive from its first task to its last one.
struct Slot {
  int64_t bytes = 0, offset = 0;
  int first = -1, last = -1;  // tasks
  int channels = 0;           // of a map that grows: of the last value in it
  int room = 0;               // channels up to which vectors are written to it
  int64_t step = 0;           // floats of a pixel
  int rows = 0, columns = 0;  // of a map; 0: it has none
  int ring = 0;               // rows that there is room for: row y lies where row y % ring does; 0: for all
};

// Where a value lies: channels of a slot's map.
struct Place {
  Slot* slot = nullptr;
  int channel = 0;  // first one
  Shape shape;
};

// An image as it is given: any order of its dimensions in memory.
struct Image {
  const float* values = nullptr;
  int64_t channel_step = 0, row_step = 0, column_step = 0;
};

// One image on its way through the network.
struct Frame {
  const Kernels& kernels;
  uint8_t* arena = nullptr;
  Image image;
  float* result = nullptr;  // of the network, in channel-major order

  template <class T>
  T* at(const Slot& slot) const {
    return reinterpret_cast<T*>(arena + slot.offset);
  }
  // A value's map. Of one in a ring, rows from `row` on up to the ring's end lie where they would without it.
  Map map(const Place& place, int row = 0) const {
    const Shape& shape = place.shape;
    const Slot& slot = *place.slot;
    const int64_t laps = slot.ring ? row / slot.ring : 0;
    return {at<float>(slot) + place.channel - laps * slot.ring * slot.columns * slot.step,
            shape.channels(),
            shape.height(),
            shape.width(),
            shape.levels(),
            slot.step};
  }
};

// A share of a step's work: part `index` of `count`.
struct Part {
  int index = 0, count = 1;

  std::pair<int, int> of(int begin, int end) const {
    const int64_t all = end - begin;
    return {begin + static_cast<int>(all * index / count), begin + static_cast<int>(all * (index + 1) / count)};
  }
};

class Task {
 public:
  virtual ~Task() = default;
  // Computes rows [begin, end) of what it gives; a task that is not `by_rows` all of it at once.
  virtual void run(const Frame& frame, int begin, int end, Part part) const = 0;
  // Rows from the top of what it reads that it must have for the rows up to `end`; `read` counts `reads`.
  virtual int needs(int /*read*/, int end) const { return end; }
  // Of a map in a ring that it reads: how many rows belong to one of its own, so that it can run up to the ring's end
  // and go on from its begin; 0 if it minds the ring itself, -1 if it cannot read one.
  virtual int scale(int /*read*/) const { return 1; }
  // Rows that it must have done before the first `end` rows of what it reads may be overwritten.
  virtual int frees(int /*read*/, int end) const { return end; }

  int operation = 0;  // that it belongs to
  bool by_rows = true;
  bool first = false;     // it runs before all others of its segment
  bool is_light = false;  // it does little with much: several of a kind run while their rows are in the first cache
  int rows = 1;           // of what it gives
  int64_t row_bytes = 0;  // of floats that a row writes: what has to stay in the cache
  double cost = 0;        // roughly, in nanoseconds of a fast processor: what sharing it among threads has to be worth
  std::vector<Slot*> reads, writes;
};

// What a float of the zoo's channels is kept in: padded to whole vectors.
inline int64_t padded(int channels) { return round_up(channels, kLanes); }

}  // namespace bcdzoo
