// What is known of a plan before anything is made: what runs on bits, who writes these, and whose floats are
// read at all.
#pragma once

#include <optional>
#include <utility>
#include <vector>

#include "layouts.h"

namespace bcdzoo {

// Some channels of a value, and the operation that wrote them last; -1 is the image.
struct Origin {
  int first, count, operation;
};

// A unit that reads the bits of some channels, which are written with their floats.
struct BitReader {
  int unit;
  Origin origin;
};

// What the levels are that a convolution reads: -1 and +1, or whole numbers from 0 on of so many bits.
struct Levels {
  bool signs;
  int planes;
};

// Operations count from 0; value 0 is the image, value i + 1 what operation i gives.
class Analysis {
 public:
  // The plan must outlive it.
  explicit Analysis(const Plan& plan);

  int count() const { return static_cast<int>(plan_.operations.size()); }
  const Operation& operation(int i) const { return plan_.operations[i]; }
  const Shape& shape(int value) const { return plan_.shapes[value]; }
  int input(int i, const char* role = "x") const { return operation(i).input(role); }
  bool has_input(int i, const char* role) const { return input(i, role) >= 0; }

  // Convolutions of bits that the kernels know, of one bit and of several; also of the image's -1, which is neither.
  bool is_unit(int i) const { return i >= 0 && roles_[i] == Role::kUnit; }
  bool is_low_bit(int i) const { return i >= 0 && roles_[i] == Role::kLowBit; }

  Sliding sliding_of(int i) const;
  // Channels that a unit computes.
  int c_out(int i) const;
  // Input channels of each group of a convolution of bits, and dwords of theirs.
  int group_in(int i) const { return shape(input(i)).channels() / operation(i).whole("groups"); }
  int group_dwords(int i) const { return ceil_div(group_in(i), 32); }
  // Whether a group's bits do not begin at dwords of a map's.
  bool spreads_groups(int i) const { return operation(i).whole("groups") > 1 && group_in(i) % 32; }
  bool appends(int i) const { return operation(i).whole("append") != 0; }
  bool has_shortcut(int i, const char* kind) const { return operation(i).word("shortcut") == kind; }
  bool adds_to_last(int i) const { return has_shortcut(i, "same") && c_out(i) < shape(input(i)).channels(); }

  // Of a low-bit convolution: makers of the levels of its input, one for each basis that is stacked, else the
  // value's own.
  std::vector<int> level_values(int i) const;
  // As their makers say; nothing if there is none or the kernels do not know such levels.
  std::optional<Levels> levels_of(int i) const;
  // Whether an operation gives a convolution of few bits its bits without floats between them.
  bool gives_bits(int maker) const;

  // Of a real-valued convolution.
  bool is_depthwise(int i) const;
  int group_out(int i) const { return operation(i).constant("weight").shape.sizes[0] / operation(i).whole("groups"); }
  // Whether a vector of outputs belongs to several groups.
  bool is_narrow(int i) const;
  // Whether every vector or panel of outputs belongs to a group, or to whole ones.
  bool groups_fit(int i) const;

  // Whether somebody reads a value's floats.
  bool wants_floats(int value) const { return wanted_[value]; }
  // Whether somebody reads the image otherwise than a convolution that pads it does.
  bool wants_image() const;
  // The last operation that reads a value.
  int last_use(int value) const { return last_uses_[value]; }
  // Whoever writes the channels that a unit reads writes its bits too; empty: they are made when the unit runs.
  const std::vector<Origin>& bit_origins(int i) const { return bit_origins_[i]; }
  const std::vector<BitReader>& bit_readers(int value) const { return bit_readers_[value]; }

 private:
  enum class Role { kOther, kUnit, kLowBit };

  bool fits_kernels(int i) const;
  bool unit_fits(int i, const Sliding& sliding) const;
  bool low_bit_fits(int i, const Sliding& sliding) const;
  void find_level_makers();
  void find_origins();
  void find_bits();
  void find_wanted();
  void want_for_unit(int i);
  void want_for_low_bit(int i);

  const Plan& plan_;
  std::vector<Role> roles_;                          // of operations
  std::vector<int> level_makers_;                    // of values: -1 if nobody says that they are levels
  std::vector<std::vector<Origin>> origins_;         // of values
  std::vector<std::vector<Origin>> bit_origins_;     // of operations
  std::vector<std::vector<BitReader>> bit_readers_;  // of values
  std::vector<bool> wanted_;                         // of values
  std::vector<int> last_uses_;                       // of values
};

// The level of the border that a convolution's padding is filled with, if it pads.
float border_of(const Operation& operation, const Sliding& sliding);

}  // namespace bcdzoo
