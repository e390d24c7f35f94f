// A plan that is ready to run.
#pragma once

#include <memory>
#include <vector>

#include "schedule.h"

namespace bcdzoo {

// Images in memory, float32: any order of dimensions.
struct Images {
  const float* values = nullptr;
  int count = 0;
  int64_t image_step = 0, channel_step = 0, row_step = 0, column_step = 0;
};

// Images that cannot be run: comparisons would hide a NaN.
struct ImageError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

class LinearTask;

class Network {
 public:
  // The plan's constants must outlive the network.
  explicit Network(Plan plan);
  ~Network();
  Network(const Network&) = delete;
  Network& operator=(const Network&) = delete;

  const Plan& plan() const { return *plan_; }
  const Shape& output() const { return plan_->shapes.back(); }
  // Bytes of memory that an image needs on its way.
  int64_t arena_bytes() const { return schedule_.arena_bytes; }

  // Operations that no kernel knows, which run by the slow reference.
  std::vector<int> slow() const;
  // Pieces of work that an image is.
  int steps() const { return static_cast<int>(schedule_.steps.size()); }

  // Runs images, which must be finite: throws an ImageError otherwise; `out` is [images][what the plan gives,
  // channel-major]. Where it is not null, `nanoseconds` has a number for each operation, to which the time that its
  // tasks took is added, all threads together.
  void run(const Images& images, float* out, int threads, const Kernels& kernels, int64_t* nanoseconds) const;

 private:
  struct Arena;
  std::unique_ptr<Arena> borrow() const;
  void give_back(std::unique_ptr<Arena> arena) const;
  void run_steps(const Frame& frame, Part part, class Barrier& barrier, class Failure& failure,
                 int64_t* nanoseconds) const;
  void run_last(const Kernels& kernels, const float* features, int images, float* out, Part part) const;

  std::unique_ptr<const Plan> plan_;
  Program program_;
  Schedule schedule_;
  double cost_ = 0;                   // of an image, as of Task
  const LinearTask* last_ = nullptr;  // the classifier at the end, run for all images at once; null: there is none
  mutable std::vector<std::unique_ptr<Arena>> idle_;
};

}  // namespace bcdzoo
