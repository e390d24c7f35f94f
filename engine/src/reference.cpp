// The rules of rounding are bcdzoo/plan/reference.py's: sums of real numbers and functions are computed in double and
// rounded once, `std::fma` is rounded once, sums of small integers are exact, and every other step is float32.
#include "reference.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace bcdzoo {
namespace {

using Inputs = std::vector<Map>;

constexpr int kWord = 64;

// An operation, its inputs and its output.
struct Task {
  const Operation& op;
  const Inputs& inputs;
  const Map& out;

  const Map* input(const char* role) const {
    for (size_t i = 0; i < inputs.size(); ++i)
      if (op.inputs[i].first == role) return &inputs[i];
    return nullptr;
  }
  const Map& x() const { return *input("x"); }
  // Sets of weights, and which of them this image has.
  int experts() const { return input("scores") ? input("scores")->channels : 1; }
  int expert() const { return input("scores") ? highest(input("scores")->values, experts()) : 0; }
};

// A map in memory of its own.
class OwnMap {
 public:
  OwnMap(int channels, int height, int width) : numbers_(static_cast<size_t>(channels) * height * width) {
    map = {numbers_.data(), channels, height, width, 1, channels};
  }
  OwnMap(OwnMap&&) = default;  // and no copy, whose map would be the other's

  Map map;

 private:
  std::vector<float> numbers_;
};

// A constant of each channel, or one for all.
class PerChannel {
 public:
  PerChannel(const Operation& op, const char* name, float absent = 0) : absent_(absent) {
    if (op.has(name)) numbers_ = op.constant(name).floats, count_ = op.constant(name).count();
  }
  float operator[](int channel) const { return numbers_ ? numbers_[count_ == 1 ? 0 : channel] : absent_; }

 private:
  const float* numbers_ = nullptr;
  int64_t count_ = 0;
  float absent_;
};

// Sets every number of a map of one level to what a function gives of its channel, row and column.
template <class Function>
void fill_map(const Map& out, Function function) {
  for (int y = 0; y < out.height; ++y)
    for (int x = 0; x < out.width; ++x)
      for (int c = 0; c < out.channels; ++c) out.at(0, c, y, x) = function(c, y, x);
}

// The same from the number of an input at the same place, and its channel.
template <class Function>
void change(const Map& x, const Map& out, Function function) {
  fill_map(out, [&](int c, int row, int column) { return function(x.at(0, c, row, column), c); });
}

// Not a number if either is none.
float larger(float a, float b) { return std::isnan(a) || a > b ? a : b; }
float smaller(float a, float b) { return std::isnan(a) || a < b ? a : b; }
float clipped(float x, float low, float high) { return smaller(larger(x, low), high); }

// The window of an operation on a map.
struct Window {
  int kernel[2], stride[2], dilation[2], before[2];

  Window(const Operation& op, const Map& x, const int* taps) {
    for (int axis : {0, 1}) {
      kernel[axis] = taps[axis];
      stride[axis] = op.whole("stride", axis), dilation[axis] = op.whole("dilation", axis);
      before[axis] = window_side(op, axis ? x.width : x.height, taps[axis], axis).before;
    }
  }
  int taps() const { return kernel[0] * kernel[1]; }
  int row(int out, int tap) const { return out * stride[0] - before[0] + tap / kernel[1] * dilation[0]; }
  int column(int out, int tap) const { return out * stride[1] - before[1] + tap % kernel[1] * dilation[1]; }
};

// What an operation sees of a level of a map: its padding outside.
struct Padded {
  const Map& map;
  int level;
  float padding;

