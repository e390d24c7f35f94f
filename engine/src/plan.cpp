// The checks of a whole plan: every operation fits its inputs, and an image needs neither too much memory nor work.
#include "plan.h"

#include <algorithm>

#include "operations.h"

namespace bcdzoo {
namespace {

constexpr int kMostOperations = 1 << 16;
constexpr int64_t kMostNumbers = int64_t{1} << 28;  // needed at once, those of padded maps among them
constexpr int64_t kMostSteps = int64_t{1} << 40;    // numbers touched, and products
constexpr int kWord = 64;
constexpr size_t kLongestName = 100;  // in a message

// Text of a file for a message: of one line, and short.
std::string shown(const std::string& text) {
  size_t end = std::min(text.size(), kLongestName);
  while (end < text.size() && end > 0 && (text[end] & 0xc0) == 0x80) --end;  // not within a character
  std::string line = text.substr(0, end) + (end < text.size() ? "…" : "");
  std::replace_if(line.begin(), line.end(), [](unsigned char c) { return c < 0x20 || c == 0x7f; }, '?');
  return line;
}

[[noreturn]] void fail(const Plan& plan, size_t number, const std::string& what) {
  const Operation& operation = plan.operations[number];
  throw PlanError("operation " + std::to_string(number) + " (" + shown(operation.kind) + " of " +
                  shown(operation.name) + "): " + what);
}

int64_t count(const Shape& shape) {
  const int* sizes = shape.sizes;
  switch (shape.rank) {
    case 1:
      return sizes[0];
    case 3:
      return product({sizes[0], sizes[1], sizes[2]});
    default:
      return product({sizes[0], sizes[1], sizes[2], sizes[3]});
  }
}

// Numbers of the padded map that a window slides over; 0 if there is no window.
int64_t padded(const Operation& operation, const Shape& shape, const Shape& out) {
  if (!operation.fields.count("stride")) return 0;
  const auto kernel = operation.fields.find("kernel");
  const bool same = operation.fields.count("same") && operation.whole("same"), pooling = operation.kind == "pool";
  int64_t sizes[2];
  for (int axis : {0, 1}) {
    const int64_t taps = kernel != operation.fields.end() ? kernel->second.wholes[axis]
                                                          : operation.constant("weight").shape.sizes[2 + axis];
    const int64_t before = same ? 0 : operation.whole("padding", axis);
    const int64_t behind = same ? 0 : operation.whole("padding", pooling ? axis : axis + 2);
    const int64_t extent = (pooling ? 1 : operation.whole("dilation", axis)) * (taps - 1) + 1;
    const int64_t in_size = axis ? shape.width() : shape.height(), out_size = axis ? out.width() : out.height();
    sizes[axis] = std::max(in_size + before + behind, (out_size - 1) * operation.whole("stride", axis) + extent);
  }
  return product({shape.levels(), shape.channels(), sizes[0], sizes[1]});
}

// Numbers read and written, each as often as it has taps, and each weight once a pixel and basis.
int64_t steps_of(const Operation& operation, const std::vector<Shape>& inputs, const Shape& out) {
  int64_t taps = 1, weights = 0, all = 0;
  if (const auto kernel = operation.fields.find("kernel"); kernel != operation.fields.end())
    taps = product({kernel->second.wholes[0], kernel->second.wholes[1]});
  for (const auto& each : operation.constants) weights += each.second.count() * (each.second.words ? kWord : 1);
  for (const Shape& input : inputs) all += count(input);
  if (operation.kind == "binary_attention")  // two products of each query, key and channel
    all += product({2, count(out), inputs[1].height(), inputs[1].width()});
  const int64_t behind_first =
      out.rank == 4 ? product({out.sizes[1], out.sizes[2], out.sizes[3]}) : product({out.height(), out.width()});
  return all + product({count(out), taps}) + product({weights, inputs[0].levels(), behind_first});
}

void set_last_uses(Plan& plan) {
  const int operations = static_cast<int>(plan.operations.size());
  plan.last_uses.resize(plan.operations.size() + 1);
  for (int value = 0; value <= operations; ++value) plan.last_uses[value] = value - 1;
  for (int number = 0; number < operations; ++number)
    for (const auto& input : plan.operations[number].inputs) {
      if (input.second > number) fail(plan, number, "an input is no earlier value");
      plan.last_uses[input.second] = number;
    }
  plan.last_uses[operations] = operations;
}

// What an image needs, from the first operation to one of them.
struct Need {
  int64_t live = 0, steps = 0;

  void check(const Plan& plan, size_t number, int64_t more) const {
    if (steps > kMostSteps)
      fail(plan, number, "an image would need more than " + std::to_string(kMostSteps) + " steps");
    if (live + more > kMostNumbers)
      fail(plan, number, "an image would need more than " + std::to_string(kMostNumbers) + " numbers at once");
  }
};

// Numbers that nothing reads behind an operation.
int64_t ended(const Plan& plan, size_t number) {
  std::vector<int> values = {static_cast<int>(number) + 1};
  for (const auto& input : plan.operations[number].inputs) values.push_back(input.second);
  std::sort(values.begin(), values.end());
  values.erase(std::unique(values.begin(), values.end()), values.end());
  int64_t all = 0;
  for (int value : values)
    if (plan.last_uses[value] <= static_cast<int>(number)) all += count(plan.shapes[value]);
  return all;
}

void add_shape(Plan& plan, size_t number, Need& need) {
  const Operation& operation = plan.operations[number];
  std::vector<Shape> inputs;
  for (const auto& input : operation.inputs) inputs.push_back(plan.shapes[input.second]);
  try {
    plan.shapes.push_back(check_operation(operation, inputs));
  } catch (const PlanError& error) {
    fail(plan, number, error.what());
  }
  const Shape& out = plan.shapes.back();
  const int64_t window = padded(operation, inputs[0], out);
  need.live += count(out);
  need.steps += steps_of(operation, inputs, out) + window;
  need.check(plan, number, window);
  need.live -= ended(plan, number);
}

}  // namespace

void check_plan(Plan& plan, bool map) {
  for (int i = 0; i < 3; ++i)
    require(1 <= plan.image.sizes[i] && plan.image.sizes[i] <= kMostSize, "the images are empty, too large or no maps");
  require(!plan.operations.empty() && plan.operations.size() <= kMostOperations,
          "a plan has 1 to " + std::to_string(kMostOperations) + " operations");
  set_last_uses(plan);
  plan.shapes.reserve(plan.operations.size() + 1);
  plan.shapes.assign(1, plan.image);
  Need need;
  need.live = count(plan.image);
  need.check(plan, 0, 0);
  for (size_t number = 0; number < plan.operations.size(); ++number) add_shape(plan, number, need);
  const Shape& last = plan.shapes.back();
  require(map || last.rank == 1, "the last operation does not give logits");
  require(plan.class_names.empty() || plan.class_names.size() == static_cast<size_t>(last.sizes[0]),
          "there is not one class name for each logit");
}

}  // namespace bcdzoo
