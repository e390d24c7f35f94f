// Gives the reader of plans, and the reference, what a fuzzer makes of plan files: with libFuzzer (clang++
// -fsanitize=fuzzer), or with the main below, by random changes alone: fuzz_plan INPUTS SEED.bcz...
// Sanitizers find what goes wrong; anything thrown but a PlanError ends the run, and fuzz_engine.bcz is the last file.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <random>

#include "plan.h"
#include "plan_files.h"
#include "reference.h"

namespace {

using namespace bcdzoo;

constexpr int64_t kSmall = 1 << 20;  // steps of a plan that is run

long read = 0, run = 0;

// About how much work a plan is.
int64_t work_of(const Plan& plan) {
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
    ++read;
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

extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*)());

namespace {

constexpr size_t kMostSeeds = 4000, kLargestSeed = 1 << 14;

Bytes last;  // file that was read

void save_last() { std::ofstream("fuzz_engine.bcz", std::ios::binary) << last; }

// Description and constants of a file.
struct Parts {
  Bytes description, constants;
};

class Dice {
 public:
  size_t below(size_t end) { return std::uniform_int_distribution<size_t>(0, end - 1)(engine_); }

 private:
  std::mt19937_64 engine_{0};
};

void change_number(Bytes& bytes, Dice& dice) {
  constexpr uint32_t known[] = {0,    1,    2,     3,     4,       5,             7,        8,  9, 63, 64, 65, 4095,
                                4096, 4097, 65535, 65536, 1 << 24, (1 << 24) + 1, 1u << 31, ~0u};
  if (bytes.size() < 4) return;
  size_t at = 0;  // mostly where a small number lies
  for (int tries = 0; tries < 16; ++tries) {
    at = dice.below(bytes.size() - 3);
    if (bytes[at + 1] == 0 && bytes[at + 2] == 0 && bytes[at + 3] == 0 && bytes[at] != 0) break;
  }
  const uint32_t near = static_cast<uint8_t>(bytes[at]) + static_cast<uint32_t>(dice.below(5)) - 2;
  bytes.replace(at, 4, u32(dice.below(2) ? near : known[dice.below(std::size(known))]));
}

void change(Bytes& bytes, Dice& dice) {
  const size_t at = dice.below(bytes.size() + 1), other = dice.below(bytes.size() + 1);
  constexpr size_t sizes[] = {1, 1, 4, 4, 8, 16, 64};
  const size_t size = sizes[dice.below(std::size(sizes))];
  switch (dice.below(8)) {
    case 0:
      bytes.erase(at, size);
      break;
    case 1:
      bytes.insert(at, bytes.substr(other, size));
      break;
    case 2:
      bytes.insert(at, size, static_cast<char>(dice.below(256)));
      break;
    case 3:
      if (at < bytes.size()) bytes[at] = static_cast<char>(dice.below(256));
      break;
    default:
      change_number(bytes, dice);
  }
}

Parts parts_of(const Bytes& file) {
  if (file.size() < 64) return {file, ""};
  uint64_t begin = 0;
  std::memcpy(&begin, file.data() + 24, 8);
  begin = std::clamp<uint64_t>(begin, 64, file.size());
  return {file.substr(64, begin - 64), file.substr(begin)};
}

Bytes changed(Parts parts, Dice& dice) {
  for (size_t times = 1 + dice.below(3); times > 0; --times)
    change(dice.below(8) ? parts.description : parts.constants, dice);
  Bytes file = file_of(parts.description, parts.constants);
  if (dice.below(32) == 0) file[dice.below(64)] = static_cast<char>(dice.below(256));  // of the header
  if (dice.below(64) == 0) file.resize(dice.below(file.size()));
  return file;
}

}  // namespace

int main(int count, char** words) {
  if (count < 3) {
    std::fprintf(stderr, "fuzz_plan INPUTS SEED.bcz...\n");
    return 2;
  }
  if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(save_last);
  std::set_terminate([] {
    save_last();
    std::abort();
  });
  const long inputs = std::atol(words[1]);
  std::vector<Bytes> seeds;
  for (int i = 2; i < count; ++i) {
    std::ifstream file(words[i], std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    if (!is_read(seeds.back())) std::fprintf(stderr, "%s is refused\n", words[i]);
  }
  const size_t given = seeds.size();
  read = run = 0;
  Dice dice;
  for (long input = 0; input < inputs; ++input) {
    last = changed(parts_of(seeds[dice.below(seeds.size())]), dice);
    if (!is_read(last) || last.size() > kLargestSeed) continue;
    if (seeds.size() < given + kMostSeeds)
      seeds.push_back(last);
    else
      seeds[given + dice.below(kMostSeeds)] = last;
  }
  std::printf("%ld inputs, %ld read (%ld of them run) and the others refused, no crash\n", inputs, read, run);
}

#endif
