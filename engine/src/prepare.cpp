#include "prepare.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <optional>

#include "binary_tasks.h"
#include "real_tasks.h"

namespace bcdzoo {
namespace {

constexpr int64_t kMostBytes = int64_t{1} << 32;  // of a map, and of all indices and constants: indices are 32 bits wide
constexpr int64_t kSlack = 256;       // bytes behind a slot, for vectors that read and write whole panels
constexpr int kMostTaps = 32;         // of a kernel of bits, along an axis
constexpr int64_t kLargestSum = 1 << 24;  // up to which floats hold all integers

Floats filled(const Constant& constant, int count, int padded, float rest) {
  Floats values(padded, rest);
  for (int i = 0; i < count; ++i) values[i] = constant.floats[constant.count() == 1 ? 0 : i];
  return values;
}

// A constant of each channel, padded; empty if there is none.
Floats constants_of(const Operation& operation, const char* name, int count, int padded, float rest = 0.0f) {
  return operation.has(name) ? filled(operation.constant(name), count, padded, rest) : Floats();
}

// Height and width of what slides over a map.
struct Sliding {
  int kernel[2], stride[2], dilation[2], out[2], before[2], behind[2];

  Sliding(const Operation& operation, const Shape& shape, int kernel_height, int kernel_width) : kernel{kernel_height, kernel_width} {
    for (int axis = 0; axis < 2; ++axis) {
      stride[axis] = operation.whole("stride", axis);
      dilation[axis] = operation.whole("dilation", axis);
      const Side side = window_side(operation, axis ? shape.width() : shape.height(), kernel[axis], axis);
      out[axis] = side.out;
      before[axis] = side.before;
      behind[axis] = side.behind;
    }
  }
  int extent(int axis) const { return (kernel[axis] - 1) * dilation[axis] + 1; }
  bool is_padded() const { return before[0] || before[1] || behind[0] || behind[1]; }
  int taps() const { return kernel[0] * kernel[1]; }
  int64_t pixels() const { return int64_t{out[0]} * out[1]; }

  // Windows in a map of so many columns, of `step` elements a pixel, of which `length` are read.
  Windows windows(int columns, int64_t step, int length) const {
    Windows made;
    const bool whole_rows = length == step && dilation[1] == 1;  // a row of the kernel is one run
    for (int row = 0; row < kernel[0]; ++row)
      for (int column = 0; column < (whole_rows ? 1 : kernel[1]); ++column)
        made.run_at.push_back(static_cast<int32_t>((int64_t{row} * dilation[0] * columns + column * dilation[1]) * step));
    made.length = whole_rows ? length * kernel[1] : length;
    for (int y = 0; y < out[0]; ++y)
      for (int x = 0; x < out[1]; ++x)
        made.window_at.push_back(static_cast<int32_t>((int64_t{y} * stride[0] * columns + x * stride[1]) * step));
    return made;
  }
};

// Some channels of a value, and the operation that wrote them last; -1 is the image.
struct Origin {
  int first, count, operation;
};

// Bits that a convolution reads: whose they are, and when they are made.
struct Bits {
  std::shared_ptr<BitMap> map;
  std::vector<Origin> origins;  // empty: they are made when the convolution runs
};

class Builder {
 public:
  explicit Builder(const Plan& plan)
      : plan_(plan), count_(static_cast<int>(plan.operations.size())), last_uses_(plan.last_uses), users_(plan.shapes.size()),
        origins_(plan.shapes.size()), wanted_(plan.shapes.size()), places_(plan.shapes.size()), bits_(count_), readers_(count_ + 1) {}

  Program build() {
    for (int i = 0; i < count_; ++i)
      for (const auto& [role, value] : operation(i).inputs) users_[value].push_back(i);
    find_origins();
    find_bits();
    find_wanted();
    load_image();
    for (int i = 0; i < count_; ++i) {
      current_ = i;
      emit(i);
    }
    give_result();
    for (Slot& slot : program_.slots)
      if (!slot.bytes) size(slot);
    for (const auto& finish : later_) finish();
    return std::move(program_);
  }

 private:
  const Operation& operation(int i) const { return plan_.operations[i]; }
  const Shape& shape(int value) const { return plan_.shapes[value]; }
  int input(int i, const char* role = "x") const { return operation(i).input(role); }
  bool has_input(int i, const char* role) const { return input(i, role) >= 0; }

  // What is known before anything is made.

  bool is_unit(int i) const { return i >= 0 && operation(i).kind == "binary_unit" && fits_kernels(i); }
  bool is_low_bit(int i) const { return i >= 0 && operation(i).kind == "low_bit_conv" && fits_kernels(i); }

  // Whether the kernels know a convolution of bits: its sums fit, and every border is a level.
  bool fits_kernels(int i) const {
    const Operation& op = operation(i);
    const Shape& in = shape(input(i));
    const Sliding sliding = sliding_of(i);
    if (op.whole("groups") != 1 || std::max(sliding.kernel[0], sliding.kernel[1]) > kMostTaps) return false;
    const float border = border_of(op, sliding);
    int64_t largest = int64_t{in.channels()} * sliding.taps();
    if (op.kind == "low_bit_conv") {
      const int w_bits = op.constant("planes").shape.sizes[0];
      const std::optional<Levels> levels = levels_of(i);
      if (!levels) return false;
      if (!levels->signs) largest <<= levels->planes;
      largest <<= w_bits;
      if (!levels->signs && border != 0) return false;
      if (largest >= int64_t{1} << 30) return false;
    } else {
      const auto& samplings = op.fields.at("samplings").words;
      const bool sampled = std::any_of(samplings.begin(), samplings.end(), [](const std::string& by) { return by != "none"; });
      if (sampled && (in.channels() % (4 * 32) || sliding.is_padded() || sliding.stride[0] != 1 || sliding.stride[1] != 1)) return false;
      if (samplings.size() > 3 || largest >= kLargestSum) return false;
    }
    return border == 0 || border == 1 || border == -1;
  }

  // Level of the border, if there is one.
  static float border_of(const Operation& op, const Sliding& sliding) { return sliding.is_padded() ? op.real("pad_value") : 0.0f; }

  Sliding sliding_of(int i) const {
    return Sliding(operation(i), shape(input(i)), operation(i).whole("kernel", 0), operation(i).whole("kernel", 1));
  }

  int c_out(int i) const {  // that a unit computes
    return operation(i).constant("planes").shape.sizes[0] / static_cast<int>(operation(i).fields.at("samplings").words.size());
  }

  bool appends(int i) const { return operation(i).whole("append") != 0; }
  bool has_shortcut(int i, const char* kind) const { return operation(i).word("shortcut") == kind; }
  bool adds_to_last(int i) const { return has_shortcut(i, "same") && c_out(i) < shape(input(i)).channels(); }

