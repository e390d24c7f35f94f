// What each kind of operation must have, and the checks of a plan that follow from it.
#pragma once

#include "plan.h"

namespace bcdzoo {

// Checks an operation against its kind, and returns the shape of what it gives; `inputs` are its inputs' shapes, in its
// sequence, of at most kMostNumbers each. Throws PlanError.
Shape check_operation(const Operation& operation, const std::vector<Shape>& inputs);

// Checks operations, shapes, memory and work of a plan, and sets its shapes and last uses. Throws PlanError.
void check_plan(Plan& plan, bool map);

// Product that stops at 2^56, so that some of them can be added.
int64_t product(std::initializer_list<int64_t> factors);

}  // namespace bcdzoo
