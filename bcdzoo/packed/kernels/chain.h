// A chain of units, run image by image so that an image's maps stay in the cache.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "stem.h"

namespace bcdzoo {

// The kernels of the best instruction set of this processor that is not above `name` (empty: the best).
const Kernels& kernels(const char* name);
std::vector<const Kernels*> all_kernels();

// Batch of maps in and out, [images][height][width][channels]; what a first unit may need of each image.
struct Batch {
  int images = 0, height = 0, width = 0;
  const float* input = nullptr;  // of a chain without a stem
  Image first;                   // of one with a stem, its first image, which has height and width
  int64_t image_step = 0;        // from one image to the next
  float* output = nullptr;
  const float* shortcut = nullptr;
  const float* threshold = nullptr;
  const float* gate = nullptr;
  const float* offset = nullptr;
};

struct Shape {
  int height, width, channels;
};

class Chain {
 public:
  // Throws std::invalid_argument if the units do not fit together.
  explicit Chain(std::vector<Unit> units, std::unique_ptr<Stem> stem = nullptr, std::unique_ptr<Halving> ending = nullptr);
  Shape output(int height, int width) const;  // with an ending, the channels come first in memory
  Shape first_output(int height, int width) const;  // of the first unit
  // `nanoseconds`, one for each unit, are added to if given.
  void run(const Batch& batch, int threads, const Kernels& kernels, int64_t* nanoseconds) const;
  const std::vector<Unit>& units() const { return units_; }
  const Stem* stem() const { return stem_.get(); }

 private:
  struct Plan;
  struct Workspace;
  std::shared_ptr<Plan> plan(int height, int width) const;
  Shape output_of(const Geometry& last) const;
  static std::unique_ptr<Workspace> borrow(Plan&);
  void run_stem(const Plan&, Workspace&, const Image&, int thread, int threads, class Barrier&, const Kernels&) const;
  void run_image(const Plan&, Workspace&, const Batch&, int image, int thread, int threads, Barrier&,
                 const Kernels&, int64_t* nanoseconds) const;

  std::vector<Unit> units_;
  std::unique_ptr<Stem> stem_;
  std::unique_ptr<Halving> ending_;
  bool wide_ = false;  // the units add to one map, whose channels grow
  mutable std::mutex mutex_;
  mutable std::map<std::pair<int, int>, std::shared_ptr<Plan>> plans_;
};

}  // namespace bcdzoo