  void find_origins() {
    origins_[0] = {{0, shape(0).channels(), -1}};
    for (int i = 0; i < count_; ++i) {
      std::vector<Origin>& mine = origins_[i + 1];
      if (is_unit(i) && (appends(i) || adds_to_last(i))) {
        const int c_in = shape(input(i)).channels(), first = appends(i) ? c_in : c_in - c_out(i);
        for (const Origin& origin : origins_[input(i)])
          if (origin.first < first) mine.push_back({origin.first, std::min(origin.count, first - origin.first), origin.operation});
        mine.push_back({first, c_out(i), i});
      } else {
        mine = {{0, shape(i + 1).channels(), i}};
      }
    }
  }

  // Bits of units with thresholds of their own are written when the floats are, by whoever writes these.
  void find_bits() {
    for (int i = 0; i < count_; ++i) {
      if (!is_unit(i) && !is_low_bit(i)) continue;
      bits_[i].map = bit_map(i);
      if (!is_unit(i) || has_input(i, "threshold")) continue;
      const std::vector<Origin>& origins = origins_[input(i)];
      const bool aligned = std::all_of(origins.begin(), origins.end(), [](const Origin& origin) { return origin.first % 32 == 0; });
      if (!aligned) continue;
      bits_[i].origins = origins;
      for (const Origin& origin : origins) readers_[origin.operation + 1].push_back({i, origin});
    }
  }

  std::shared_ptr<BitMap> bit_map(int i) {
    const Shape& in = shape(input(i));
    const Sliding sliding = sliding_of(i);
    auto map = std::make_shared<BitMap>();
    map->dwords = ceil_div(in.channels(), 32);
    map->planes = in.levels() * (is_low_bit(i) ? levels_of(i)->planes : 1);
    map->height = in.height();
    map->width = in.width();
    map->top = sliding.before[0];
    map->left = sliding.before[1];
    map->bottom = sliding.behind[0];
    map->right = sliding.behind[1];
    spend(int64_t{map->height} * map->width);
    for (int y = 0; y < map->height; ++y)
      for (int x = 0; x < map->width; ++x)
        map->pixel_at.push_back(((y + map->top) * map->padded_width() + x + map->left) * map->dwords);
    return map;
  }

  // What the levels are that a convolution reads: -1 and +1, or whole numbers from 0 on of so many bits.
  struct Levels {
    bool signs;
    int planes;
  };

  // As their maker says, else as the convolution does; nothing if the kernels do not know such levels.
  std::optional<Levels> levels_of(int i) const {
    const int stated = operation(i).whole("a_bits");
    std::optional<Levels> found;
    for (const int value : level_values(i)) {
      const std::string kind = value ? operation(value - 1).kind : "";
      Levels one{stated == 1, stated};
      if (kind == "binarize") one = {true, 1};
      if (kind == "encode") one = {false, 1};
      if (kind == "quantize") {
        const auto [least, most] = quantized(operation(value - 1));
        if (!(least >= 0 && most < 1 << 16)) return {};
        one = {false, 1};
        while (most >= 1 << one.planes) ++one.planes;
      }
      if (found && (found->signs != one.signs || found->planes != one.planes)) return {};
      found = one;
    }
    return found;
  }

  // The lowest and the highest level that a quantization gives.
  static std::pair<float, float> quantized(const Operation& op) {
    const auto level = [&](const char* end) {
      const float value = op.real(end), step = op.real("step");
      return std::nearbyint(op.whole("divide") ? value / step : value * step) + static_cast<float>(op.whole("offset"));
    };
    return std::minmax(level("low"), level("high"));
  }

  // What gives a convolution of few bits its bits without floats between them.
  bool gives_bits(int maker) const {
    if (maker < 0) return false;
    const Operation& op = operation(maker);
    return op.kind == "quantize" || op.kind == "encode" || (op.kind == "binarize" && !has_input(maker, "threshold"));
  }

  // Makers of the levels of a convolution's input, one for each basis that is stacked; else the value's own.
  std::vector<int> level_values(int i) const {
    const int value = input(i), maker = value - 1;
    std::vector<int> values;
    if (maker >= 0 && operation(maker).kind == "stack")
      for (const auto& [role, part] : operation(maker).inputs) values.push_back(part);
    else
      values.push_back(value);
    return values;
  }

  // Whose floats are read. Those who use a value come behind its maker, so that this goes backwards.
  void find_wanted() {
    wanted_[count_] = true;
    for (int i = count_ - 1; i >= 0; --i) {
      if (is_unit(i)) {
        want_for_unit(i);
      } else if (is_low_bit(i)) {
        for (const int value : level_values(i)) {
          const int read = gives_bits(value - 1) ? input(value - 1) : value;
          wanted_[read] = true;
          last_uses_[read] = std::max(last_uses_[read], i);  // later than by the operation that is left out
        }
      } else if (wanted_[i + 1]) {
        for (const auto& [role, value] : operation(i).inputs) wanted_[value] = true;
      }
    }
  }

  void want_for_unit(int i) {
    for (const auto& [role, value] : operation(i).inputs)
      if (role != "x") wanted_[value] = true;
    const bool adds = has_shortcut(i, "same") || has_shortcut(i, "average-pool") || has_shortcut(i, "duplicate");
    if (adds || bits_[i].origins.empty() || (appends(i) && wanted_[i + 1])) wanted_[input(i)] = true;
    for (const Origin& origin : bits_[i].origins)
      if (!is_unit(origin.operation)) wanted_[origin.operation + 1] = true;
  }

  // Memory.

  Slot* new_slot() {
    program_.slots.emplace_back();
    return &program_.slots.back();
  }

  Place new_place(const Shape& of) {
    Slot* const slot = new_slot();
    slot->channels = of.channels();
    pixels_[slot] = int64_t{of.levels()} * of.height() * of.width();
    if (of.rank == 3) {
      slot->rows = of.height();
      slot->columns = of.width();
    }
    return {slot, 0, of};
  }

  void size(Slot& slot) {
    slot.step = padded(std::max(slot.channels, slot.room));
    set_numbers(slot, pixels_[&slot] * slot.step);
  }

  static void set_numbers(Slot& slot, int64_t numbers) {
    require(4 * numbers <= kMostBytes, "a map would need too much memory");
    slot.bytes = (4 * numbers + kSlack + 63) / 64 * 64;
  }

  // Counts numbers of 4 bytes that are about to be made: of a small file there must not be any number.
  void spend(int64_t numbers) {
    spent_ += 4 * numbers;
    require(spent_ <= kMostBytes, "the network would need too much memory");
  }

  void set(int value, const Place& place) {
    places_[value] = place;
    values_in_[place.slot].push_back(value);
  }

  const Place& place(int value) const {
    require(places_[value].slot != nullptr, "a value has no floats");
    return places_[value];
  }

