// Gives the reader of plans, and the reference, what a fuzzer makes of plan files: with libFuzzer (clang++
// -fsanitize=fuzzer), or without it, by random changes alone: fuzz_plan INPUTS SEED.bcz...
// Sanitizers find what goes wrong; anything thrown but a PlanError ends the run, and fuzz_engine.bcz is the last file.
#ifdef WITH_LIBFUZZER
#include "plan_files.h"
#else
#include "fuzz.h"
#endif
#include "plan.h"
#include "reference.h"
#include "work.h"

namespace {

using namespace bcdzoo;

long run = 0;

struct Value {
  explicit Value(const Shape& shape) : numbers(static_cast<size_t>(shape.count())) {
    map = {numbers.data(), shape.channels(), shape.height(), shape.width(), shape.levels(), shape.channels()};
  }
  std::vector<float> numbers;
  Map map;
};

void run_all(const Plan& plan) {
  std::vector<Value> values;
  values.reserve(plan.shapes.size());
  for (const Shape& shape : plan.shapes) values.emplace_back(shape);
  for (size_t i = 0; i < values[0].numbers.size(); ++i) values[0].numbers[i] = static_cast<float>(i % 7) - 3;
  for (size_t i = 0; i < plan.operations.size(); ++i) {
    std::vector<Map> inputs;
    for (const auto& input : plan.operations[i].inputs) inputs.push_back(values[input.second].map);
    run_reference(plan.operations[i], inputs, values[i + 1].map);
  }
}

bool is_read(const Bytes& file) {
  const Content content(file);
  try {
    const Plan plan = read_plan(content.data(), content.size, false, true);
    if (work_of(plan) <= kSmall) {
      ++run;
      run_all(plan);
    }
    return true;
  } catch (const PlanError&) {
    return false;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Bytes file(reinterpret_cast<const char*>(data), size);
  if (size >= 24) file.replace(16, 8, little(size, 8));  // a wrong size hides all the rest
  is_read(file);
  return 0;
}

#ifndef WITH_LIBFUZZER

int main(int count, char** words) {
  const int status = fuzz(count, words, is_read);
  std::printf("%ld of them run, by the reference\n", run);
  return status;
}

#endif
