#include "analysis.h"

#include <algorithm>
#include <cmath>

namespace bcdzoo {
namespace {

constexpr int kMostTaps = 32;             // of a kernel of bits, along an axis
constexpr int64_t kLargestSum = 1 << 24;  // up to which floats hold all integers
constexpr int64_t kLargestLowBitSum = 1 << 30;

// The lowest and the highest level that a quantization gives.
std::pair<float, float> quantized(const Operation& op) {
  const auto level = [&](const char* end) {
    const float value = op.real(end), step = op.real("step");
    return std::nearbyint(op.whole("divide") ? value / step : value * step) + static_cast<float>(op.whole("offset"));
  };
  return std::minmax(level("low"), level("high"));
}

}  // namespace

float border_of(const Operation& operation, const Sliding& sliding) {
  return sliding.is_padded() ? operation.real("pad_value") : 0.0f;
}

Analysis::Analysis(const Plan& plan)
    : plan_(plan),
      roles_(plan.operations.size(), Role::kOther),
      level_makers_(plan.shapes.size(), -1),
      origins_(plan.shapes.size()),
      bit_origins_(plan.operations.size()),
      bit_readers_(plan.shapes.size()),
      wanted_(plan.shapes.size()),
      last_uses_(plan.last_uses) {
  find_level_makers();
  for (int i = 0; i < count(); ++i) {
    const std::string& kind = operation(i).kind;
    if (kind == "binary_unit" && fits_kernels(i)) roles_[i] = Role::kUnit;
    if (kind == "low_bit_conv" && fits_kernels(i)) roles_[i] = Role::kLowBit;
  }
  find_origins();
  find_bits();
  find_wanted();
}

Sliding Analysis::sliding_of(int i) const {
  return Sliding(operation(i), shape(input(i)), operation(i).whole("kernel", 0), operation(i).whole("kernel", 1));
}

int Analysis::c_out(int i) const {
  return operation(i).constant("planes").shape.sizes[0] /
         static_cast<int>(operation(i).fields.at("samplings").words.size());
}

// Whether the kernels know a convolution of bits: its sums fit, and every border is a level.
bool Analysis::fits_kernels(int i) const {
  const Sliding sliding = sliding_of(i);
  if (std::max(sliding.kernel[0], sliding.kernel[1]) > kMostTaps) return false;
  const float border = border_of(operation(i), sliding);
  if (border != 0 && border != 1 && border != -1) return false;
  return operation(i).kind == "low_bit_conv" ? low_bit_fits(i, sliding) : unit_fits(i, sliding);
}

bool Analysis::unit_fits(int i, const Sliding& sliding) const {
  const Shape& in = shape(input(i));
  const auto& samplings = operation(i).fields.at("samplings").words;
  const bool sampled = std::any_of(samplings.begin(), samplings.end(), [](const auto& by) { return by != "none"; });
  const bool is_dense = !sliding.is_padded() && sliding.stride[0] == 1 && sliding.stride[1] == 1;
  if (sampled && (in.channels() % (4 * 32) || !is_dense)) return false;  // quarters of channels are whole dwords
  const int groups = operation(i).whole("groups");
  if (groups > 1) {  // a panel is of one group; a group's floats are whole vectors
    if (samplings.size() > 1 || sampled || c_out(i) / groups % kPanel || group_in(i) % kLanes) return false;
    if (spreads_groups(i) && has_input(i, "threshold")) return false;
  }
  return samplings.size() <= 3 && int64_t{in.channels()} * sliding.taps() < kLargestSum;
}

bool Analysis::low_bit_fits(int i, const Sliding& sliding) const {
  const std::optional<Levels> levels = levels_of(i);
  if (!levels || operation(i).whole("groups") != 1) return false;
  if (!levels->signs && border_of(operation(i), sliding) != 0) return false;
  int64_t largest = int64_t{shape(input(i)).channels()} * sliding.taps();
  if (!levels->signs) largest <<= levels->planes;
  return largest << operation(i).constant("planes").shape.sizes[0] < kLargestLowBitSum;
}

void Analysis::find_origins() {
  origins_[0] = {{0, shape(0).channels(), -1}};
  for (int i = 0; i < count(); ++i) {
    std::vector<Origin>& mine = origins_[i + 1];
    if (is_unit(i) && (appends(i) || adds_to_last(i))) {
      const int c_in = shape(input(i)).channels(), first = appends(i) ? c_in : c_in - c_out(i);
      for (const Origin& origin : origins_[input(i)])
        if (origin.first < first)
          mine.push_back({origin.first, std::min(origin.count, first - origin.first), origin.operation});
      mine.push_back({first, c_out(i), i});
    } else {
      mine = {{0, shape(i + 1).channels(), i}};
    }
  }
}

// Bits of units with thresholds of their own are written when the floats are, by whoever writes these.
void Analysis::find_bits() {
  for (int i = 0; i < count(); ++i) {
    if (!is_unit(i) || has_input(i, "threshold") || spreads_groups(i)) continue;
    const std::vector<Origin>& origins = origins_[input(i)];
    const auto is_aligned = [](const Origin& origin) { return origin.first % 32 == 0; };
    if (!std::all_of(origins.begin(), origins.end(), is_aligned)) continue;
    bit_origins_[i] = origins;
    for (const Origin& origin : origins) bit_readers_[origin.operation + 1].push_back({i, origin});
  }
}

std::optional<Levels> Analysis::levels_of(int i) const {
  std::optional<Levels> found;
  for (const int value : level_values(i)) {
    const int maker = level_makers_[value];
    if (maker < 0) return {};
    const std::string& kind = operation(maker).kind;
    Levels one{kind == "binarize", 1};
    if (kind == "quantize") {
      const auto [least, most] = quantized(operation(maker));
      if (!(least >= 0 && most < 1 << 16)) return {};
      while (most >= 1 << one.planes) ++one.planes;
    }
    if (found && (found->signs != one.signs || found->planes != one.planes)) return {};
    found = one;
  }
  return found;
}

// Levels come from three kinds of operations, and from those that only move or choose numbers.
void Analysis::find_level_makers() {
  for (int i = 0; i < count(); ++i) {
    const std::string& kind = operation(i).kind;
    const bool moves = kind == "slice" || kind == "reshape" || kind == "permute" ||
                       (kind == "pool" && operation(i).word("name") == "max");
    if (kind == "binarize" || kind == "encode" || kind == "quantize") level_makers_[i + 1] = i;
    if (moves) level_makers_[i + 1] = level_makers_[input(i)];
  }
}

bool Analysis::gives_bits(int maker) const {
  if (maker < 0) return false;
  const std::string& kind = operation(maker).kind;
  return kind == "quantize" || kind == "encode" || (kind == "binarize" && !has_input(maker, "threshold"));
}

std::vector<int> Analysis::level_values(int i) const {
  const int value = input(i), maker = value - 1;
  if (maker < 0 || operation(maker).kind != "stack") return {value};
  std::vector<int> values;
  for (const auto& [role, part] : operation(maker).inputs) values.push_back(part);
  return values;
}

// Those who use a value come behind its maker, so that this goes backwards.
void Analysis::find_wanted() {
  wanted_[count()] = true;
  for (int i = count() - 1; i >= 0; --i) {
    if (is_unit(i)) {
      want_for_unit(i);
    } else if (is_low_bit(i)) {
      want_for_low_bit(i);
    } else if (wanted_[i + 1]) {
      for (const auto& [role, value] : operation(i).inputs) wanted_[value] = true;
    }
  }
}

void Analysis::want_for_unit(int i) {
  for (const auto& [role, value] : operation(i).inputs)
    if (role != "x") wanted_[value] = true;
  const bool adds = has_shortcut(i, "same") || has_shortcut(i, "average-pool") || has_shortcut(i, "duplicate");
  if (adds || bit_origins_[i].empty() || (appends(i) && wanted_[i + 1])) wanted_[input(i)] = true;
  for (const Origin& origin : bit_origins_[i])
    if (!is_unit(origin.operation)) wanted_[origin.operation + 1] = true;
}

void Analysis::want_for_low_bit(int i) {
  for (const int value : level_values(i)) {
    const int read = gives_bits(value - 1) ? input(value - 1) : value;
    wanted_[read] = true;
    last_uses_[read] = std::max(last_uses_[read], i);  // later than by the operation that is left out
  }
}

bool Analysis::is_depthwise(int i) const {
  const int groups = operation(i).whole("groups"), channels = shape(input(i)).channels();
  return groups > 1 && groups == channels && operation(i).constant("weight").shape.sizes[0] == channels;
}

bool Analysis::is_narrow(int i) const {
  return operation(i).whole("groups") > 1 && group_out(i) < kPanel && kLanes % group_out(i) == 0;
}

bool Analysis::groups_fit(int i) const {
  return operation(i).whole("groups") == 1 || is_narrow(i) || group_out(i) % kPanel == 0;
}

bool Analysis::wants_image() const {
  // a convolution that is not depthwise takes the image as it is
  const auto reads_as_given = [&](int i) { return operation(i).kind == "conv" && groups_fit(i) && !is_depthwise(i); };
  bool is_read = count() == 0;
  for (int i = 0; i < count(); ++i)
    for (const auto& [role, value] : operation(i).inputs) is_read = is_read || (value == 0 && !reads_as_given(i));
  return is_read && wanted_[0];
}

}  // namespace bcdzoo