  // Whether nobody needs a place's channels from one on after the current operation.
  bool may_overwrite(const Place& at, int first) const {
    const auto found = values_in_.find(at.slot);
    if (found == values_in_.end()) return true;
    for (const int value : found->second) {
      const Place& other = places_[value];
      if (other.channel + other.shape.channels() > first && last_uses_[value] > current_) return false;
    }
    return true;
  }

  // A place for a result that is computed from a value pixel by pixel: the same, if nobody needs that any more.
  Place in_place_of(int value, const Shape& of) {
    const Place& at = place(value);
    const bool alone = at.channel == 0 && at.slot->channels == of.channels() && at.shape == of;
    return alone && may_overwrite(at, 0) ? at : new_place(of);
  }

  // Tasks.

  template <class T>
  T* add(int rows = 1, bool by_rows = true) {
    auto made = std::make_unique<T>();
    T* const task = made.get();
    task->operation = current_;
    task->rows = rows;
    task->by_rows = by_rows;
    program_.tasks.push_back(std::move(made));
    return task;
  }

  static void reads(Task* task, const Place& place) { task->reads.push_back(place.slot); }

  static void gives(Task* task, const Place& place) {
    task->writes.push_back(place.slot);
    task->row_bytes = 4 * padded(place.shape.channels()) * place.shape.width();
    task->cost += 0.1 * static_cast<double>(task->row_bytes * task->rows);
  }

  // Products of real numbers, and of bits.
  static void costs(Task* task, double products, double bits) { task->cost += products / 50 + bits / 1000; }

  void load_image() {
    current_ = 0;
    for (const int user : users_[0]) image_as_map_ = image_as_map_ || !reads_padded_image(user);
    image_as_map_ = image_as_map_ || count_ == 0;
    if (image_as_map_ && wanted_[0]) {
      ImageTask* const task = add<ImageTask>(shape(0).height());
      task->to = new_place(shape(0));
      set(0, task->to);
      gives(task, task->to);
    }
    write_bits(-1);
  }

  // A convolution that is not depthwise takes the image as it is.
  bool reads_padded_image(int i) const { return operation(i).kind == "conv" && groups_fit(i) && !is_depthwise(i); }

  void give_result() {
    current_ = count_ - 1;
    ResultTask* const task = add<ResultTask>(1, false);
    task->from = place(count_);
    reads(task, task->from);
  }

  void emit(int i) {
    const Operation& op = operation(i);
    if (is_unit(i)) {
      emit_unit(i);
    } else if (is_low_bit(i)) {
      emit_low_bit(i);
    } else if (wanted_[i + 1]) {
      const auto known = emitters().find(op.kind);
      if (known == emitters().end() || !(this->*known->second)(i)) emit_reference(i);
    }
    write_bits(i);
  }

  using Emitter = bool (Builder::*)(int);

  // What makes the tasks of a kind of operation; it returns false if the kernels do not know this one.
  static const std::map<std::string, Emitter>& emitters() {
    static const std::map<std::string, Emitter> known = {
        {"conv", &Builder::emit_conv},         {"linear", &Builder::emit_linear},     {"scale_shift", &Builder::emit_pointwise},
        {"prelu", &Builder::emit_pointwise},   {"clip", &Builder::emit_pointwise},    {"function", &Builder::emit_pointwise},
        {"add", &Builder::emit_elementwise},   {"subtract", &Builder::emit_elementwise}, {"multiply", &Builder::emit_elementwise},
        {"pool", &Builder::emit_pool},         {"mean", &Builder::emit_context},      {"context", &Builder::emit_context},
        {"concat", &Builder::emit_concat},     {"slice", &Builder::emit_slice},       {"reshape", &Builder::emit_reshape},
        {"pad", &Builder::emit_pad},
    };
    return known;
  }

  void emit_reference(int i) {
    ReferenceTask* const task = add<ReferenceTask>(1, false);
    task->source = &operation(i);
    for (const auto& [role, value] : operation(i).inputs) {
      task->from.push_back(place(value));
      reads(task, task->from.back());
    }
    task->to = new_place(shape(i + 1));
    set(i + 1, task->to);
    gives(task, task->to);
  }

  bool is_depthwise(int i) const {
    const Operation& op = operation(i);
    return op.whole("groups") > 1 && op.whole("groups") == shape(input(i)).channels() &&
           op.constant("weight").shape.sizes[0] == shape(input(i)).channels();
  }

  int group_out(int i) const { return operation(i).constant("weight").shape.sizes[0] / operation(i).whole("groups"); }

  // Whether a vector of outputs belongs to several groups.
  bool is_narrow(int i) const { return operation(i).whole("groups") > 1 && group_out(i) < kPanel && kLanes % group_out(i) == 0; }

  // Whether every vector or panel of outputs belongs to a group, or to whole ones.
  bool groups_fit(int i) const { return operation(i).whole("groups") == 1 || is_narrow(i) || group_out(i) % kPanel == 0; }

  bool emit_conv(int i) {
    if (!groups_fit(i)) return false;
    const Operation& op = operation(i);
    const Constant& weight = op.constant("weight");
    const Sliding sliding(op, shape(input(i)), weight.shape.sizes[2], weight.shape.sizes[3]);
    return is_narrow(i) ? emit_grouped(i, sliding) : emit_dense(i, sliding);
  }

  // The input of a window with its padding: a copy of `step` floats a pixel, or the map itself.
  struct Padded {
    Place place;
    int columns, rows;
    bool is_copy;
  };

  Padded padded_input(int i, const Sliding& sliding, int64_t step) {
    const Shape& in = shape(input(i));
    const bool of_image = input(i) == 0 && step == in.channels();
    if (!of_image && !sliding.is_padded() && sliding.taps() == 1) {
      return {place(input(i)), in.width(), in.height(), false};
    }
    const int rows = sliding.before[0] + in.height() + sliding.behind[0];
    PadTask* const task = add<PadTask>(rows);
    task->of_image = of_image;
    if (!of_image) {
      task->from = place(input(i));
      reads(task, task->from);
    }
    task->to = new_slot();
    task->channels = in.channels();
    task->height = in.height();
    task->width = in.width();
    task->top = sliding.before[0];
    task->left = sliding.before[1];
    task->bottom = sliding.behind[0];
    task->right = sliding.behind[1];
    task->step = step;
    task->value = operation(i).real("pad_value");
    const int columns = task->padded_width();
    task->to->step = step;
    set_numbers(*task->to, step * columns * rows);
    task->writes.push_back(task->to);
    task->row_bytes = 4 * step * columns;
    return {{task->to, 0, {}}, columns, rows, true};
  }