  double at(int channel, int y, int x) const {
    const bool inside = 0 <= y && y < map.height && 0 <= x && x < map.width;
    return inside ? map.at(level, channel, y, x) : padding;
  }
};

// The convolution of a pixel with one of `rows` rows of weights; `weight` gives that of a channel of the group, and
// tap.
template <class Weight>
double convolved(const Padded& seen, const Window& window, int groups, int rows, int row, int y, int x, Weight weight) {
  const int channels = seen.map.channels / groups, first = row / (rows / groups) * channels;
  double sum = 0;
  for (int tap = 0; tap < window.taps(); ++tap)
    for (int c = 0; c < channels; ++c)
      sum += seen.at(first + c, window.row(y, tap), window.column(x, tap)) * weight(c, tap);
  return sum;
}

// The sign of a bit of weights, ±1.
int sign_of(const Constant& planes, int64_t row, int channel, int tap) {
  const int* sizes = planes.shape.sizes + planes.shape.rank - 2;  // taps and words
  const uint64_t word = planes.words[(row * sizes[0] + tap) * sizes[1] + channel / kWord];
  return word >> channel % kWord & 1 ? 1 : -1;
}

// ---- real-valued

void conv(const Task& task) {
  const Operation& op = task.op;
  const Constant& weight = op.constant("weight");
  const Padded seen{task.x(), 0, op.real("pad_value")};
  const Window window(op, task.x(), weight.shape.sizes + 2);
  const PerChannel bias(op, "bias"), alpha(op, "alpha", 1), beta(op, "beta");
  const int c_in = weight.shape.sizes[1], c_out = weight.shape.sizes[0], groups = op.whole("groups");
  const bool relu = op.whole("relu");
  fill_map(task.out, [&](int c, int y, int x) {
    const float* of_row = weight.floats + int64_t{c} * c_in * window.taps();
    const auto number = [&](int channel, int tap) { return double{of_row[int64_t{channel} * window.taps() + tap]}; };
    const double sum = convolved(seen, window, groups, c_out, c, y, x, number) + bias[c];
    const float scaled = std::fma(static_cast<float>(sum), alpha[c], beta[c]);
    return relu ? larger(scaled, 0) : scaled;
  });
}

void linear(const Task& task) {
  const Constant& weight = task.op.constant("weight");
  const Map& x = task.x();
  const PerChannel bias(task.op, "bias");
  fill_map(task.out, [&](int c, int, int) {
    double sum = 0;
    for (int i = 0; i < x.channels; ++i) sum += double{x.pixel(0)[i]} * weight.floats[int64_t{c} * x.channels + i];
    return static_cast<float>(sum + bias[c]);
  });
}

void scale_shift(const Task& task) {
  const PerChannel alpha(task.op, "alpha"), beta(task.op, "beta");
  change(task.x(), task.out, [&](float x, int c) { return std::fma(x, alpha[c], beta[c]); });
}

// The activation of an operation: y·positive where y = x + shift_in is above 0, else y·slope; + shift_out.
class PRelu {
 public:
  explicit PRelu(const Operation& op)
      : shift_in_(op, "shift_in"), positive_(op, "positive", 1), slope_(op, "slope", 1), shift_out_(op, "shift_out") {}
  float operator()(float x, int c) const {
    const float y = x + shift_in_[c];
    return (y > 0 ? y * positive_[c] : y * slope_[c]) + shift_out_[c];
  }

