// When the tasks of a program run, and where its slots lie in the arena.
#pragma once

#include "prepare.h"

namespace bcdzoo {

// Rows of what a task gives.
struct Step {
  const Task* task = nullptr;
  int begin = 0, end = 0;
};

struct Schedule {
  std::vector<Step> steps;
  int64_t arena_bytes = 0;
};

Schedule schedule(Program& program);

}  // namespace bcdzoo
