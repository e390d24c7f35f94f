// Random changes of plan files, for fuzzers; the last file is saved as fuzz_engine.bcz when a sanitizer, or a C++
// exception, ends the run.
#pragma once

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <iterator>
#include <random>

#include "plan_files.h"

extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*)());

namespace {

using namespace bcdzoo;

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
  constexpr uint32_t known[] = {
      0, 1, 2, 3, 4, 5, 7, 8, 9, 63, 64, 65, 4095, 4096, 4097, 65535, 65536, 1 << 24, (1 << 24) + 1, 1u << 31, ~0u};
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

// The main function of a fuzzer: NAME INPUTS SEED.bcz...; `is_read` is given every input, and says whether it is a
// plan.
int fuzz(int count, char** words, bool (*is_read)(const Bytes&)) {
  if (count < 3) {
    std::fprintf(stderr, "%s INPUTS SEED.bcz...\n", words[0]);
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
  long read = 0;
  Dice dice;
  for (long input = 0; input < inputs; ++input) {
    last = changed(parts_of(seeds[dice.below(seeds.size())]), dice);
    if (!is_read(last)) continue;
    ++read;
    if (last.size() > kLargestSeed) continue;
    if (seeds.size() < given + kMostSeeds)
      seeds.push_back(last);
    else
      seeds[given + dice.below(kMostSeeds)] = last;
  }
  std::printf("%ld inputs, %ld read and the others refused, no crash\n", inputs, read);
  return 0;
}

}  // namespace
