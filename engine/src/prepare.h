// From a plan to tasks: constants in the kernels' layouts, and where every value lies.
#pragma once

#include <deque>
#include <memory>
#include <vector>

#include "task.h"

namespace bcdzoo {

struct Program {
  std::vector<std::unique_ptr<Task>> tasks;  // in a sequence in which they can run
  std::deque<Slot> slots;
};

// The plan must outlive the program.
Program prepare(const Plan& plan);

}  // namespace bcdzoo
