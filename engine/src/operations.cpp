#include "operations.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace bcdzoo {
namespace {

constexpr int kWord = 64;

struct FieldRule {
  const char* name;
  Field::Type type;
  int least, most, count;  // of whole numbers; count -1: any
  std::vector<const char*> words;
};

struct ConstantRule {
  const char* name;  // one that ends in "?" may be absent
  int rank;
};

// An operation, and the shapes of its inputs.
struct Given {
  const Operation& operation;
  const std::vector<Shape>& shapes;

  const Shape* input(const char* role) const {
    for (size_t i = 0; i < shapes.size(); ++i)
      if (operation.inputs[i].first == role) return &shapes[i];
    return nullptr;
  }
  const Shape& x() const { return *input("x"); }
};

struct Kind {
  const char* name;
  std::vector<const char*> inputs;  // one that ends in "?" may be absent, "*" stands for any number, x0, x1, ...
  std::vector<FieldRule> fields;    // all are needed
  std::vector<ConstantRule> constants;
  Shape (*shape)(const Given&);
};

FieldRule whole(const char* name, int least = 0, int most = kMostSize) {
  return {name, Field::Type::kWhole, least, most, 1, {}};
}

FieldRule wholes(const char* name, int count, int least = 0, int most = kMostSize) {
  return {name, Field::Type::kWholes, least, most, count, {}};
}

FieldRule flag(const char* name) { return whole(name, 0, 1); }
FieldRule pair(const char* name) { return wholes(name, 2, 1, 4096); }
FieldRule real(const char* name) { return {name, Field::Type::kReal, 0, 0, 0, {}}; }

FieldRule word(const char* name, std::vector<const char*> words) {
  return {name, Field::Type::kWord, 0, 0, 1, std::move(words)};
}

FieldRule words(const char* name, std::vector<const char*> words) {
  return {name, Field::Type::kWords, 0, 0, -1, std::move(words)};
}

bool optional(const char* name) { return name[std::strlen(name) - 1] == '?'; }

bool named(const char* rule, const std::string& name) {
  return name.compare(0, std::string::npos, rule, std::strlen(rule) - (optional(rule) ? 1 : 0)) == 0;
}

Shape shape_of(std::initializer_list<int64_t> sizes) {
  Shape shape;
  for (int64_t size : sizes) shape.sizes[shape.rank++] = static_cast<int>(std::min<int64_t>(size, kMostSize + 1));
  return shape;
}

int64_t floor_divided(int64_t a, int64_t b) { return a / b - (a % b < 0 ? 1 : 0); }
int64_t ceil_divided(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct LongSide {
  int64_t out, before, behind;
};

// Not yet known to fit an int.
LongSide long_side(const Operation& operation, int64_t size, int64_t kernel, int axis) {
  const int64_t stride = operation.whole("stride", axis), extent = operation.whole("dilation", axis) * (kernel - 1) + 1;
  if (operation.whole("same")) {
    const int64_t out = ceil_divided(size, stride), pad = std::max<int64_t>((out - 1) * stride + extent - size, 0);
    return {out, pad / 2, pad - pad / 2};
  }
  const int64_t before = operation.whole("padding", axis), behind = operation.whole("padding", axis + 2);
  return {floor_divided(size + before + behind - extent, stride) + 1, before, behind};
}

const Shape& a_map(const Shape& shape, int rank = 3) {
  require(shape.rank == rank,
          "an input has " + std::to_string(shape.rank) + " dimensions, not " + std::to_string(rank));
  return shape;
}

void require_map_or_vector(const Shape& shape, const char* what = "an input is no map and no vector") {
  require(shape.rank == 1 || shape.rank == 3, what);
}

Shape slid(const Operation& operation, const Shape& shape, int64_t channels, const int* kernel) {
  const int64_t height = long_side(operation, shape.height(), kernel[0], 0).out;
  const int64_t width = long_side(operation, shape.width(), kernel[1], 1).out;
  require(height >= 1 && width >= 1, "the window is larger than the map");
  return shape_of({channels, height, width});
}

void require_length(const Operation& operation, const char* name, int length) {
  if (operation.has(name))
    require(operation.constant(name).shape.sizes[0] == length,
            std::string(name) + " is not of " + std::to_string(length) + " channels");
}

// Every constant has a number for each channel, or one for all.
void require_per_channel(const Operation& operation, int channels) {
  for (const auto& [name, constant] : operation.constants) {
    const int length = constant.shape.sizes[0];
    require(length == 1 || length == channels, name + " is not of " + std::to_string(channels) + " channels");
  }
}

Shape unchanged(const Given& given) {
  require_map_or_vector(given.x());
  require_per_channel(given.operation, given.x().sizes[0]);
  return given.x();
}

Shape conv(const Given& given) {
  const Operation& operation = given.operation;
  const Shape &shape = a_map(given.x()), &weight = operation.constant("weight").shape;
  const int64_t groups = operation.whole("groups");
  require(shape.sizes[0] == weight.sizes[1] * groups && weight.sizes[0] % groups == 0,
          "the weights do not fit the map's channels");
  for (const char* name : {"bias", "alpha", "beta"}) require_length(operation, name, weight.sizes[0]);
  require(operation.has("alpha") == operation.has("beta"), "alpha and beta belong together");
  return slid(operation, shape, weight.sizes[0], weight.sizes + 2);
}

// Whether bits of weights, from a dimension on, are rows of taps of words.
bool are_planes(const int* sizes, int64_t rows, int64_t channels, const int* kernel) {
  return sizes[0] == rows && sizes[1] == int64_t{kernel[0]} * kernel[1] && sizes[2] == ceil_divided(channels, kWord);
}

// Sets of weights, of which an image has the one with its highest score; 1 if there are no scores.
int experts(const Given& given) {
  const Shape* const scores = given.input("scores");
  if (!scores) return 1;
  require(scores->rank == 1 || (scores->rank == 3 && scores->height() == 1 && scores->width() == 1),
          "the scores are no vector");
  return scores->sizes[0];
}

Shape low_bit_conv(const Given& given) {
  const Operation& operation = given.operation;
  const Shape &shape = given.x(), &planes = operation.constant("planes").shape;
  require(shape.rank == 3 || shape.rank == 4, "the input is no map");
  const int bases = shape.levels(), c_in = shape.channels(), rows = planes.sizes[1], sets = experts(given);
  const int64_t groups = operation.whole("groups"), w_bases = operation.whole("w_bases");
  const int* kernel = operation.fields.at("kernel").wholes.data();
  require(rows % sets == 0, "the weights do not fit the scores");
  require(rows / sets % (w_bases * groups) == 0 && c_in % groups == 0,
          "the weights do not fit the groups or the bases");
  require(planes.sizes[0] <= 8, "weights have at most 8 bits");
  require(are_planes(planes.sizes + 1, rows, c_in / groups, kernel), "the weights do not fit the map's channels");
  require_length(operation, "scale", rows);
  require(operation.constant("a_scale").count() == bases, "a_scale is not of " + std::to_string(bases) + " bases");
  return slid(operation, shape_of({c_in, shape.height(), shape.width()}), rows / (w_bases * sets), kernel);
}

Shape linear(const Given& given) {
  const Shape& weight = given.operation.constant("weight").shape;
  require(weight.sizes[1] == a_map(given.x(), 1).sizes[0], "the weights do not fit the vector");
  if (given.operation.has("bias"))
    require(given.operation.constant("bias").count() == weight.sizes[0], "the bias does not fit the weights");
  return shape_of({weight.sizes[0]});
}

Shape elementwise(const Given& given) {
  const Shape &a = *given.input("a"), &b = *given.input("b");
  require(a.rank == b.rank, "the inputs differ in their dimensions");
  Shape out = a;
  for (int i = 0; i < a.rank; ++i) {
    require(a.sizes[i] == b.sizes[i] || a.sizes[i] == 1 || b.sizes[i] == 1, "the inputs differ in their sizes");
    out.sizes[i] = std::max(a.sizes[i], b.sizes[i]);
  }
  return out;
}

Shape concat(const Given& given) {
  Shape out = given.shapes[0];
  require_map_or_vector(out);
  out.sizes[0] = 0;
  for (const Shape& shape : given.shapes) {
    require(shape.rank == out.rank && std::equal(shape.sizes + 1, shape.sizes + shape.rank, out.sizes + 1),
            "the inputs differ in their sizes");
    out.sizes[0] += shape.sizes[0];  // of 64 inputs at most
  }
  return out;
}

Shape stack(const Given& given) {
  const Shape& first = given.shapes[0];
  for (const Shape& shape : given.shapes) require(shape == first, "the inputs differ in their sizes");
  a_map(first);
  return shape_of({static_cast<int64_t>(given.shapes.size()), first.sizes[0], first.sizes[1], first.sizes[2]});
}

Shape slice(const Given& given) {
  const Operation& operation = given.operation;
  Shape shape = given.x();
  const int axis = operation.whole("axis");
  require_map_or_vector(shape, "the input is no map and no vector");
  require(axis < shape.rank, "there is no such axis");
  const int left = std::min(operation.whole("stop"), shape.sizes[axis]) - operation.whole("start");
  require(left >= 1, "nothing is left of the map");
  shape.sizes[axis] = static_cast<int>(ceil_divided(left, operation.whole("step")));
  return shape;
}

Shape pad(const Given& given) {
  Shape shape = a_map(given.x());
  for (int i = 0; i < 3; ++i) shape.sizes[i] += given.operation.whole("before", i) + given.operation.whole("behind", i);
  return shape;
}

Shape reshape(const Given& given) {
  const std::vector<int>& wanted = given.operation.fields.at("shape").wholes;
  require_map_or_vector(given.x(), "the input is no map and no vector");
  const auto open = std::count(wanted.begin(), wanted.end(), 0);
  require(open <= 1 && (wanted.size() == 1 || wanted.size() == 3), "the shape is none of a map or a vector");
  int64_t known = 1;
  for (int size : wanted) known = size ? product({known, size}) : known;
  const int64_t size = given.x().count();
  require(size % known == 0 && (open || size == known), "the shape does not fit the value");
  Shape shape;
  for (int each : wanted) shape.sizes[shape.rank++] = each ? each : static_cast<int>(size / known);
  return shape;
}

Shape permute(const Given& given) {
  const Shape& shape = a_map(given.x());
  std::vector<int> axes = given.operation.fields.at("axes").wholes;
  const Shape out = shape_of({shape.sizes[axes[0]], shape.sizes[axes[1]], shape.sizes[axes[2]]});
  std::sort(axes.begin(), axes.end());
  require(axes == std::vector<int>{0, 1, 2}, "an axis is given twice");
  return out;
}

Shape replicate(const Given& given) {
  const Shape& shape = a_map(given.x());
  const auto side = [&](int at) { return given.operation.whole("padding", at); };
  return shape_of({shape.sizes[0], side(0) + shape.sizes[1] + side(2), side(1) + shape.sizes[2] + side(3)});
}

Shape shift_quarters(const Given& given) {
  require(a_map(given.x()).sizes[0] % 4 == 0, "the channels are not divisible by 4");
  return given.x();
}

Shape pool(const Given& given) {
  const Operation& operation = given.operation;
  const Shape& shape = a_map(given.x());
  const int height = pooled_size(operation, shape.sizes[1], 0), width = pooled_size(operation, shape.sizes[2], 1);
  require(height >= 1 && width >= 1, "the window is larger than the map");
  for (int axis : {0, 1})
    require(2 * operation.whole("padding", axis) <= operation.whole("kernel", axis), "too much padding");
  return shape_of({shape.sizes[0], height, width});
}

Shape mean(const Given& given) {
  Shape shape = a_map(given.x());
  const std::vector<int>& axes = given.operation.fields.at("axes").wholes;
  bool seen[3] = {};
  require(!axes.empty(), "an axis is given twice, or none");
  for (int axis : axes) {
    require(!seen[axis], "an axis is given twice, or none");
    seen[axis] = true;
    shape.sizes[axis] = 1;
  }
  return shape;
}

Shape context(const Given& given) {
  const Shape &first = given.operation.constant("first").shape, &second = given.operation.constant("second").shape;
  require(first.sizes[1] == a_map(given.x()).sizes[0] && second.sizes[1] == first.sizes[0],
          "the weights do not fit the map's channels");
  return shape_of({second.sizes[0], 1, 1});
}

bool is_per_channel(const Shape& shape, int channels) {
  return shape == shape_of({channels, 1, 1}) || shape == shape_of({1, 1, 1});
}

Shape binarize(const Given& given) {
  const Shape &shape = given.x(), *threshold = given.input("threshold");
  require_map_or_vector(shape);
  require_per_channel(given.operation, shape.sizes[0]);
  require(given.operation.has("threshold") != (threshold != nullptr), "there is one threshold");
  if (threshold) require(is_per_channel(*threshold, shape.sizes[0]), "the threshold does not fit the map");
  return shape;
}

Shape levels(const Given& given) {
  const int64_t bases = given.operation.has("basis") ? given.operation.constant("basis").count() : 1;
  require(bases <= 8, "a basis has at most 8 numbers");
  const Shape& shape = a_map(given.x());
  return shape_of({bases, shape.sizes[0], shape.sizes[1], shape.sizes[2]});
}

Shape with_shortcut(const Given& given, const Shape& out) {
  const Shape &shape = given.x(), *shortcut = given.input("shortcut");
  const std::string& name = given.operation.word("shortcut");
  require((name == "given") == (shortcut != nullptr), "a shortcut is given, or it is not");
  const int channels = shape.sizes[0], height = shape.sizes[1], width = shape.sizes[2];
  if (given.operation.whole("append")) {
    require(name == "none" && out.sizes[1] == height && out.sizes[2] == width, "what is appended does not fit the map");
    return shape_of({int64_t{channels} + out.sizes[0], height, width});
  }
  Shape added = out;
  if (name == "same") added = shape_of({std::min(channels, out.sizes[0]), height, width});
  if (name == "average-pool") added = shape_of({channels, ceil_divided(height, 2), ceil_divided(width, 2)});
  if (name == "duplicate") added = shape_of({2 * int64_t{channels}, height, width});
  if (name == "given") added = *shortcut;
  require(added == out, "the shortcut does not fit the output");
  // The last channels of a wider map are added to.
  return name == "same" ? shape_of({channels, out.sizes[1], out.sizes[2]}) : out;
}

Shape binary_attention(const Given& given) {
  const Operation& operation = given.operation;
  const Shape &query = a_map(*given.input("query")), &key = a_map(*given.input("key"));
  const Shape& value = a_map(*given.input("value"));
  require(key == value && key.sizes[0] == query.sizes[0], "the inputs differ in their sizes");
  require(query.sizes[0] % operation.whole("heads") == 0, "the heads do not fit the channels");
  require(operation.fields.at("divisor").real > 0, "the divisor is not above 0");
  require(operation.constant("level").count() == 1, "there is one level");
  for (const char* name : {"query_threshold", "key_threshold", "value_threshold"})
    require_length(operation, name, query.sizes[0]);
  return query;
}

Shape add_map(const Given& given) {
  require(given.operation.constant("map").shape == a_map(given.x()), "the map that is added is of another size");
  return given.x();
}

Shape upsample(const Given& given) {
  const Shape& shape = a_map(given.x());
  const auto size = [&](int axis) { return int64_t{shape.sizes[axis + 1]} * given.operation.whole("factor", axis); };
  return shape_of({shape.sizes[0], size(0), size(1)});
}

Shape binary_unit(const Given& given) {
  const Operation& operation = given.operation;
  const Shape &shape = a_map(given.x()), &planes = operation.constant("planes").shape;
  const std::vector<std::string>& samplings = operation.fields.at("samplings").words;
  const int* kernel = operation.fields.at("kernel").wholes.data();
  const int branches = static_cast<int>(samplings.size()), groups = operation.whole("groups"), sets = experts(given);
  require(branches == 1 || sets == 1, "sampled branches have no scores");
  const int c_in = shape.sizes[0], rows = planes.sizes[0], c_out = rows / (branches * sets);
  require(rows % sets == 0, "the weights do not fit the scores");
  require(c_in % groups == 0 && c_out % groups == 0, "the groups do not fit the channels");
  require(are_planes(planes.sizes, int64_t{c_out} * branches * sets, c_in / groups, kernel),
          "the weights do not fit the map's channels");
  require(branches == 1 || (kernel[0] == 1 && kernel[1] == 1), "sampled branches have 1×1 kernels");
  const bool plain = std::all_of(samplings.begin(), samplings.end(), [](const auto& each) { return each == "none"; });
  require(plain || c_in % 4 == 0, "the channels are not divisible by 4");
  require(operation.constant("scale").count() == rows, "scale does not fit the weights");
  for (const char* name : {"alpha", "beta", "shift_in", "slope", "shift_out", "inner_slope"})
    require_length(operation, name, c_out);
  require(operation.has("threshold") != (given.input("threshold") != nullptr), "there is one threshold");
  require_length(operation, "threshold", c_in);
  for (const auto& [name, channels] : {std::pair{"threshold", c_in}, {"gate", c_out}, {"offset", c_out}})
    if (const Shape* input = given.input(name))
      require(is_per_channel(*input, channels), std::string(name) + " does not fit the map");
  return with_shortcut(given, slid(operation, shape, c_out, kernel));
}

std::vector<FieldRule> with_geometry(std::vector<FieldRule> fields) {
  fields.insert(fields.begin(), {pair("stride"), wholes("padding", 4, 0, 4096), flag("same"), real("pad_value"),
                                 pair("dilation"), whole("groups", 1)});
  return fields;
}

const std::vector<Kind>& kinds() {
  static const std::vector<Kind> all = {
      // real-valued
      {"conv", {"x"}, with_geometry({flag("relu")}), {{"weight", 4}, {"bias?", 1}, {"alpha?", 1}, {"beta?", 1}}, conv},
      {"linear", {"x"}, {}, {{"weight", 2}, {"bias?", 1}}, linear},
      {"scale_shift", {"x"}, {}, {{"alpha", 1}, {"beta", 1}}, unchanged},
      {"prelu", {"x"}, {}, {{"slope", 1}, {"positive?", 1}, {"shift_in?", 1}, {"shift_out?", 1}}, unchanged},
      {"clip", {"x"}, {real("low"), real("high")}, {}, unchanged},
      {"function", {"x"}, {word("name", {"abs", "sigmoid", "sign", "tanh"})}, {}, unchanged},
      {"add", {"a", "b"}, {}, {}, elementwise},
      {"subtract", {"a", "b"}, {}, {}, elementwise},
      {"multiply", {"a", "b"}, {}, {}, elementwise},
      {"pool",
       {"x"},
       {word("name", {"max", "average"}), pair("kernel"), pair("stride"), wholes("padding", 2, 0, 4096), flag("ceil"),
        flag("count_padding")},
       {},
       pool},
      {"mean", {"x"}, {wholes("axes", -1, 0, 2), flag("double")}, {}, mean},
      {"context",
       {"x"},
       {word("hidden", {"none", "relu"}), word("output", {"none", "sigmoid"})},
       {{"first", 2}, {"second", 2}},
       context},
      {"add_map", {"x"}, {}, {{"map", 3}}, add_map},
      // arrangement
      {"concat", {"*"}, {}, {}, concat},
      {"slice", {"x"}, {whole("axis", 0, 2), whole("start"), whole("stop", 1), whole("step", 1)}, {}, slice},
      {"pad", {"x"}, {wholes("before", 3, 0, 4096), wholes("behind", 3, 0, 4096), real("value")}, {}, pad},
      {"replicate", {"x"}, {wholes("padding", 4, 0, 4096)}, {}, replicate},
      {"reshape", {"x"}, {wholes("shape", -1)}, {}, reshape},  // 0: whatever is left
      {"permute", {"x"}, {wholes("axes", 3, 0, 2)}, {}, permute},
      {"shift_quarters", {"x"}, {word("sampling", {"short-range", "long-range"})}, {}, shift_quarters},
      {"upsample", {"x"}, {pair("factor")}, {}, upsample},
      {"fill", {"x"}, {real("value")}, {}, unchanged},
      // of few bits
      {"binarize", {"x", "threshold?"}, {}, {{"threshold?", 1}, {"falls?", 1}}, binarize},
      {"quantize",
       {"x"},
       {real("low"), real("high"), real("step"), flag("divide"), whole("offset"), whole("bits", 1, 16)},
       {},
       levels},
      {"encode", {"x"}, {}, {{"basis", 1}}, levels},
      {"stack", {"*"}, {}, {}, stack},
      {"low_bit_conv",
       {"x", "scores?"},
       with_geometry({pair("kernel"), whole("w_bases", 1, 64), whole("a_bits", 1, 16)}),
       {{"planes", 4}, {"scale", 1}, {"a_scale", 1}},
       low_bit_conv},
      {"binary_attention",
       {"query", "key", "value"},
       {whole("heads", 1), real("divisor")},
       {{"query_threshold", 1}, {"key_threshold", 1}, {"value_threshold", 1}, {"level", 1}},
       binary_attention},
      // fused: binarize, binary convolutions, gate and offset, PReLU, scale and shift, shortcut, activation, clip
      {"binary_unit",
       {"x", "scores?", "shortcut?", "threshold?", "gate?", "offset?"},
       with_geometry({pair("kernel"), words("samplings", {"none", "short-range", "long-range"}),
                      word("shortcut", {"none", "same", "average-pool", "duplicate", "given"}),
                      flag("activation_first"), flag("append"), real("limit")}),
       {{"planes", 3},
        {"scale", 1},
        {"threshold?", 1},
        {"alpha?", 1},
        {"beta?", 1},
        {"inner_slope?", 1},
        {"shift_in?", 1},
        {"slope?", 1},
        {"shift_out?", 1}},
       binary_unit},
  };
  return all;
}

bool fits(const FieldRule& rule, const Field& field) {
  if (field.type != rule.type) return false;
  const auto in_range = [&](int number) { return rule.least <= number && number <= rule.most; };
  const auto is_known = [&](const std::string& word) {
    return std::any_of(rule.words.begin(), rule.words.end(), [&](const char* each) { return word == each; });
  };
  switch (field.type) {
    case Field::Type::kReal:
      return !std::isnan(field.real);
    case Field::Type::kWord:
      return is_known(field.words[0]);
    case Field::Type::kWords:
      return !field.words.empty() && std::all_of(field.words.begin(), field.words.end(), is_known);
    default:
      return (rule.count < 0 || field.wholes.size() == static_cast<size_t>(rule.count)) &&
             std::all_of(field.wholes.begin(), field.wholes.end(), in_range);
  }
}

void check_inputs(const Kind& kind, const Operation& operation) {
  const auto& given = operation.inputs;
  if (kind.inputs[0][0] == '*') {
    bool right = !given.empty() && given.size() <= 64;
    for (size_t i = 0; right && i < given.size(); ++i) right = given[i].first == "x" + std::to_string(i);
    require(right, "its inputs are wrong");
    return;
  }
  size_t known = 0;
  for (const char* name : kind.inputs) {
    const bool found =
        std::any_of(given.begin(), given.end(), [&](const auto& each) { return named(name, each.first); });
    require(found || optional(name), "its inputs are not those of its kind");
    known += found;
  }
  require(known == given.size(), "its inputs are not those of its kind");
}

void check_fields(const Kind& kind, const Operation& operation) {
  bool all = kind.fields.size() == operation.fields.size();
  for (const FieldRule& rule : kind.fields) all = all && operation.fields.count(rule.name);
  require(all, "its fields are not those of its kind");
  for (const FieldRule& rule : kind.fields)
    require(fits(rule, operation.fields.at(rule.name)), std::string(rule.name) + " is out of range");
}

const ConstantRule* rule_of(const Kind& kind, const std::string& name) {
  for (const ConstantRule& rule : kind.constants)
    if (named(rule.name, name)) return &rule;
  return nullptr;
}

void check_constants(const Kind& kind, const Operation& operation) {
  const char* what = "its constants are not those of its kind";
  for (const ConstantRule& rule : kind.constants) require(optional(rule.name) || operation.has(rule.name), what);
  for (const auto& each : operation.constants) require(rule_of(kind, each.first) != nullptr, what);
  for (const auto& [name, constant] : operation.constants) {
    const bool right = (name == "planes" ? constant.words != nullptr : constant.floats != nullptr) &&
                       constant.shape.rank == rule_of(kind, name)->rank;
    require(right, name + " is of a wrong type or rank");
    for (int64_t i = 0; constant.floats && i < constant.count(); ++i)
      require(!std::isnan(constant.floats[i]), name + " has values that are not numbers");
  }
}

}  // namespace

int64_t product(std::initializer_list<int64_t> factors) {
  constexpr int64_t most = int64_t{1} << 56;
  int64_t all = 1;
  for (int64_t factor : factors) all = factor && all > most / factor ? most : all * factor;
  return all;
}

bool Shape::operator==(const Shape& other) const {
  return rank == other.rank && std::equal(sizes, sizes + rank, other.sizes);
}

int Operation::input(const char* role) const {
  for (const auto& [name, value] : inputs)
    if (name == role) return value;
  return -1;
}

Side window_side(const Operation& operation, int size, int kernel, int axis) {
  const LongSide side = long_side(operation, size, kernel, axis);
  const auto narrow = [](int64_t number) {
    return static_cast<int>(std::clamp<int64_t>(number, 0, std::numeric_limits<int>::max()));
  };
  return {narrow(side.out), narrow(side.before), narrow(side.behind)};
}

int pooled_size(const Operation& operation, int size, int axis) {
  const int kernel = operation.whole("kernel", axis), stride = operation.whole("stride", axis);
  const int padding = operation.whole("padding", axis);
  const bool ceil = operation.whole("ceil");
  int64_t out = floor_divided(int64_t{size} + 2 * padding - kernel + (ceil ? stride - 1 : 0), stride) + 1;
  if (ceil && (out - 1) * stride >= size + padding) --out;  // a window may not begin in the padding behind
  return static_cast<int>(out);
}

Shape check_operation(const Operation& operation, const std::vector<Shape>& inputs) {
  const auto same = [&](const Kind& kind) { return operation.kind == kind.name; };
  const auto kind = std::find_if(kinds().begin(), kinds().end(), same);
  require(kind != kinds().end(), "there is no such kind of operation");
  check_inputs(*kind, operation);
  check_fields(*kind, operation);
  check_constants(*kind, operation);
  const Shape shape = kind->shape({operation, inputs});
  for (int i = 0; i < shape.rank; ++i)
    require(1 <= shape.sizes[i] && shape.sizes[i] <= kMostSize, "a value is empty or too large");
  return shape;
}

}  // namespace bcdzoo