  bool emit_dense(int i, const Sliding& sliding) {
    const Operation& op = operation(i);
    const Constant& weight = op.constant("weight");
    const int outputs = weight.shape.sizes[0], group_in = weight.shape.sizes[1], groups = op.whole("groups");
    const Padded from = padded_input(i, sliding, shape(input(i)).channels());
    FloatConvTask* const task = add<FloatConvTask>(sliding.out[0]);
    FloatConv& conv = task->conv;
    conv.c_out = outputs;
    conv.relu = op.whole("relu") != 0;
    const int all = conv.padded_out(), c_in = group_in * groups, length = group_in;  // channels that a panel reads
    conv.bias = constants_of(op, "bias", outputs, all);
    conv.alpha = constants_of(op, "alpha", outputs, all);
    conv.beta = constants_of(op, "beta", outputs, all);
    for (int panel = 0; groups > 1 && panel < conv.panels_count(); ++panel) conv.panel_at.push_back(panel * kPanel / group_out(i) * group_in);
    const int taps = sliding.taps();
    spend(sliding.pixels() + int64_t{all} * taps * length);
    costs(task, static_cast<double>(sliding.pixels()) * all * taps * length, 0);
    conv.panels.assign(static_cast<size_t>(all) * taps * length, 0.0f);
    for (int o = 0; o < outputs; ++o) {
      float* const to = conv.panels.data() + static_cast<int64_t>(o / kPanel) * taps * length * kPanel + o % kPanel;
      for (int c = 0; c < group_in; ++c)
        for (int tap = 0; tap < taps; ++tap)
          to[(static_cast<int64_t>(tap) * length + c) * kPanel] = weight.floats[(static_cast<int64_t>(o) * group_in + c) * taps + tap];
    }
    task->from = from.place;
    task->is_direct = !from.is_copy;
    task->stride = sliding.stride[0];
    task->extent = sliding.extent(0);
    task->height = from.rows;
    task->reads = {from.place.slot};
    task->to = new_place(shape(i + 1));
    set(i + 1, task->to);
    gives(task, task->to);
    later_.push_back([=] { task->conv.windows = sliding.windows(from.columns, from.place.slot->step, length); });
    return true;
  }

  bool emit_grouped(int i, const Sliding& sliding) {
    const Operation& op = operation(i);
    const Constant& weight = op.constant("weight");
    const bool single = is_depthwise(i);
    const int c_in = shape(input(i)).channels(), outputs = shape(i + 1).channels(), all = static_cast<int>(padded(outputs));
    const int group_in = weight.shape.sizes[1], taps = sliding.taps();
    const Padded from = padded_input(i, sliding, single ? all : c_in);
    spend(sliding.pixels() + int64_t{all} * taps * group_in);
    GroupedTask* const task = add<GroupedTask>(sliding.out[0]);
    costs(task, static_cast<double>(sliding.pixels()) * all * taps * group_in, 0);
    const auto fill = [&](auto& conv) {
      conv.relu = op.whole("relu") != 0;
      conv.bias = constants_of(op, "bias", outputs, all);
      conv.alpha = constants_of(op, "alpha", outputs, all);
      conv.beta = constants_of(op, "beta", outputs, all);
      conv.weights.assign(static_cast<size_t>(all) * taps * group_in, 0.0f);
    };
    if (single) {
      task->depthwise.channels = outputs;
      fill(task->depthwise);
    } else {
      task->narrow.c_out = outputs;
      task->narrow.group_in = group_in;
      task->narrow.group_out = group_out(i);
      fill(task->narrow);
    }
    for (int o = 0; o < outputs; ++o)
      for (int c = 0; c < group_in; ++c)
        for (int tap = 0; tap < taps; ++tap) {
          const float value = weight.floats[(int64_t{o} * group_in + c) * taps + tap];
          if (single)
            task->depthwise.weights[static_cast<size_t>(tap) * all + o] = value;
          else
            task->narrow.weights[((static_cast<size_t>(o / kLanes) * taps + tap) * group_in + c) * kLanes + o % kLanes] = value;
        }
    task->from = from.place;
    task->is_direct = !from.is_copy;
    task->stride = sliding.stride[0];
    task->extent = sliding.extent(0);
    task->height = from.rows;
    task->reads = {from.place.slot};
    task->to = new_place(shape(i + 1));
    set(i + 1, task->to);
    gives(task, task->to);
    later_.push_back([=] {
      const Windows windows = sliding.windows(from.columns, from.place.slot->step, 0);  // never a whole row: taps by themselves
      (single ? task->depthwise.windows : task->narrow.windows) = windows;
      task->depthwise.windows.length = outputs;
    });
    return true;
  }

  bool emit_linear(int i) {
    const Operation& op = operation(i);
    LinearTask* const task = add<LinearTask>(1, false);
    task->weights = op.constant("weight").floats;
    task->bias = op.has("bias") ? op.constant("bias").floats : nullptr;
    task->columns = op.constant("weight").shape.sizes[1];
    task->from = place(input(i));
    task->to = new_place(shape(i + 1));
    reads(task, task->from);
    set(i + 1, task->to);
    gives(task, task->to);
    return true;
  }

  bool emit_pointwise(int i) {
    const Operation& op = operation(i);
    Pointwise step;
    const int channels = shape(i + 1).channels(), all = static_cast<int>(padded(channels));
    if (op.kind == "scale_shift") {
      step.kind = Pointwise::Kind::kScaleShift;
      step.alpha = constants_of(op, "alpha", channels, all);
      step.beta = constants_of(op, "beta", channels, all);
    } else if (op.kind == "prelu") {
      step.kind = Pointwise::Kind::kPrelu;
      step.slope = constants_of(op, "slope", channels, all);
      step.positive = constants_of(op, "positive", channels, all);
      step.shift_in = constants_of(op, "shift_in", channels, all);
      step.shift_out = constants_of(op, "shift_out", channels, all);
    } else if (op.kind == "clip") {
      step.low = op.real("low");
      step.high = op.real("high");
    } else if (op.word("name") == "abs" || op.word("name") == "sign") {
      step.kind = op.word("name") == "abs" ? Pointwise::Kind::kAbs : Pointwise::Kind::kSign;
    } else {
      return false;
    }
    add_pointwise(i, std::move(step), input(i), {});
    return true;
  }

  void add_pointwise(int i, Pointwise step, int value, const Place& other) {
    PointwiseTask* const task = add<PointwiseTask>(shape(i + 1).height());
    task->is_light = true;
    task->pointwise = std::move(step);
    task->from = place(value);
    reads(task, task->from);
    if (other.slot) {
      task->other = other;
      reads(task, other);
    }
    const bool apart = other.slot != task->from.slot || (other.channel == task->from.channel && other.shape == task->from.shape);
    task->to = apart ? in_place_of(value, shape(i + 1)) : new_place(shape(i + 1));
    set(i + 1, task->to);
    gives(task, task->to);
  }

