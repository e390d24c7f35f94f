#include <algorithm>

#include "builder.h"

namespace bcdzoo {
namespace {

// Whether a value has a number for each of another's, or one for all pixels, all channels, or both.
bool is_operand(const Shape& of, const Shape& whole) {
  const bool pixels =
      (of.height() == whole.height() && of.width() == whole.width()) || (of.height() == 1 && of.width() == 1);
  return of.rank == whole.rank && pixels && (of.channels() == whole.channels() || of.channels() == 1);
}

}  // namespace

const std::map<std::string, Builder::Emitter>& Builder::emitters() {
  static const std::map<std::string, Emitter> known = {
      {"add", &Builder::emit_elementwise},
      {"add_map", &Builder::emit_add_map},
      {"binarize", &Builder::emit_pointwise},
      {"binary_attention", &Builder::emit_attention},
      {"clip", &Builder::emit_pointwise},
      {"concat", &Builder::emit_concat},
      {"context", &Builder::emit_context},
      {"conv", &Builder::emit_conv},
      {"function", &Builder::emit_pointwise},
      {"linear", &Builder::emit_linear},
      {"mean", &Builder::emit_context},
      {"multiply", &Builder::emit_elementwise},
      {"pad", &Builder::emit_pad},
      {"pool", &Builder::emit_pool},
      {"prelu", &Builder::emit_pointwise},
      {"replicate", &Builder::emit_replicate},
      {"reshape", &Builder::emit_reshape},
      {"scale_shift", &Builder::emit_pointwise},
      {"slice", &Builder::emit_slice},
      {"subtract", &Builder::emit_elementwise},
      {"upsample", &Builder::emit_upsample},
  };
  return known;
}

bool Builder::emit_conv(int i) {
  if (!known_.groups_fit(i)) return false;
  const Constant& weight = operation(i).constant("weight");
  const Sliding sliding(operation(i), shape(input(i)), weight.shape.sizes[2], weight.shape.sizes[3]);
  return known_.is_narrow(i) ? emit_grouped(i, sliding) : emit_dense(i, sliding);
}

Builder::Padded Builder::padded_input(int i, const Sliding& sliding, int64_t step) {
  const Shape& in = shape(input(i));
  const bool of_image = input(i) == 0 && step == in.channels();
  if (!of_image && !sliding.is_padded() && sliding.taps() == 1)
    return {place(input(i)), in.width(), in.height(), false};
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

// What a task on windows reads.
template <class T>
void Builder::read_padded(T* task, const Padded& from, const Sliding& sliding) {
  task->from = from.place;
  task->is_direct = !from.is_copy;
  task->stride = sliding.stride[0];
  task->extent = sliding.extent(0);
  task->height = from.rows;
  task->reads = {from.place.slot};
}

// What real-valued convolutions have behind their sums; `all` is the padded number of outputs.
template <class T>
void Builder::set_constants(T& conv, int i, int all) const {
  const Operation& op = operation(i);
  const int outputs = shape(i + 1).channels();
  conv.relu = op.whole("relu") != 0;
  conv.bias = constants_of(op, "bias", outputs, all);
  conv.alpha = constants_of(op, "alpha", outputs, all);
  conv.beta = constants_of(op, "beta", outputs, all);
}

bool Builder::emit_dense(int i, const Sliding& sliding) {
  const Constant& weight = operation(i).constant("weight");
  const int outputs = weight.shape.sizes[0], length = weight.shape.sizes[1];  // channels that a panel reads
  const int groups = operation(i).whole("groups"), taps = sliding.taps();
  const Padded from = padded_input(i, sliding, shape(input(i)).channels());
  FloatConvTask* const task = add<FloatConvTask>(sliding.out[0]);
  FloatConv& conv = task->conv;
  conv.c_out = outputs;
  const int all = conv.padded_out();
  spend(sliding.pixels() + int64_t{all} * taps * length);
  costs(task, static_cast<double>(sliding.pixels()) * all * taps * length, 0);
  set_constants(conv, i, all);
  for (int panel = 0; groups > 1 && panel < conv.panel_count(); ++panel)
    conv.panel_at.push_back(panel * kPanel / known_.group_out(i) * length);
  conv.panels = panels_of(weight, taps);
  read_padded(task, from, sliding);
  gives_value(task, i);
  later_.push_back([=] { task->conv.windows = sliding.windows(from.columns, from.place.slot->step, length); });
  return true;
}

bool Builder::emit_grouped(int i, const Sliding& sliding) {
  const Constant& weight = operation(i).constant("weight");
  const bool single = known_.is_depthwise(i);
  const int outputs = shape(i + 1).channels(), all = static_cast<int>(padded(outputs));
  const int group_in = weight.shape.sizes[1], taps = sliding.taps();
  const Padded from = padded_input(i, sliding, single ? all : shape(input(i)).channels());
  const int64_t products = int64_t{all} * taps * group_in;
  spend(sliding.pixels() + products);
  GroupedTask* const task = add<GroupedTask>(sliding.out[0]);
  costs(task, static_cast<double>(sliding.pixels()) * static_cast<double>(products), 0);
  if (single) {
    task->depthwise.channels = outputs;
    task->depthwise.weights = depthwise_weights(weight, taps);
    set_constants(task->depthwise, i, all);
  } else {
    task->narrow.c_out = outputs;
    task->narrow.group_in = group_in;
    task->narrow.group_out = known_.group_out(i);
    task->narrow.weights = grouped_weights(weight, taps);
    set_constants(task->narrow, i, all);
  }
  read_padded(task, from, sliding);
  gives_value(task, i);
  later_.push_back([=] {  // of length 0, which is never a whole row: taps by themselves
    (single ? task->depthwise.windows : task->narrow.windows) = sliding.windows(from.columns, from.place.slot->step, 0);
    task->depthwise.windows.length = outputs;
  });
  return true;
}

bool Builder::emit_linear(int i) {
  const Operation& op = operation(i);
  LinearTask* const task = add<LinearTask>(1, false);
  task->weights = op.constant("weight").floats;
  task->bias = op.has("bias") ? op.constant("bias").floats : nullptr;
  task->columns = op.constant("weight").shape.sizes[1];
  task->from = place(input(i));
  reads(task, task->from);
  gives_value(task, i);
  return true;
}

bool Builder::emit_pointwise(int i) {
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
  } else if (op.kind == "binarize") {
    if (has_input(i, "threshold")) return false;
    step.kind = Pointwise::Kind::kStep;
    step.alpha = constants_of(op, "threshold", channels, all);
    step.beta = Floats(all, 1.0f);
    const Floats falls = constants_of(op, "falls", channels, all);
    for (size_t c = 0; c < falls.size(); ++c)
      if (falls[c] != 0.0f) step.beta[c] = -1.0f;
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

void Builder::add_pointwise(int i, Pointwise step, int value, const Place& other) {
  PointwiseTask* const task = add<PointwiseTask>(shape(i + 1).height());
  task->is_light = true;
  task->pointwise = std::move(step);
  task->from = place(value);
  reads(task, task->from);
  if (other.slot) {
    task->other = other;
    reads(task, other);
  }
  const bool apart =
      other.slot != task->from.slot || (other.channel == task->from.channel && other.shape == task->from.shape);
  task->to = apart ? in_place_of(value, shape(i + 1)) : new_place(shape(i + 1));
  set(i + 1, task->to);
  gives(task, task->to);
}

bool Builder::emit_elementwise(int i) {
  const Operation& op = operation(i);
  int a = input(i, "a"), b = input(i, "b");
  const Shape& whole = shape(i + 1);
  if (whole.rank == 4) return false;
  if (shape(a) != whole && op.kind != "subtract") std::swap(a, b);
  if (shape(a) != whole || !is_operand(shape(b), whole)) return false;
  Pointwise step;
  step.kind = op.kind == "add"        ? Pointwise::Kind::kAdd
              : op.kind == "subtract" ? Pointwise::Kind::kSubtract
                                      : Pointwise::Kind::kMultiply;
  add_pointwise(i, std::move(step), a, place(b));
  return true;
}

bool Builder::emit_pool(int i) {
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

Place Builder::add_pool(Pooling pooling, int value, const Shape& out) {
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

bool Builder::emit_context(int i) {
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
  task->reads = {sum->to};
  gives_value(task, i);
  return true;
}

bool Builder::emit_pixel_mean(int i) {
  PixelMeanTask* const task = add<PixelMeanTask>(shape(i + 1).height());
  task->from = place(input(i));
  reads(task, task->from);
  gives_value(task, i);
  return true;
}

// A map in a larger one.
PadTask* Builder::add_padded(int i, const int (&before)[2], const int (&behind)[2]) {
  const Shape& in = shape(input(i));
  PadTask* const task = add<PadTask>(shape(i + 1).height());
  task->from = place(input(i));
  reads(task, task->from);
  const Place to = new_place(shape(i + 1));
  task->to = to.slot;
  task->channels = in.channels();
  task->height = in.height();
  task->width = in.width();
  task->top = before[0];
  task->left = before[1];
  task->bottom = behind[0];
  task->right = behind[1];
  set(i + 1, to);
  gives(task, to);
  later_.push_back([=] { task->step = to.slot->step; });
  return task;
}

bool Builder::emit_pad(int i) {  // around a map; channels are not padded often
  const Operation& op = operation(i);
  if (op.whole("before", 0) || op.whole("behind", 0)) return false;
  add_padded(i, {op.whole("before", 1), op.whole("before", 2)}, {op.whole("behind", 1), op.whole("behind", 2)})->value =
      op.real("value");
  return true;
}

bool Builder::emit_replicate(int i) {
  const auto side = [&](int at) { return operation(i).whole("padding", at); };
  add_padded(i, {side(0), side(1)}, {side(2), side(3)})->replicates = true;
  return true;
}

bool Builder::emit_add_map(int i) {
  const Shape& of = shape(i + 1);
  const int64_t pixels = int64_t{of.height()} * of.width();
  AddMapTask* const task = add<AddMapTask>(of.height());
  task->step = padded(of.channels());
  spend(pixels * task->step);
  const float* const map = operation(i).constant("map").floats;
  task->map.resize(pixels * task->step);
  for (int64_t pixel = 0; pixel < pixels; ++pixel)
    for (int c = 0; c < of.channels(); ++c) task->map[pixel * task->step + c] = map[c * pixels + pixel];
  task->from = place(input(i));
  reads(task, task->from);
  task->to = in_place_of(input(i), of);
  set(i + 1, task->to);
  gives(task, task->to);
  return true;
}

bool Builder::emit_upsample(int i) {
  UpsampleTask* const task = add<UpsampleTask>(shape(i + 1).height());
  for (int axis : {0, 1}) task->factor[axis] = operation(i).whole("factor", axis);
  task->from = place(input(i));
  reads(task, task->from);
  gives_value(task, i);
  return true;
}

bool Builder::emit_concat(int i) {
  std::vector<Place> from;
  for (const auto& [role, value] : operation(i).inputs) from.push_back(place(value));
  set(i + 1, add_concat(from, shape(i + 1)));
  return true;
}

Place Builder::add_concat(const std::vector<Place>& from, const Shape& out) {
  ConcatTask* const task = add<ConcatTask>(out.height());
  task->from = from;
  task->to = new_place(out);
  for (const Place& one : from) reads(task, one);
  gives(task, task->to);
  return task->to;
}

bool Builder::emit_slice(int i) {  // of channels: a view
  const Operation& op = operation(i);
  if (op.whole("axis") != 0 || op.whole("step") != 1) return false;
  Place view = place(input(i));
  view.channel += op.whole("start");
  view.shape = shape(i + 1);
  set(i + 1, view);
  return true;
}

bool Builder::emit_reshape(int i) {  // of a pixel: a view
  const Shape &in = shape(input(i)), &out = shape(i + 1);
  if (in.height() * in.width() != 1 || out.height() * out.width() != 1) return false;
  Place view = place(input(i));
  view.shape = out;
  set(i + 1, view);
  return true;
}

// One value of each channel, where there is one for all.
Place Builder::expanded(const Place& at, int channels) {
  if (at.shape.channels() == channels) return at;
  Shape wide = at.shape;
  wide.sizes[0] = channels;
  return add_concat(std::vector<Place>(channels, at), wide);
}

}  // namespace bcdzoo
