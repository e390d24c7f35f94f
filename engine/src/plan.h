// A plan in memory: operations in sequence, from an image to logits, and the file that it is read from. What each kind
// of operation has and gives is bcdzoo/plan/operations.py's; both are held together by tests.
#pragma once

#include <cstdint>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace bcdzoo {

constexpr int kMostSize = 1 << 24;  // of a dimension, and of a whole number in a field

// What is no plan, or cannot be run: the message says where and why.
struct PlanError : std::invalid_argument {
  using std::invalid_argument::invalid_argument;
};

inline void require(bool holds, const std::string& what) {
  if (!holds) throw PlanError(what);
}

// What an operation gives for an image: (C, H, W) is a map, (C) a vector, (K, C, H, W) are K maps of small integers.
struct Shape {
  int rank = 0;
  int sizes[4] = {};

  int64_t count() const {
    int64_t all = 1;
    for (int i = 0; i < rank; ++i) all *= sizes[i];
    return all;
  }
  // Of the last map or vector: a vector is a map of one pixel.
  int levels() const { return rank == 4 ? sizes[0] : 1; }
  int channels() const { return rank == 4 ? sizes[1] : sizes[0]; }
  int height() const { return rank == 1 ? 1 : sizes[rank - 2]; }
  int width() const { return rank == 1 ? 1 : sizes[rank - 1]; }
  bool operator==(const Shape& other) const;
  bool operator!=(const Shape& other) const { return !(*this == other); }
};

// Numbers in a plan's constants: views of the content that it was read from.
struct Constant {
  const float* floats = nullptr;    // or
  const uint64_t* words = nullptr;  // bits of weights
  Shape shape;

  int64_t count() const { return shape.count(); }
};

// A field: a whole number, several, a real one, a word, or several.
struct Field {
  enum class Type { kWhole = 1, kWholes, kReal, kWord, kWords } type = Type::kWhole;
  std::vector<int> wholes;
  double real = 0;
  std::vector<std::string> words;
};

struct Operation {
  std::string kind, name;
  std::vector<std::pair<std::string, int>>
      inputs;  // role, and number of a value: 0 is the image, i what operation i - 1 gives
  std::map<std::string, Field> fields;
  std::map<std::string, Constant> constants;

  int whole(const char* field) const { return fields.at(field).wholes.at(0); }
  int whole(const char* field, int index) const { return fields.at(field).wholes.at(index); }
  float real(const char* field) const { return static_cast<float>(fields.at(field).real); }
  const std::string& word(const char* field) const { return fields.at(field).words.at(0); }
  bool has(const char* constant) const { return constants.count(constant) != 0; }
  const Constant& constant(const char* name) const { return constants.at(name); }
  // The value of a role; -1 if there is none.
  int input(const char* role) const;
};

struct Plan {
  Shape image;  // (C, H, W)
  std::string model, preprocess;
  std::vector<std::pair<std::string, std::string>> provenance;
  std::vector<std::string> class_names;
  std::vector<Operation> operations;
  std::vector<Shape> shapes;   // of the values: the image's, and what each operation gives
  std::vector<int> last_uses;  // last operation that reads each value; of the last value one that does not exist
};

constexpr size_t kHeader = 64;  // of a plan file

// Checks a header against the size of its file, and returns where the constants begin. Throws PlanError.
uint64_t constants_begin(const uint8_t* header, uint64_t size);

// Reads the content of a plan file, and checks all of it: layout, hash, operations, shapes, memory and work. The plan's
// constants are views of the content, which must lie at a multiple of 64 and outlive it.
// `hashed`: whether to compare the content with its hash. `map`: whether the last operation may give a map.
// Throws PlanError.
Plan read_plan(const uint8_t* content, size_t size, bool hashed, bool map);

// Height or width of what a window gives, and its padding before and behind; `axis` 0 or 1.
struct Side {
  int out, before, behind;
};
Side window_side(const Operation& operation, int size, int kernel, int axis);
// The same of a pooling.
int pooled_size(const Operation& operation, int size, int axis);

}  // namespace bcdzoo