  // Whether a value has a number for each of another's, or one for all pixels, all channels, or both.
  static bool is_operand(const Shape& of, const Shape& whole) {
    const bool pixels = (of.height() == whole.height() && of.width() == whole.width()) || (of.height() == 1 && of.width() == 1);
    return of.rank == whole.rank && pixels && (of.channels() == whole.channels() || of.channels() == 1);
  }

  bool emit_elementwise(int i) {
    const Operation& op = operation(i);
    int a = input(i, "a"), b = input(i, "b");
    const Shape& whole = shape(i + 1);
    if (whole.rank == 4) return false;
    if (shape(a) != whole && op.kind != "subtract") std::swap(a, b);
    if (shape(a) != whole || !is_operand(shape(b), whole)) return false;
    Pointwise step;
    step.kind = op.kind == "add" ? Pointwise::Kind::kAdd : op.kind == "subtract" ? Pointwise::Kind::kSubtract : Pointwise::Kind::kMultiply;
    add_pointwise(i, std::move(step), a, place(b));
    return true;
  }

  bool emit_pool(int i) {
    const Operation& op = operation(i);
    Pooling pooling;
    pooling.is_max = op.word("name") == "max";
    for (int axis = 0; axis < 2; ++axis) {
      pooling.kernel[axis] = op.whole("kernel", axis);
      pooling.stride[axis] = op.whole("stride", axis);
      pooling.padding[axis] = op.whole("padding", axis);
    }
    pooling.count_padding = op.whole("count_padding") != 0;
    set(i + 1, add_pool(pooling, input(i), shape(i + 1)));
    return true;
  }

  Place add_pool(Pooling pooling, int value, const Shape& out) {
    PoolTask* const task = add<PoolTask>(out.height());
    pooling.height = shape(value).height();
    pooling.width = shape(value).width();
    pooling.out_height = out.height();
    pooling.out_width = out.width();
    task->pooling = pooling;
    task->from = place(value);
    task->to = new_place(out);
    reads(task, task->from);
    gives(task, task->to);
    return task->to;
  }

  bool emit_context(int i) {
    const Operation& op = operation(i);
    const Shape& in = shape(input(i));
    if (op.kind == "mean") {
      std::vector<int> axes = op.fields.at("axes").wholes;
      std::sort(axes.begin(), axes.end());
      if (axes == std::vector<int>{0}) return emit_pixel_mean(i);
      if (axes != std::vector<int>{1, 2} && axes != std::vector<int>{0, 1, 2}) return false;
    }
    SumTask* const sum = add<SumTask>(in.height());
    sum->from = place(input(i));
    sum->to = new_slot();
    set_numbers(*sum->to, 2 * int64_t{in.channels()});  // doubles
    reads(sum, sum->from);
    sum->writes = {sum->to};
    sum->row_bytes = 4 * padded(in.channels()) * in.width();
    ContextTask* const task = add<ContextTask>(1, false);
    task->context = op.kind == "context" ? &op : nullptr;
    task->from = sum->to;
    task->channels = in.channels();
    task->pixels = in.height() * in.width();
    task->to = new_place(shape(i + 1));
    task->reads = {sum->to};
    set(i + 1, task->to);
    gives(task, task->to);
    return true;
  }

  bool emit_pixel_mean(int i) {
    PixelMeanTask* const task = add<PixelMeanTask>(shape(i + 1).height());
    task->from = place(input(i));
    task->to = new_place(shape(i + 1));
    reads(task, task->from);
    set(i + 1, task->to);
    gives(task, task->to);
    return true;
  }

  bool emit_pad(int i) {  // around a map; channels are not padded often
    const Operation& op = operation(i);
    if (op.whole("before", 0) || op.whole("behind", 0)) return false;
    const Shape& in = shape(input(i));
    PadTask* const task = add<PadTask>(shape(i + 1).height());
    task->from = place(input(i));
    reads(task, task->from);
    const Place to = new_place(shape(i + 1));
    task->to = to.slot;
    task->channels = in.channels();
    task->height = in.height();
    task->width = in.width();
    task->top = op.whole("before", 1);
    task->left = op.whole("before", 2);
    task->bottom = op.whole("behind", 1);
    task->right = op.whole("behind", 2);
    task->value = op.real("value");
    set(i + 1, to);
    gives(task, to);
    later_.push_back([=] { task->step = to.slot->step; });
    return true;
  }

  bool emit_concat(int i) {
    std::vector<Place> from;
    for (const auto& [role, value] : operation(i).inputs) from.push_back(place(value));
    set(i + 1, add_concat(from, shape(i + 1)));
    return true;
  }

  Place add_concat(const std::vector<Place>& from, const Shape& out) {
    ConcatTask* const task = add<ConcatTask>(out.height());
    task->from = from;
    task->to = new_place(out);
    for (const Place& one : from) reads(task, one);
    gives(task, task->to);
    return task->to;
  }

  bool emit_slice(int i) {  // of channels: a view
    const Operation& op = operation(i);
    if (op.whole("axis") != 0 || op.whole("step") != 1) return false;
    Place view = place(input(i));
    view.channel += op.whole("start");
    view.shape = shape(i + 1);
    set(i + 1, view);
    return true;
  }

  bool emit_reshape(int i) {  // of a pixel: a view
    const Shape &in = shape(input(i)), &out = shape(i + 1);
    if (in.height() * in.width() != 1 || out.height() * out.width() != 1) return false;
    Place view = place(input(i));
    view.shape = out;
    set(i + 1, view);
    return true;
  }

  // Convolutions of bits.

  // Makes the bits that later convolutions read of what an operation (-1: the image) gives, unless it does so itself.
  void write_bits(int maker) {
    for (const auto& [reader, origin] : readers_[maker + 1]) {
      if (is_unit(maker)) continue;
      begin_bits(reader);
      Place from = place(maker + 1);
      BitsTask* const task = add_bits(reader, from, 0, origin.first);
      task->threshold = thresholds(reader, origin.first, origin.count, INFINITY);
    }
  }

  Floats thresholds(int unit, int first, int count, float rest) const {
    const Constant& all = operation(unit).constant("threshold");
    Floats mine(round_up(count, 32), rest);
    for (int c = 0; c < count; ++c) mine[c] = all.floats[first + c];
    return mine;
  }

  // Gives the bits of a convolution their memory, before anybody writes them.
  void begin_bits(int i) {
    BitMap& map = *bits_[i].map;
    if (map.slot) return;
    map.slot = new_slot();
    set_numbers(*map.slot, map.plane_dwords() * map.planes);
    if (!map.top && !map.left && !map.bottom && !map.right) return;
    BorderTask* const task = add<BorderTask>(1, false);
    task->to = bits_[i].map;
    task->first = true;
    task->writes = {map.slot};
  }

