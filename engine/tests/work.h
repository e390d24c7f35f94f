// About how much work a plan is, so that fuzzers do not run long ones.
#pragma once

#include "plan.h"

namespace bcdzoo {

constexpr int64_t kSmall = 1 << 20;  // steps of a plan that is run

// Steps; above kSmall it counts no further.
inline int64_t work_of(const Plan& plan) {
  int64_t work = plan.image.count();
  for (size_t i = 0; i < plan.operations.size() && work <= kSmall; ++i) {
    const Operation& operation = plan.operations[i];
    const Shape& out = plan.shapes[i + 1];
    int64_t each = operation.kind == "encode" ? 1 << 8 : 1;
    if (operation.fields.count("kernel")) each *= operation.whole("kernel", 0) * operation.whole("kernel", 1);
    work += out.count() * each;
    for (const auto& input : operation.inputs) work += plan.shapes[input.second].count();
    for (const auto& constant : operation.constants)
      work += constant.second.count() * (constant.second.words ? 64 : 1) * out.height() * out.width();
  }
  return work;
}

}  // namespace bcdzoo