 private:
  PerChannel shift_in_, positive_, slope_, shift_out_;
};

void prelu(const Task& task) { change(task.x(), task.out, PRelu(task.op)); }

void clip(const Task& task) {
  const float low = task.op.real("low"), high = task.op.real("high");
  change(task.x(), task.out, [&](float x, int) { return clipped(x, low, high); });
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

double function_of(const std::string& name, double x) {
  if (name == "abs") return std::abs(x);
  if (name == "sigmoid") return sigmoid(x);
  if (name == "tanh") return std::tanh(x);
  return (x > 0) - (x < 0);  // sign, 0 of what is not a number
}

void function(const Task& task) {
  const std::string& name = task.op.word("name");
  change(task.x(), task.out, [&](float x, int) { return static_cast<float>(function_of(name, x)); });
}

// A size of 1 stands for the other input's.
template <class Function>
void elementwise(const Task& task, Function function) {
  const Map &out = task.out, &a = *task.input("a"), &b = *task.input("b");
  const auto seen = [](const Map& map, int k, int c, int y, int x) {
    return map.at(map.levels == 1 ? 0 : k, map.channels == 1 ? 0 : c, map.height == 1 ? 0 : y, map.width == 1 ? 0 : x);
  };
  for (int k = 0; k < out.levels; ++k)
    for (int y = 0; y < out.height; ++y)
      for (int x = 0; x < out.width; ++x)
        for (int c = 0; c < out.channels; ++c) out.at(k, c, y, x) = function(seen(a, k, c, y, x), seen(b, k, c, y, x));
}

void add(const Task& task) {
  elementwise(task, [](float a, float b) { return a + b; });
}
void subtract(const Task& task) {
  elementwise(task, [](float a, float b) { return a - b; });
}
void multiply(const Task& task) {
  elementwise(task, [](float a, float b) { return a * b; });
}

void add_map(const Task& task) {
  const Constant& map = task.op.constant("map");
  const Map& x = task.x();
  fill_map(task.out, [&](int c, int y, int column) {
    return x.at(0, c, y, column) + map.floats[(int64_t{c} * x.height + y) * x.width + column];
  });
}

// Rows or columns of a map that a window sees, from `begin` on and before `end`, and how many of them count.
struct Span {
  int begin, end;
  float counted;

  Span(const Operation& op, int size, int out, int axis) {
    const int padding = op.whole("padding", axis), first = out * op.whole("stride", axis) - padding;
    const int last = std::min(first + op.whole("kernel", axis), size + padding);
    begin = std::max(first, 0), end = std::min(last, size);
    counted = static_cast<float>(op.whole("count_padding") ? last - first : end - begin);
  }
};

// Padding is -inf for the maximum and 0 for the average; a window is cut where the padding ends.
void pool_of(const Operation& op, const Map& x, const Map& out) {
  const bool is_max = op.word("name") == "max";
  fill_map(out, [&](int c, int y, int column) {
    const Span rows(op, x.height, y, 0), columns(op, x.width, column, 1);
    float all = is_max ? -std::numeric_limits<float>::infinity() : 0;
    for (int i = rows.begin; i < rows.end; ++i)
      for (int j = columns.begin; j < columns.end; ++j)
        all = is_max ? larger(all, x.at(0, c, i, j)) : all + x.at(0, c, i, j);
    return is_max ? all : all / (rows.counted * columns.counted);
  });
}

void pool(const Task& task) { pool_of(task.op, task.x(), task.out); }

void mean(const Task& task) {
  const Map& x = task.x();
  bool over[3] = {};
  for (int axis : task.op.fields.at("axes").wholes) over[axis] = true;
  const int channels = over[0] ? x.channels : 1, rows = over[1] ? x.height : 1, columns = over[2] ? x.width : 1;
  fill_map(task.out, [&](int c, int y, int column) {
    double sum = 0;
    for (int i = 0; i < rows; ++i)
      for (int j = 0; j < columns; ++j)
        for (int k = 0; k < channels; ++k) sum += x.at(0, c + k, y + i, column + j);
    return static_cast<float>(sum / (double(channels) * rows * columns));
  });
}

std::vector<double> product(const Constant& weight, const std::vector<double>& vector) {
  std::vector<double> all(weight.shape.sizes[0]);
  for (size_t row = 0; row < all.size(); ++row)
    for (size_t i = 0; i < vector.size(); ++i) all[row] += weight.floats[row * vector.size() + i] * vector[i];
  return all;
}

// Mean of each channel → first → ReLU if any → second → sigmoid if any, all in double.
void context(const Task& task) {
  const Map& x = task.x();
  std::vector<double> means(x.channels);
  for (int c = 0; c < x.channels; ++c) {
    for (int i = 0; i < x.pixels(); ++i) means[c] += x.pixel(i)[c];
    means[c] /= x.pixels();
  }
  std::vector<double> hidden = product(task.op.constant("first"), means);
  if (task.op.word("hidden") == "relu")
    for (double& each : hidden) each = each < 0 ? 0 : each;
  const std::vector<double> y = product(task.op.constant("second"), hidden);
  const bool squashed = task.op.word("output") == "sigmoid";
  fill_map(task.out, [&](int c, int, int) { return static_cast<float>(squashed ? sigmoid(y[c]) : y[c]); });
}

// ---- arrangement

// Copies a map to channels of another from `first` on.
void copy_channels(const Map& from, const Map& to, int first) {
  for (int i = 0; i < from.pixels(); ++i) std::copy_n(from.pixel(i), from.channels, to.pixel(i) + first);
}

void concat(const Task& task) {
  int first = 0;
  for (const Map& input : task.inputs) {
    copy_channels(input, task.out, first);
    first += input.channels;
  }
}

void slice(const Task& task) {
  const int axis = task.op.whole("axis"), start = task.op.whole("start"), step = task.op.whole("step");
  const Map& x = task.x();
  fill_map(task.out, [&](int c, int y, int column) {
    int at[3] = {c, y, column};
    at[axis] = start + at[axis] * step;
    return x.at(0, at[0], at[1], at[2]);
  });
}

void pad(const Task& task) {
  const std::vector<int>& before = task.op.fields.at("before").wholes;
  const float value = task.op.real("value");
  const Map& x = task.x();
  fill_map(task.out, [&](int c, int y, int column) {
    c -= before[0], y -= before[1], column -= before[2];
    const bool inside = 0 <= c && c < x.channels && 0 <= y && y < x.height && 0 <= column && column < x.width;
    return inside ? x.at(0, c, y, column) : value;
  });
}

void replicate(const Task& task) {
  const Map& x = task.x();
  const int top = task.op.whole("padding", 0), left = task.op.whole("padding", 1);
  fill_map(task.out, [&](int c, int y, int column) {
    return x.at(0, c, std::clamp(y - top, 0, x.height - 1), std::clamp(column - left, 0, x.width - 1));
  });
}

// Numbers keep their place in the order of (C, H, W), which is not that of memory.
void reshape(const Task& task) {
  const Map &x = task.x(), &out = task.out;
  fill_map(out, [&](int c, int y, int column) {
    const int64_t place = (int64_t{c} * out.height + y) * out.width + column;
    const int64_t row = place / x.width;
    return x.at(0, static_cast<int>(row / x.height), static_cast<int>(row % x.height),
                static_cast<int>(place % x.width));
  });
}

void permute(const Task& task) {
  const std::vector<int>& axes = task.op.fields.at("axes").wholes;
  const Map& x = task.x();
  fill_map(task.out, [&](int c, int y, int column) {
    const int given[3] = {c, y, column};
    int at[3];
    for (int i = 0; i < 3; ++i) at[axes[i]] = given[i];
    return x.at(0, at[0], at[1], at[2]);
  });
}

// What a sampling puts at a place: the quarters of the channels are rolled down, up, right and left, by a pixel or half
// the map.
float sampled(const Map& x, const std::string& sampling, int c, int y, int column) {
  if (sampling == "none") return x.at(0, c, y, column);
  const bool is_short = sampling == "short-range";
  const int rows = is_short ? 1 : x.height / 2, columns = is_short ? 1 : x.width / 2, quarter = c / (x.channels / 4);
  if (quarter < 2) y = (y + (quarter == 0 ? x.height - rows : rows)) % x.height;
  if (quarter >= 2) column = (column + (quarter == 2 ? x.width - columns : columns)) % x.width;
  return x.at(0, c, y, column);
}

void shift_quarters(const Task& task) {
  const std::string& sampling = task.op.word("sampling");
  fill_map(task.out, [&](int c, int y, int column) { return sampled(task.x(), sampling, c, y, column); });
}

void upsample(const Task& task) {
  const int rows = task.op.whole("factor", 0), columns = task.op.whole("factor", 1);
  fill_map(task.out, [&](int c, int y, int x) { return task.x().at(0, c, y / rows, x / columns); });
}

void fill(const Task& task) {
  const float value = task.op.real("value");
  fill_map(task.out, [&](int, int, int) { return value; });
}

// ---- of few bits

// +1 where x ≥ threshold, else -1; the other way round where `falls` is 1.
void binarize_to(const Task& task, const Map& out) {
  const PerChannel constant(task.op, "threshold"), falls(task.op, "falls");
  const Map* given = task.input("threshold");
  change(task.x(), out, [&](float x, int c) {
    const float threshold = given ? given->at(0, given->channels == 1 ? 0 : c, 0, 0) : constant[c];
    return (x >= threshold) != (falls[c] != 0) ? 1.0f : -1.0f;
  });
}

void binarize(const Task& task) { binarize_to(task, task.out); }

// Clip, multiply by the step (or divide), round halves to even, add the offset.
void quantize(const Task& task) {
  const float low = task.op.real("low"), high = task.op.real("high"), step = task.op.real("step");
  const float offset = static_cast<float>(task.op.whole("offset"));
  const bool divide = task.op.whole("divide");
  change(task.x(), task.out, [&](float x, int) {
    const float cut = clipped(x, low, high);
    return std::nearbyint(divide ? cut / step : cut * step) + offset;
  });
}

// Bits of the nearest sum of some of the basis; between two of them the lower one.
void encode(const Task& task) {
  const Constant& basis = task.op.constant("basis");
  const int bases = static_cast<int>(basis.count());
  std::vector<float> sums(size_t{1} << bases);
  for (size_t code = 0; code < sums.size(); ++code)
    for (int j = 0; j < bases; ++j) {
      const float term = static_cast<float>(code >> j & 1) * basis.floats[j];
      sums[code] = j ? sums[code] + term : term;
    }
  std::vector<int> order(sums.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {  // what is not a number comes last
    return sums[a] < sums[b] || (std::isnan(sums[b]) && !std::isnan(sums[a]));
  });
  const Map &x = task.x(), &out = task.out;
  for (int k = 0; k < bases; ++k)
    for (int i = 0; i < x.pixels(); ++i)
      for (int c = 0; c < x.channels; ++c) {
        size_t nearest = 0;
        for (size_t place = 1; place < order.size(); ++place)
          nearest += x.pixel(i)[c] > (sums[order[place]] + sums[order[place - 1]]) / 2;
        out.pixel(int64_t{k} * x.pixels() + i)[c] = static_cast<float>(order[nearest] >> k & 1);
      }
}

void stack(const Task& task) {
  int64_t first = 0;
  for (const Map& input : task.inputs)
    for (int i = 0; i < input.pixels(); ++i) std::copy_n(input.pixel(i), input.channels, task.out.pixel(first++));
}

// Sums of integers × scale, summed over bases of weights; × a_scale, summed over bases of activations.
void low_bit_conv(const Task& task) {
  const Operation& op = task.op;
  const Map& levels = task.x();
  const Constant& planes = op.constant("planes");
  const float *scale = op.constant("scale").floats, *a_scale = op.constant("a_scale").floats;
  const Window window(op, levels, op.fields.at("kernel").wholes.data());
  const int w_bits = planes.shape.sizes[0], all_rows = planes.shape.sizes[1], groups = op.whole("groups");
  const int rows = all_rows / task.experts(), first = task.expert() * rows;  // of its own weights
  fill_map(task.out, [&](int c, int y, int x) {
    float all = 0;
    for (int k = 0; k < levels.levels; ++k) {
      const Padded seen{levels, k, op.real("pad_value")};
      float of_level = 0;
      for (int row = c; row < rows; row += task.out.channels) {  // one for each basis of weights
        const auto weight = [&](int channel, int tap) {
          int sum = 0;
          for (int j = 0; j < w_bits; ++j)
            sum += sign_of(planes, int64_t{j} * all_rows + first + row, channel, tap) * (1 << j);
          return double(sum);
        };
        const double sum = convolved(seen, window, groups, rows, row, y, x, weight);
        const float scaled = static_cast<float>(sum) * scale[first + row];
        of_level = row == c ? scaled : of_level + scaled;
      }
      all = k ? all + of_level * a_scale[k] : of_level * a_scale[k];
    }
    return all;
  });
}

// Signs of all three; in each head products of queries and keys / divisor; softmax, in double; 0 or `level`; products
// with the values.
void binary_attention(const Task& task) {
  const Operation& op = task.op;
  const Map &query = *task.input("query"), &key = *task.input("key"), &value = *task.input("value");
  const PerChannel q(op, "query_threshold"), k(op, "key_threshold"), v(op, "value_threshold");
  const float level = op.constant("level").floats[0];
  const double divisor = op.fields.at("divisor").real;
  const int channels = query.channels / op.whole("heads"), keys = key.pixels();
  std::vector<double> weights(keys);
  for (int i = 0; i < query.pixels(); ++i)
    for (int first = 0; first < query.channels; first += channels) {
      for (int j = 0; j < keys; ++j) {
        weights[j] = 0;
        for (int c = first; c < first + channels; ++c)
          weights[j] += (query.pixel(i)[c] >= q[c]) == (key.pixel(j)[c] >= k[c]) ? 1 : -1;
      }
      const double most = *std::max_element(weights.begin(), weights.end());
      for (double& weight : weights) weight = std::exp((weight - most) / divisor);
      const double all = std::accumulate(weights.begin(), weights.end(), 0.0);
      for (int c = first; c < first + channels; ++c) {
        int sum = 0;
        for (int j = 0; j < keys; ++j)
          if (static_cast<float>(weights[j] / all) / level > 0.5f) sum += value.pixel(j)[c] >= v[c] ? 1 : -1;
        task.out.pixel(i)[c] = static_cast<float>(sum) * level;
      }
    }
}

// ---- fused

// What is added behind the convolution.
struct Shortcut {
  std::string name;
  const Map& x;
  const Map* given;
  OwnMap halved;

  explicit Shortcut(const Task& task)
      : name(task.op.word("shortcut")),
        x(task.x()),
        given(task.input("shortcut")),
        halved(x.channels, (x.height + 1) / 2, (x.width + 1) / 2) {
    if (name != "average-pool") return;
    Operation halving;
    const auto pair = [](int number) { return Field{Field::Type::kWholes, {number, number}, 0, {}}; };
    const auto flag = [](int number) { return Field{Field::Type::kWhole, {number}, 0, {}}; };
    halving.fields = {{"name", {Field::Type::kWord, {}, 0, {"average"}}},
                      {"kernel", pair(2)},
                      {"stride", pair(2)},
                      {"padding", pair(0)},
                      {"ceil", flag(1)},
                      {"count_padding", flag(0)}};
    pool_of(halving, x, halved.map);
  }

  float at(int c, int channels, int y, int column) const {
    if (name == "none") return 0;
    if (name == "same") return x.at(0, x.channels - channels + c, y, column);
    if (name == "average-pool") return halved.map.at(0, c, y, column);
    if (name == "duplicate") return x.at(0, c % x.channels, y, column);
    return given->at(0, c, y, column);
  }
};

// Sums of each branch × scale, added up; rows of weights from `first` on.
float branches_sum(const Operation& op, const std::vector<OwnMap>& seen, const Window& window, int channels, int first,
                   int c, int y, int x) {
  const Constant& planes = op.constant("planes");
  const float* scale = op.constant("scale").floats;
  float v = 0;
  for (size_t branch = 0; branch < seen.size(); ++branch) {
    const int64_t row = first + static_cast<int64_t>(branch) * channels + c;
    const auto weight = [&](int channel, int tap) { return double(sign_of(planes, row, channel, tap)); };
    const Padded padded{seen[branch].map, 0, op.real("pad_value")};
    const double sum = convolved(padded, window, op.whole("groups"), channels, c, y, x, weight);
    const float scaled = static_cast<float>(sum) * scale[row];
    v = branch ? v + scaled : scaled;
  }
  return v;
}

// Binarize; sample, convolve and scale for each branch; then, step by step, everything behind the convolution.
void binary_unit(const Task& task) {
  const Operation& op = task.op;
  const Map &x = task.x(), &out = task.out, *gate = task.input("gate"), *offset = task.input("offset");
  const std::vector<std::string>& samplings = op.fields.at("samplings").words;
  const int rows = op.constant("planes").shape.sizes[0] / task.experts(), first = task.expert() * rows;
  const int channels = rows / static_cast<int>(samplings.size());
  OwnMap bits(x.channels, x.height, x.width);
  binarize_to(task, bits.map);
  std::vector<OwnMap> seen;
  seen.reserve(samplings.size());
  for (const std::string& sampling : samplings) {
    seen.emplace_back(x.channels, x.height, x.width);
    fill_map(seen.back().map, [&](int c, int y, int column) { return sampled(bits.map, sampling, c, y, column); });
  }
  const Window window(op, x, op.fields.at("kernel").wholes.data());
  const PerChannel inner(op, "inner_slope", 1), alpha(op, "alpha", 1), beta(op, "beta");
  const PRelu activation(op);
  const Shortcut shortcut(task);
  const bool activation_first = op.whole("activation_first");
  const float limit = op.real("limit");
  const auto value_of = [](const Map& each, int c) { return each.at(0, each.channels == 1 ? 0 : c, 0, 0); };
  const auto unit = [&](int c, int y, int column) {
    float v = branches_sum(op, seen, window, channels, first, c, y, column);
    if (gate) v = v * value_of(*gate, c);
    if (offset) v = v + value_of(*offset, c);
    v = v > 0 ? v : v * inner[c];
    v = std::fma(v, alpha[c], beta[c]);
    v = activation_first ? activation(v, c) : v;
    v = v + shortcut.at(c, channels, y, column);
    v = activation_first ? v : activation(v, c);
    return clipped(v, -limit, limit);
  };
  const int kept =
      out.channels - channels;  // of the input: all if appended to, else those in front of what is added to
  fill_map(out, [&](int c, int y, int column) { return c < kept ? x.at(0, c, y, column) : unit(c - kept, y, column); });
}

const std::map<std::string, void (*)(const Task&)>& functions() {
  static const std::map<std::string, void (*)(const Task&)> all = {
      {"conv", conv},
      {"linear", linear},
      {"scale_shift", scale_shift},
      {"prelu", prelu},
      {"clip", clip},
      {"function", function},
      {"add", add},
      {"subtract", subtract},
      {"multiply", multiply},
      {"add_map", add_map},
      {"pool", pool},
      {"mean", mean},
      {"context", context},
      {"concat", concat},
      {"slice", slice},
      {"pad", pad},
      {"replicate", replicate},
      {"reshape", reshape},
      {"permute", permute},
      {"shift_quarters", shift_quarters},
      {"upsample", upsample},
      {"fill", fill},
      {"binarize", binarize},
      {"quantize", quantize},
      {"encode", encode},
      {"stack", stack},
      {"low_bit_conv", low_bit_conv},
      {"binary_attention", binary_attention},
      {"binary_unit", binary_unit},
  };
  return all;
}

}  // namespace

int highest(const float* scores, int count) {
  int best = 0;
  for (int i = 1; i < count && !std::isnan(scores[best]); ++i)
    if (scores[i] > scores[best] || std::isnan(scores[i])) best = i;
  return best;
}

void run_reference(const Operation& operation, const std::vector<Map>& inputs, const Map& output) {
  functions().at(operation.kind)({operation, inputs, output});
}

}  // namespace bcdzoo