  BitsTask* add_bits(int i, const Place& from, int plane, int channel) {
    const BitMap& map = *bits_[i].map;
    BitsTask* const task = add<BitsTask>(map.height);
    task->from = from;
    task->to = bits_[i].map;
    task->first_plane = plane;
    task->first_dword = channel / 32;
    task->reads = {from.slot};
    task->writes = {map.slot};
    task->row_bytes = 4 * padded(from.shape.channels()) * from.shape.width();
    return task;
  }

  // One value of each channel, where there is one for all.
  Place expanded(const Place& at, int channels) {
    if (at.shape.channels() == channels) return at;
    Shape wide = at.shape;
    wide.sizes[0] = channels;
    return add_concat(std::vector<Place>(channels, at), wide);
  }

  void emit_unit(int i) {
    const Operation& op = operation(i);
    const Shape& in = shape(input(i));
    const int outputs = c_out(i);
    if (bits_[i].origins.empty()) {
      begin_bits(i);
      const Place limits = has_input(i, "threshold") ? expanded(place(input(i, "threshold")), in.channels()) : Place();
      BitsTask* const task = add_bits(i, place(input(i)), 0, 0);
      if (limits.slot) {
        task->limits = limits;
        reads(task, limits);
      } else {
        task->threshold = thresholds(i, 0, in.channels(), INFINITY);
      }
    }
    const Place gate = has_input(i, "gate") ? expanded(place(input(i, "gate")), outputs) : Place();
    const Place offset = has_input(i, "offset") ? expanded(place(input(i, "offset")), outputs) : Place();
    Shape computed = shape(i + 1);
    computed.sizes[0] = outputs;
    int repeats = 0;
    const Place shortcut = shortcut_of(i, computed, repeats);
    const Place to = wanted_[i + 1] ? unit_output(i, computed, shortcut) : Place();
    for (const auto& [reader, origin] : readers_[i + 1]) begin_bits(reader);
    UnitTask* const task = add<UnitTask>(computed.height());
    task->to = to;
    task->shortcut = adds_to_last(i) ? to : shortcut;
    task->shortcut_channels = repeats;
    task->gate = gate;
    task->offset = offset;
    set_up(task, i);
    BinaryConv& conv = task->conv;
    conv.c_out = outputs;
    add_terms(task, i);
    const int all = conv.padded_out();
    for (const auto& [name, values] : {std::pair{"inner_slope", &conv.inner_slope}, {"alpha", &conv.alpha}, {"beta", &conv.beta},
                                       {"shift_in", &conv.shift_in}, {"slope", &conv.slope}, {"shift_out", &conv.shift_out}})
      *values = constants_of(op, name, outputs, all);
    conv.activation_first = op.whole("activation_first") != 0;
    conv.limit = op.real("limit");
    for (const auto& [reader, origin] : readers_[i + 1]) {
      task->readers.push_back({bits_[reader].map, origin.first / 32, thresholds(reader, origin.first, origin.count, INFINITY)});
      task->writes.push_back(bits_[reader].map->slot);
    }
    if (to.slot) {
      gives(task, to);
      Place whole = to;
      whole.channel = 0;
      whole.shape = shape(i + 1);
      set(i + 1, whole);
    }
  }

  // What a unit's shortcut reads; `repeats`: after so many channels it begins again.
  Place shortcut_of(int i, const Shape& out, int& repeats) {
    if (has_shortcut(i, "same")) return place(input(i));
    if (has_shortcut(i, "given")) return place(input(i, "shortcut"));
    if (has_shortcut(i, "average-pool")) {
      Pooling halving;
      halving.is_max = false;
      for (int axis = 0; axis < 2; ++axis) halving.kernel[axis] = halving.stride[axis] = 2;
      return add_pool(halving, input(i), out);
    }
    if (has_shortcut(i, "duplicate")) {
      const Place& at = place(input(i));
      if (at.shape.channels() % kPanel) return add_concat({at, at}, out);
      repeats = at.shape.channels();
      return at;
    }
    return {};
  }

  // Where a unit writes: into its input's map or behind it, over its shortcut, or anew.
  Place unit_output(int i, const Shape& computed, const Place& shortcut) {
    const bool wide = adds_to_last(i);
    if (appends(i) || wide) {
      const int c_in = shape(input(i)).channels(), first = appends(i) ? c_in : c_in - c_out(i);
      Place map = place(input(i));
      const bool is_tip = map.channel == 0 && map.slot->channels == c_in && (appends(i) || may_overwrite(map, first));
      if (!is_tip) map = add_concat({map}, shape(input(i)));
      map.slot->channels = std::max(map.slot->channels, first + c_out(i));
      map.slot->room = std::max(map.slot->room, first + static_cast<int>(padded(c_out(i))));
      return {map.slot, first, computed};
    }
    const bool over = shortcut.slot && shortcut.shape == computed && shortcut.channel == 0 && shortcut.slot->channels == computed.channels();
    return over && may_overwrite(shortcut, 0) ? shortcut : new_place(computed);
  }

  // What convolutions of bits have in common.
  void set_up(UnitTask* task, int i) {
    const Sliding sliding = sliding_of(i);
    task->bits = bits_[i].map;
    task->stride = sliding.stride[0];
    task->extent = sliding.extent(0);
    task->out_rows = sliding.out[0];
    task->out_columns = sliding.out[1];
    task->bits_read = static_cast<int>(task->reads.size());
    task->reads.push_back(bits_[i].map->slot);
    task->whole.push_back(false);
    const auto read = [&](const Place& place, bool whole) {
      if (!place.slot) return;
      reads(task, place);
      task->whole.push_back(whole);
    };
    read(task->shortcut, false);
    read(task->gate, true);
    read(task->offset, true);
    const BitMap& map = *bits_[i].map;
    spend(2 * sliding.pixels());  // and its classes
    task->conv.windows = sliding.windows(map.padded_width(), map.dwords, map.dwords);
  }

  // Taps of an output row (or column) that fall into the padding, a bit each.
  static uint64_t missing(const Sliding& sliding, int axis, int position, int size) {
    uint64_t taps = 0;
    for (int tap = 0; tap < sliding.kernel[axis]; ++tap) {
      const int at = position * sliding.stride[axis] + tap * sliding.dilation[axis] - sliding.before[axis];
      if (at < 0 || at >= size) taps |= uint64_t{1} << (tap % 64);
    }
    return taps;
  }

  // Border classes: output pixels whose windows have the same taps in the padding.
  struct Classes {
    std::vector<uint16_t> of_pixel;
    std::vector<std::vector<int>> missing;  // of each class: taps
  };

