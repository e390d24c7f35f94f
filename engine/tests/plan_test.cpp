// The reader and the reference on a few plans written by hand; tests/engine/test_reader.py has all kinds and more.
#include "plan.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <new>

#include "plan_files.h"
#include "reference.h"
#include "sha256.h"

namespace {

size_t allocated = 0;  // bytes, by `new` since it was set to 0

}  // namespace

void* operator new(size_t size) {
  allocated += size;
  if (void* room = std::malloc(size ? size : 1)) return room;
  throw std::bad_alloc();
}
void operator delete(void* room) noexcept { std::free(room); }
void operator delete(void* room, size_t) noexcept { std::free(room); }

namespace {

using namespace bcdzoo;

constexpr size_t kMemoryFactor = 32;
int faults = 0;

void expect(bool holds, const std::string& what) {
  if (holds) return;
  std::printf("wrong: %s\n", what.c_str());
  ++faults;
}

// What is wrong with a file; "" if it is read.
std::string refusal(const Bytes& file, bool hashed = false, bool map = false) {
  const Content content(file);
  try {
    read_plan(content.data(), content.size, hashed, map);
    return "";
  } catch (const PlanError& error) {
    return error.what();
  }
}

void expect_refused(const Bytes& file, const std::string& why) {
  const std::string got = refusal(file);
  expect(got.find(why) != std::string::npos, "\"" + why + "\" is not in \"" + got + "\"");
}

const std::vector<uint32_t> kImage = {2, 1, 2};
const Bytes kFlat = operation("reshape", {input("x", 0)}, {text("shape") + u32(2) + wholes({0})}, {});

Bytes linear(uint32_t value, const std::vector<uint32_t>& sizes = {2, 4}, uint64_t start = 64) {
  return operation("linear", {input("x", value)}, {},
                   {constant("bias", 1, {2}, 0), constant("weight", 1, sizes, start)});
}

const Bytes kNumbers = aligned(floats({0.5, -1})) + floats({1, 2, 3, 4, 5, 6, 7, 8});
const Bytes kGood = file_of(description(kImage, {kFlat, linear(1)}), kNumbers);

void test_hash() {
  const auto hex = [](const Bytes& content) {
    Bytes all;
    for (uint8_t byte : sha256(reinterpret_cast<const uint8_t*>(content.data()), content.size())) {
      char two[3];
      std::snprintf(two, sizeof two, "%02x", byte);
      all += two;
    }
    return all;
  };
  expect(hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "the hash of nothing");
  expect(hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "the hash of abc");
  expect(hex(Bytes(1000000, 'a')) == "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
         "the hash of a million a");
}

void test_it_is_read_and_run() {
  const Content content(kGood);
  const Plan plan = read_plan(content.data(), content.size, false, false);
  expect(plan.model == "net" && plan.operations.size() == 2 && plan.operations[1].name == "layer", "its names");
  expect(plan.shapes.size() == 3 && plan.shapes[1].sizes[0] == 4 && plan.shapes[2].sizes[0] == 2, "its shapes");
  expect(plan.last_uses == std::vector<int>({0, 1, 2}), "its last uses");
  // The image's numbers in the order of (C, H, W) are 1, 10, 100, 1000; in memory the channels of a pixel lie together.
  float image[] = {1, 100, 10, 1000}, flat[4], logits[2];
  const Map maps[] = {{image, 2, 1, 2, 1, 2}, {flat, 4, 1, 1, 1, 4}, {logits, 2, 1, 1, 1, 2}};
  run_reference(plan.operations[0], {maps[0]}, maps[1]);
  run_reference(plan.operations[1], {maps[1]}, maps[2]);
  expect(flat[0] == 1 && flat[1] == 10 && flat[2] == 100 && flat[3] == 1000, "the order of a reshaped map");
  expect(logits[0] == 4321.5 && logits[1] == 8764, "its logits");
}

void test_what_is_wrong_is_refused() {
  expect(refusal(kGood).empty(), "a good file is refused: " + refusal(kGood));
  expect(refusal(kGood, true) == "its content does not match its hash", "a wrong hash");
  expect_refused(file_of(description(kImage, {}), ""), "a plan has 1 to 65536 operations");
  expect_refused(file_of(description({0, 1, 1}, {kFlat}), ""), "the images are empty, too large or no maps");
  expect_refused(file_of(description({1 << 24, 1 << 24, 1 << 24}, {kFlat}), ""), "numbers at once");
  expect_refused(file_of(description(kImage, {kFlat, linear(2)}), kNumbers), "an input is no earlier value");
  expect_refused(file_of(description(kImage, {linear(0)}), kNumbers), "an input has 3 dimensions, not 1");
  expect_refused(file_of(description(kImage, {kFlat, linear(1, {2, 3})}), kNumbers), "does not end with its last");
  expect_refused(file_of(description(kImage, {kFlat, linear(1, {2, 5})}), kNumbers), "a constant ends behind the file");
  expect_refused(file_of(description(kImage, {kFlat, linear(1, {1 << 24, 1 << 24, 1 << 24, 1 << 24})}), kNumbers),
                 "a constant ends behind the file");
  expect_refused(file_of(description(kImage, {kFlat, linear(1, {2, 4}, 128)}), kNumbers),
                 "is not where the one before");
  expect_refused(file_of(description(kImage, {kFlat, linear(1, {2, 4}, ~uint64_t{63})}), kNumbers), "is not where");
  expect_refused(file_of(description(kImage, {kFlat}, {text("one")}), ""), "one class name for each logit");
  expect_refused(file_of(description(kImage, {kFlat}, {text("\xed\xa0\x80")}), ""), "a text is not UTF-8");
  const std::vector<Bytes> over_rows = {text("axes") + u32(2) + wholes({2}), text("double") + u32(1) + u32(0)};
  const Bytes halved = operation("mean", {input("x", 0)}, over_rows, {});
  const Bytes map = file_of(description(kImage, {halved}), "");
  expect_refused(map, "the last operation does not give logits");
  expect(refusal(map, false, true).empty(), "a map is no output");
  Bytes longer = kGood, other = kGood;
  longer += '\0';
  expect_refused(longer, "it has ");
  other[8] = 2;
  expect_refused(other, "its format is version 2");
}

void test_no_shorter_and_no_changed_file_breaks_the_reader() {
  for (size_t size = 0; size < kGood.size(); ++size) {
    Bytes cut = kGood.substr(0, size);
    if (size >= 24) cut.replace(16, 8, little(size, 8));
    expect(!refusal(cut).empty(), "a file of " + std::to_string(size) + " bytes is read");
  }
  for (size_t at = 64; at < kGood.size(); ++at)
    for (uint8_t byte : {0x00, 0x01, 0x7f, 0x80, 0xff}) {
      Bytes changed = kGood;
      changed[at] = static_cast<char>(byte);
      refusal(changed);
    }
}

void test_content_that_is_not_aligned_is_refused() {
  const Content content(Bytes(8, '\0') + kGood);
  try {
    read_plan(content.data() + 8, content.size - 8, false, false);
    expect(false, "it is read");
  } catch (const PlanError&) {
  }
}

// The smallest parts that a file can have many of, and counts that promise more than there is.
void test_memory_stays_within_a_factor_of_the_file() {
  const Bytes nothing = text("") + text("") + list({}) + list({}) + list({});
  const auto numbered = [](int count, const Bytes& value) {
    std::vector<Bytes> items;
    for (int i = 0; i < count; ++i)
      items.push_back(text({static_cast<char>('0' + i / 64), static_cast<char>('0' + i % 64)}) + value);
    return list(items);
  };
  const Bytes word = u32(4) + text(""), many_words = u32(5) + list(std::vector<Bytes>(8, text("")));
  const std::pair<const char*, Bytes> cases[] = {
      {"operations", description(kImage, std::vector<Bytes>(20000, nothing))},
      {"names", description(kImage, {nothing}, std::vector<Bytes>(50000, text("")))},
      {"inputs", description(kImage, {text("") + text("") + numbered(2000, u32(0)) + list({}) + list({})})},
      {"fields", description(kImage, {text("") + text("") + list({}) + numbered(2000, u32(1) + u32(1)) + list({})})},
      {"words", description(kImage, {text("") + text("") + list({}) + numbered(2000, word) + list({})})},
      {"lists", description(kImage, {text("") + text("") + list({}) + numbered(2000, many_words) + list({})})},
      {"a promise",
       description(kImage, std::vector<Bytes>(1, nothing)).substr(0, 31) + u32(60000) + Bytes(240000, '\xff')},
  };
  for (const auto& [name, content] : cases) {
    const Bytes file = file_of(content, "");
    allocated = 0;
    refusal(file);
    const size_t most = kMemoryFactor * file.size() + (1 << 16);
    expect(allocated <= most, std::string(name) + ": " + std::to_string(allocated) + " bytes of memory for " +
                                  std::to_string(file.size()));
  }
}

}  // namespace

int main() {
  test_hash();
  test_it_is_read_and_run();
  test_what_is_wrong_is_refused();
  test_no_shorter_and_no_changed_file_breaks_the_reader();
  test_content_that_is_not_aligned_is_refused();
  test_memory_stays_within_a_factor_of_the_file();
  std::printf("%d faults\n", faults);
  return faults != 0;
}
