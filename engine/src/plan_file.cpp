// Reads the file of a plan, net.bcz. Its layout is described byte by byte in bcdzoo/plan/file.py. Every count, size and
// offset is checked before it is used; beside the content, reading allocates at most kMemoryFactor times its size.
#include <algorithm>
#include <cstring>
#include <limits>
#include <new>

#include "operations.h"
#include "plan.h"
#include "sha256.h"

namespace bcdzoo {
namespace {

constexpr uint8_t kMagic[8] = {0x89, 'B', 'C', 'Z', '\r', '\n', 0x1a, '\n'};
constexpr uint32_t kVersion = 1;
constexpr uint64_t kLargestFile = uint64_t{1} << 30;
constexpr size_t kAlignment = 64;
constexpr uint32_t kLongestText = 1 << 16, kMostOperations = 1 << 16, kMostItems = 8, kMostDimensions = 4;
constexpr uint32_t kAny = 1 << 30;  // items
// Smallest sizes of items of a list in the file: room for more of them is never asked for.
constexpr size_t kSmallestNumber = 4, kSmallestEntry = 8, kSmallestOperation = 20;

uint64_t number_at(const uint8_t* bytes, int size) {
  uint64_t number = 0;
  for (int i = size - 1; i >= 0; --i) number = number << 8 | bytes[i];
  return number;
}

// The first multiple of the alignment at or behind an offset.
uint64_t aligned(uint64_t offset) { return (offset + kAlignment - 1) / kAlignment * kAlignment; }

bool all_zero(const uint8_t* begin, uint64_t size) {
  return std::all_of(begin, begin + size, [](uint8_t byte) { return byte == 0; });
}

// Bytes of the character that begins here; 0 if it is no UTF-8 (too long, a surrogate, beyond U+10FFFF, or cut off).
size_t utf8_length(const uint8_t* text, size_t left) {
  const uint8_t first = text[0];
  if (first < 0x80) return 1;
  const size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || left < length) return 0;
  uint8_t least = 0x80, most = 0xbf;  // of the second byte
  if (first == 0xe0) least = 0xa0;
  if (first == 0xed) most = 0x9f;
  if (first == 0xf0) least = 0x90;
  if (first == 0xf4) most = 0x8f;
  if (text[1] < least || text[1] > most) return 0;
  for (size_t i = 2; i < length; ++i)
    if ((text[i] & 0xc0) != 0x80) return 0;
  return length;
}

bool is_utf8(const uint8_t* text, size_t size) {
  for (size_t at = 0; at < size;) {
    const size_t length = utf8_length(text + at, size - at);
    if (length == 0) return false;
    at += length;
  }
  return true;
}

// Reads one thing after the other, each checked before it is used.
class Reader {
 public:
  Reader(const uint8_t* content, uint64_t size, uint64_t begin)
      : content_(content), end_(begin), constants_(content + begin), constants_size_(size - begin) {}

  Plan plan() {
    Plan plan;
    plan.image.rank = 3;
    for (int i = 0; i < 3; ++i) plan.image.sizes[i] = whole();
    plan.model = text();
    plan.preprocess = text();
    table(plan.provenance, &Reader::text);
    list(plan.class_names, &Reader::text, kAny, kSmallestNumber);
    list(plan.operations, &Reader::operation, kMostOperations, kSmallestOperation);
    const uint64_t gap = aligned(at_) - at_;
    const bool zero = all_zero(take(gap), gap);
    if (at_ < end_ || !zero) fail("the description does not end where the constants begin");
    if (used_ < constants_size_) fail("the file does not end with its last constant");
    return plan;
  }

 private:
  Operation operation() {
    Operation operation;
    operation.kind = text();
    operation.name = text();
    table(operation.inputs, &Reader::whole);
    table(operation.fields, &Reader::field);
    table(operation.constants, &Reader::constant);
    return operation;
  }

  Field field() {
    Field field;
    const uint32_t tag = u32();
    field.type = static_cast<Field::Type>(tag);
    switch (tag) {
      case 1:
        field.wholes = {whole()};
        break;
      case 2:
        list(field.wholes, &Reader::whole, kMostItems, kSmallestNumber);
        break;
      case 3: {
        const uint64_t bits = number_at(take(8), 8);
        std::memcpy(&field.real, &bits, sizeof bits);
        break;
      }
      case 4:
        field.words = {text()};
        break;
      case 5:
        list(field.words, &Reader::text, kMostItems, kSmallestNumber);
        break;
      default:
        fail("there is no type " + std::to_string(tag) + " of fields");
    }
    return field;
  }

  Constant constant() {
    const uint32_t tag = u32();
    std::vector<int> sizes;
    list(sizes, &Reader::whole, kMostDimensions, kSmallestNumber);
    const uint64_t start = number_at(take(8), 8);
    if (tag != 1 && tag != 2) fail("there is no type " + std::to_string(tag) + " of constants");
    Constant constant;
    for (int size : sizes) {
      if (size < 1 || size > kMostSize) fail("a constant is empty or too large");
      constant.shape.sizes[constant.shape.rank++] = size;
    }
    const uint64_t place = aligned(used_);
    if (start != place || start > constants_size_ || !all_zero(constants_ + used_, place - used_))
      fail("a constant is not where the one before it ends");
    uint64_t bytes = tag == 1 ? sizeof(float) : sizeof(uint64_t);
    for (int size : sizes) {  // neither factor nor product is larger than 2^30 × 2^24
      bytes *= static_cast<uint64_t>(size);
      if (bytes > constants_size_ - start) fail("a constant ends behind the file");
    }
    if (bytes > constants_size_ - start) fail("a constant ends behind the file");
    used_ = start + bytes;
    if (tag == 1) constant.floats = reinterpret_cast<const float*>(constants_ + start);
    if (tag == 2) constant.words = reinterpret_cast<const uint64_t*>(constants_ + start);
    return constant;
  }