  Classes classes_of(const Sliding& sliding, const BitMap& map) const {
    std::map<std::pair<uint64_t, uint64_t>, int> known;
    Classes found;
    for (int y = 0; y < sliding.out[0]; ++y) {
      const uint64_t rows = missing(sliding, 0, y, map.height);
      for (int x = 0; x < sliding.out[1]; ++x) {
        const uint64_t columns = missing(sliding, 1, x, map.width);
        const auto [entry, is_new] = known.emplace(std::pair(rows, columns), static_cast<int>(known.size()));
        found.of_pixel.push_back(static_cast<uint16_t>(entry->second));
        if (!is_new) continue;
        found.missing.emplace_back();
        for (int row = 0; row < sliding.kernel[0]; ++row)
          for (int column = 0; column < sliding.kernel[1]; ++column)
            if ((rows >> row & 1) || (columns >> column & 1)) found.missing.back().push_back(row * sliding.kernel[1] + column);
      }
    }
    if (found.missing.size() == 1) found.of_pixel.clear();
    return found;
  }

  // The weights' bits of one plane in panels, and the sums of each tap's weights, [taps][padded rows].
  struct Plane {
    Dwords panels;
    Ints tap_sums;
  };

  // `words`: [rows][taps][words of c_in], of which the rows from `first` on are taken.
  static Plane plane_of(const uint64_t* words, int first, int rows, int taps, int c_in) {
    const int dwords = ceil_div(c_in, 32), row_words = ceil_div(c_in, 64), all = round_up(rows, kPanel);
    Plane made;
    made.panels.assign(static_cast<size_t>(all) * taps * dwords, 0);
    made.tap_sums.assign(static_cast<size_t>(all) * taps, 0);
    const uint32_t last = ~uint32_t{0} >> (dwords * 32 - c_in);
    for (int row = 0; row < rows; ++row)
      for (int tap = 0; tap < taps; ++tap) {
        const uint64_t* const from = words + (static_cast<int64_t>(first + row) * taps + tap) * row_words;
        int ones = 0;
        for (int d = 0; d < dwords; ++d) {
          uint32_t bits = static_cast<uint32_t>(from[d / 2] >> (d % 2 * 32));
          if (d == dwords - 1) bits &= last;  // bits beyond the channels are 0 in both operands
          ones += __builtin_popcount(bits);
          const int64_t element = static_cast<int64_t>(row / kPanel) * taps * dwords + static_cast<int64_t>(tap) * dwords + d;
          made.panels[element * kPanel + row % kPanel] = bits;
        }
        made.tap_sums[static_cast<size_t>(tap) * all + row] = 2 * ones - c_in;
      }
    return made;
  }

  // Sum of weights over taps, of a row.
  static int64_t sum_of(const Plane& plane, int all, int row, const std::vector<int>& taps) {
    int64_t sum = 0;
    for (const int tap : taps) sum += plane.tap_sums[static_cast<size_t>(tap) * all + row];
    return sum;
  }

  void add_terms(UnitTask* task, int i) {
    const Operation& op = operation(i);
    const Sliding sliding = sliding_of(i);
    const BitMap& map = *bits_[i].map;
    const int c_in = shape(input(i)).channels(), outputs = c_out(i), all = round_up(outputs, kPanel);
    const int border = 1 + static_cast<int>(border_of(op, sliding));
    Classes classes = classes_of(sliding, map);
    const auto& samplings = op.fields.at("samplings").words;
    task->sampled.resize(samplings.size());
    for (size_t branch = 0; branch < samplings.size(); ++branch) {
      costs(task, 0, 32.0 * static_cast<double>(sliding.pixels()) * all * sliding.taps() * map.dwords);
      spend(int64_t{all} * (sliding.taps() * int64_t{map.dwords} + static_cast<int64_t>(classes.missing.size())));
      const int first = static_cast<int>(branch) * outputs;
      Plane plane = plane_of(op.constant("planes").words, first, outputs, sliding.taps(), c_in);
      Term term;
      for (const std::vector<int>& taps : classes.missing)
        for (int row = 0; row < all; ++row)  // a border bit counts as -1
          term.base.push_back(static_cast<int32_t>(int64_t{sliding.taps()} * c_in + border * sum_of(plane, all, row, taps)));
      term.scale.assign(all, 0.0f);
      std::copy_n(op.constant("scale").floats + first, outputs, term.scale.begin());
      if (samplings.size() == 1 && (sliding.before[0] || sliding.behind[0])) skip_padding(task->conv, sliding, plane, map.height, c_in);
      Pair pair;
      pair.panels = std::move(plane.panels);
      pair.shift = 1;
      term.pairs.push_back(std::move(pair));
      if (samplings[branch] != "none") {
        spend(4 * sliding.pixels());
        task->sampled[branch] = samples(map, samplings[branch] == "long-range");
        term.sampled_at = task->sampled[branch].data();
      }
      task->conv.terms.push_back(std::move(term));
    }
    task->conv.classes = std::move(classes.of_pixel);
  }

  // Which runs of a window's are not padding alone, and the ones of the weights that meet padding.
  static void skip_padding(BinaryConv& conv, const Sliding& sliding, const Plane& plane, int height, int c_in) {
    const int all = conv.padded_out(), row_runs = conv.windows.runs() / sliding.kernel[0], run_taps = sliding.taps() / conv.windows.runs();
    for (int y = 0; y < sliding.out[0]; ++y) {
      int first = 0, end = sliding.kernel[0];
      const auto is_inside = [&](int row) {
        const int at = y * sliding.stride[0] + row * sliding.dilation[0] - sliding.before[0];
        return at >= 0 && at < height;
      };
      while (first < end && !is_inside(first)) ++first;
      while (end > first && !is_inside(end - 1)) --end;
      conv.first_run.insert(conv.first_run.end(), sliding.out[1], static_cast<uint8_t>(first * row_runs));
      conv.end_run.insert(conv.end_run.end(), sliding.out[1], static_cast<uint8_t>(end * row_runs));
    }
    for (int run = 0; run < conv.windows.runs(); ++run)
      for (int row = 0; row < all; ++row) {
        int ones = 0;
        for (int tap = run * run_taps; tap < (run + 1) * run_taps; ++tap) ones += (plane.tap_sums[static_cast<size_t>(tap) * all + row] + c_in) / 2;
        conv.padding_ones.push_back(ones);
      }
  }

  // Where the quarters of each pixel's channels come from, in dwords.
  static std::vector<int32_t> samples(const BitMap& map, bool is_long) {
    const int rows = is_long ? map.height / 2 : 1, columns = is_long ? map.width / 2 : 1;
    const auto rolled = [](int at, int by, int size) { return ((at + by) % size + size) % size; };
    std::vector<int32_t> found;
    for (int y = 0; y < map.height; ++y)
      for (int x = 0; x < map.width; ++x) {
        const std::pair<int, int> from[4] = {{rolled(y, -rows, map.height), x}, {rolled(y, rows, map.height), x},
                                             {y, rolled(x, -columns, map.width)}, {y, rolled(x, columns, map.width)}};
        for (int quarter = 0; quarter < 4; ++quarter)
          found.push_back((from[quarter].first * map.width + from[quarter].second) * map.dwords + quarter * (map.dwords / 4));
      }
    return found;
  }