  static void add(std::map<std::string, Field>& all, std::string name, Field value) {
    all.emplace(std::move(name), std::move(value));
  }
  static void add(std::map<std::string, Constant>& all, std::string name, Constant value) {
    all.emplace(std::move(name), value);
  }
  template <class T>
  static void add(std::vector<std::pair<std::string, T>>& all, std::string name, T value) {
    all.emplace_back(std::move(name), std::move(value));
  }
  template <class T>
  static void reserve(std::map<std::string, T>&, size_t) {}
  template <class T>
  static void reserve(std::vector<T>& all, size_t length) {
    all.reserve(length);
  }

  template <class Table, class T>
  void table(Table& entries, T (Reader::*value)()) {
    const uint32_t length = this->length(kAny);
    reserve(entries, std::min<uint64_t>(length, (end_ - at_) / kSmallestEntry));
    std::string before;
    for (uint32_t i = 0; i < length; ++i) {
      std::string name = text();
      const bool ascends = i == 0 || before.size() < name.size() || (before.size() == name.size() && before < name);
      if (!ascends) fail("names do not ascend");
      before = name;
      add(entries, std::move(name), (this->*value)());
    }
  }

  template <class T>
  void list(std::vector<T>& items, T (Reader::*item)(), uint32_t most, size_t smallest) {
    const uint32_t length = this->length(most);
    reserve(items, std::min<uint64_t>(length, (end_ - at_) / smallest));
    for (uint32_t i = 0; i < length; ++i) items.push_back((this->*item)());
  }

  uint32_t length(uint32_t most) {
    const uint32_t length = u32();
    if (length > most)
      fail("there are " + std::to_string(length) + " items, and at most " + std::to_string(most) + " are allowed");
    if (uint64_t{4} * length > end_ - at_) fail("a list ends behind the description");  // no item is smaller
    return length;
  }

  std::string text() {
    const uint32_t length = u32();
    if (length > kLongestText)
      fail("a text has " + std::to_string(length) + " bytes, and at most " + std::to_string(kLongestText) +
           " are allowed");
    const uint8_t* bytes = take(length);
    if (!is_utf8(bytes, length)) fail("a text is not UTF-8");
    if (std::find(bytes, bytes + length, 0) != bytes + length) fail("a text has a zero byte");
    return std::string(reinterpret_cast<const char*>(bytes), length);
  }

  uint32_t u32() { return static_cast<uint32_t>(number_at(take(4), 4)); }

  // One that is too large for an int, and so for everything, is the largest int.
  int whole() { return static_cast<int>(std::min<uint32_t>(u32(), std::numeric_limits<int>::max())); }

  const uint8_t* take(uint64_t size) {
    const uint64_t start = at_;
    at_ += size;
    if (at_ > end_) fail("the description ends too early");
    return content_ + start;
  }

  [[noreturn]] void fail(const std::string& what) const {
    throw PlanError(what + " (before byte " + std::to_string(at_) + ")");
  }

  const uint8_t* content_;
  uint64_t at_ = kHeader, end_;
  const uint8_t* constants_;
  uint64_t constants_size_, used_ = 0;
};

Plan checked_plan(const uint8_t* content, size_t size, bool hashed, bool map) {
  const uint64_t begin = constants_begin(content, size);
  if (hashed) {
    const auto digest = sha256(content + kHeader, size - kHeader);
    require(std::equal(digest.begin(), digest.end(), content + 32), "its content does not match its hash");
  }
  Plan plan = Reader(content, size, begin).plan();
  check_plan(plan, map);
  return plan;
}

}  // namespace

uint64_t constants_begin(const uint8_t* header, uint64_t size) {
  require(size >= kHeader && std::memcmp(header, kMagic, sizeof kMagic) == 0, "it is not a plan file");
  const uint64_t version = number_at(header + 8, 4), zero = number_at(header + 12, 4);
  const uint64_t stated = number_at(header + 16, 8), begin = number_at(header + 24, 8);
  require(version == kVersion, "its format is version " + std::to_string(version) + ", and this bcdzoo reads version " +
                                   std::to_string(kVersion));
  require(stated == size, "it has " + std::to_string(size) + " of " + std::to_string(stated) + " bytes");
  require(size <= kLargestFile, "it is larger than " + std::to_string(kLargestFile) + " bytes");
  require(zero == 0 && begin % kAlignment == 0 && kHeader < begin && begin <= size, "its header is wrong");
  return begin;
}

Plan read_plan(const uint8_t* content, size_t size, bool hashed, bool map) {
  require(reinterpret_cast<uintptr_t>(content) % kAlignment == 0, "its content is not at a multiple of 64 in memory");
  try {
    return checked_plan(content, size, hashed, map);
  } catch (const std::bad_alloc&) {
    throw PlanError("there is not enough memory to read it");
  }
}

}  // namespace bcdzoo