  void emit_low_bit(int i) {
    begin_bits(i);
    const std::vector<int> values = level_values(i);
    const int planes = levels_of(i)->planes;
    for (size_t k = 0; k < values.size(); ++k) add_levels(i, values[k], static_cast<int>(k) * planes);
    UnitTask* const task = add<UnitTask>(shape(i + 1).height());
    set_up(task, i);
    add_low_bit_terms(task, i);
    task->conv.c_out = shape(i + 1).channels();
    task->to = new_place(shape(i + 1));
    set(i + 1, task->to);
    gives(task, task->to);
  }

  // Bits of a value's levels from one plane on: from what they are made of, if that is possible.
  void add_levels(int i, int value, int plane) {
    const auto [signs, planes] = *levels_of(i);
    const int maker = value - 1;
    const bool direct = gives_bits(maker);
    BitsTask* const task = add_bits(i, place(direct ? input(maker) : value), plane, 0);
    const int channels = task->from.shape.channels(), all = round_up(channels, 32);
    if (direct && operation(maker).kind == "quantize") {
      const Operation& op = operation(maker);
      task->levels.push_back({true, op.whole("divide") != 0, op.real("low"), op.real("high"), op.real("step"), static_cast<float>(op.whole("offset")), planes});
    } else if (direct && operation(maker).kind == "encode") {
      task->sums.push_back(sum_bits(operation(maker).constant("basis")));
    } else if (direct) {
      task->threshold = filled(operation(maker).constant("threshold"), channels, all, INFINITY);
      if (operation(maker).has("falls")) {
        const Constant& falls = operation(maker).constant("falls");
        task->falls.assign(all / 32, 0);
        for (int c = 0; c < channels; ++c)
          if (falls.floats[falls.count() == 1 ? 0 : c] != 0.0f) task->falls[c / 32] |= 1u << (c % 32);
      }
    } else if (signs) {
      task->threshold = Floats(all, 0.0f);
    } else {
      task->levels.push_back({false, false, 0, 0, 1, 0, planes});
    }
  }

  // The sums of some of a basis in their order, and what changes from each to the next one: beyond the middle of the two.
  static SumBits sum_bits(const Constant& basis) {
    const int count = static_cast<int>(basis.count());
    std::vector<std::pair<float, uint32_t>> sums;
    for (uint32_t code = 0; code < 1u << count; ++code) {
      float sum = 0;  // in sequence, as float32
      for (int k = 0; k < count; ++k) sum += (code >> k & 1) ? basis.floats[k] : 0.0f * basis.floats[k];
      sums.emplace_back(sum, code);
    }
    std::stable_sort(sums.begin(), sums.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    SumBits made;
    made.planes = count;
    made.lowest = sums[0].second;
    for (size_t i = 1; i < sums.size(); ++i) {
      const float middle = (sums[i].first + sums[i - 1].first) / 2.0f;
      made.limits.push_back(std::nextafter(middle, INFINITY));
      made.changes.push_back(sums[i].second ^ sums[i - 1].second);
    }
    return made;
  }

  void add_low_bit_terms(UnitTask* task, int i) {
    const Operation& op = operation(i);
    const Sliding sliding = sliding_of(i);
    const BitMap& map = *bits_[i].map;
    const Constant &words = op.constant("planes"), &scale = op.constant("scale"), &factors = op.constant("a_scale");
    const auto [signs, planes] = *levels_of(i);
    const int w_bits = words.shape.sizes[0], rows = words.shape.sizes[1], bases = op.whole("w_bases"), outputs = rows / bases;
    const int c_in = shape(input(i)).channels(), all = round_up(outputs, kPanel);
    const int64_t plane_words = words.count() / w_bits;
    const int border = 1 + static_cast<int>(border_of(op, sliding));
    Classes classes = classes_of(sliding, map);
    if (!signs) classes = {{}, {{}}};  // a level of 0 adds nothing
    std::vector<int> every;
    for (int tap = 0; tap < sliding.taps(); ++tap) every.push_back(tap);
    for (int k = 0; k < factors.count(); ++k)
      for (int base = 0; base < bases; ++base) {
        Term term;
        costs(task, 0, 32.0 * static_cast<double>(sliding.pixels()) * all * w_bits * planes * sliding.taps() * map.dwords);
        spend(int64_t{all} * (int64_t{w_bits} * planes * sliding.taps() * map.dwords + static_cast<int64_t>(classes.missing.size())));
        term.base.assign(classes.missing.size() * all, 0);
        term.scale.assign(all, 0.0f);
        std::copy_n(scale.floats + static_cast<int64_t>(base) * outputs, outputs, term.scale.begin());
        for (int j = 0; j < w_bits; ++j) {
          const Plane plane = plane_of(words.words + j * plane_words, base * outputs, outputs, sliding.taps(), c_in);
          for (int p = 0; p < planes; ++p) {
            Pair pair;
            pair.bits_at = (int64_t{k} * planes + p) * map.plane_dwords();
            pair.panels = plane.panels;
            pair.shift = signs ? j + 1 : j + p;
            for (size_t one = 0; one < classes.missing.size(); ++one)
              for (int row = 0; row < all; ++row) {
                const int64_t inside = int64_t{sliding.taps()} * c_in;
                const int64_t sum = signs ? (inside + border * sum_of(plane, all, row, classes.missing[one])) * (int64_t{1} << j)
                                          : (inside + sum_of(plane, all, row, every)) / 2 * (int64_t{1} << (j + p));
                term.base[one * all + row] += static_cast<int32_t>(sum);
              }
            term.pairs.push_back(std::move(pair));
          }
        }
        task->conv.terms.push_back(std::move(term));
      }
    task->conv.classes = std::move(classes.of_pixel);
    task->conv.factors.assign(factors.floats, factors.floats + factors.count());
  }

  struct Reader {
    int unit;
    Origin origin;
  };

  const Plan& plan_;
  const int count_;
  std::vector<int> last_uses_;                // of values: operations
  int current_ = 0;
  int64_t spent_ = 0;
  bool image_as_map_ = false;
  std::vector<std::vector<int>> users_;       // of values: operations
  std::vector<std::vector<Origin>> origins_;  // of values
  std::vector<bool> wanted_;                  // of values: somebody reads their floats
  std::vector<Place> places_;                 // of values
  std::vector<Bits> bits_;                    // of operations that read bits
  std::vector<std::vector<Reader>> readers_;  // of values: units whose bits are written with them
  std::map<const Slot*, std::vector<int>> values_in_;
  std::map<const Slot*, int64_t> pixels_;
  std::vector<std::function<void()>> later_;  // what needs the slots' final steps
  Program program_;
};

}  // namespace

Program prepare(const Plan& plan) { return Builder(plan).build(); }

}  // namespace bcdzoo
