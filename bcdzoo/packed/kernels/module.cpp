// Python's view: a chain is built from dictionaries of arrays, and runs on batches of maps.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <chrono>
#include <climits>
#include <cmath>
#include <stdexcept>

#include "chain.h"
#include "pool.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace bcdzoo {
namespace {

template <class T, int kDimensions>
using Array = nb::ndarray<const T, nb::ndim<kDimensions>, nb::c_contig, nb::device::cpu>;

constexpr int kMostThreads = 1024;
constexpr int kMostPixels = 1 << 14;  // of a map's height and width

void require(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument(what);
}

// What Python gives, if it is exactly that: nothing is converted, neither a double's array nor a number's string.
template <class T>
T exactly(nb::handle given, const std::string& name) {
  T value;
  require(nb::try_cast<T>(given, value, false), name + " is of a wrong type");
  return value;
}

template <class T>
T field(const nb::dict& fields, const char* key) {
  require(fields.contains(key), std::string(key) + " is missing");
  return exactly<T>(fields[key], key);
}

int whole(int64_t value, const char* name, int least, int most) {
  require(value >= least && value <= most, std::string(name) + " is out of range");
  return static_cast<int>(value);
}

int whole(const nb::dict& fields, const char* key, int most) {
  return whole(field<int64_t>(fields, key), key, 0, most);
}

Floats floats(const nb::dict& unit, const char* key, int count, int padded, float rest) {
  const auto array = field<Array<float, 1>>(unit, key);
  require(static_cast<int64_t>(array.shape(0)) == count, std::string(key) + " has a wrong length");
  Floats values(padded, rest);
  std::copy(array.data(), array.data() + count, values.begin());
  return values;
}

// Panels and sums of planes of bits, [c_out][taps][words].
Branch branch(const Unit& unit, const nb::dict& given) {
  const auto planes = field<Array<uint64_t, 3>>(given, "planes");
  const int taps = unit.kernel * unit.kernel, words = unit.words(), padded = unit.padded_out();
  if (static_cast<int64_t>(planes.shape(0)) != unit.c_out || static_cast<int64_t>(planes.shape(1)) != taps ||
      static_cast<int64_t>(planes.shape(2)) != words)
    throw std::invalid_argument("planes have a wrong shape");
  Branch made;
  made.sampling = static_cast<Sampling>(whole(given, "sampling", 2));
  made.scale = floats(given, "scale", unit.c_out, padded, 0.0f);
  made.panels.assign(static_cast<size_t>(unit.window_words()) * padded, 0);
  made.tap_sums.assign(static_cast<size_t>(taps) * padded, 0);
  const int spare = words * kWordBits - unit.c_in;
  const uint64_t last = ~uint64_t{0} >> spare;
  for (int c = 0; c < unit.c_out; ++c)
    for (int tap = 0; tap < taps; ++tap) {
      int ones = 0;
      for (int word = 0; word < words; ++word) {
        uint64_t bits = planes.data()[(int64_t{c} * taps + tap) * words + word];
        if (word == words - 1) bits &= last;  // bits beyond the channels are 0 in both operands
        ones += __builtin_popcountll(bits);
        const int64_t panel = c / kChannels, at = tap * words + word;
        made.panels[(panel * unit.window_words() + at) * kChannels + c % kChannels] = bits;
      }
      made.tap_sums[tap * padded + c] = 2 * ones - unit.c_in;
    }
  return made;
}

Unit unit_of(const nb::dict& given) {
  constexpr int kMost = 1 << 16;
  Unit unit;
  unit.c_in = whole(given, "c_in", kMost);
  unit.c_out = whole(given, "c_out", kMost);
  unit.kernel = whole(given, "kernel", 15);
  unit.stride = whole(given, "stride", 15);
  unit.padding = whole(given, "padding", 15);
  unit.same_padding = field<bool>(given, "same_padding");
  unit.activation_first = field<bool>(given, "activation_first");
  unit.dynamic_threshold = field<bool>(given, "dynamic_threshold");
  unit.dynamic_gate = field<bool>(given, "dynamic_gate");
  unit.dynamic_offset = field<bool>(given, "dynamic_offset");
  unit.zero_one = field<bool>(given, "zero_one");
  unit.append = field<bool>(given, "append");
  unit.shortcut = static_cast<Shortcut>(whole(given, "shortcut", 4));
  if (!unit.c_in || !unit.c_out || !unit.kernel || !unit.stride) throw std::invalid_argument("a unit has a size of 0");
  // Thresholds beyond the channels are never reached, so that their bits are 0.
  unit.threshold = floats(given, "threshold", unit.c_in, round_up(unit.c_in, kChannels), INFINITY);
  const int padded = unit.padded_out();
  unit.alpha = floats(given, "alpha", unit.c_out, padded, 0.0f);
  unit.beta = floats(given, "beta", unit.c_out, padded, 0.0f);
  unit.shift_in = floats(given, "shift_in", unit.c_out, padded, 0.0f);
  unit.slope = floats(given, "slope", unit.c_out, padded, 0.0f);
  unit.shift_out = floats(given, "shift_out", unit.c_out, padded, 0.0f);
  unit.limit = static_cast<float>(field<double>(given, "limit"));
  if (!(unit.limit > 0)) throw std::invalid_argument("limit is out of range");
  if (given.contains("inner_slope"))
    unit.inner_slope = floats(given, "inner_slope", unit.c_out, padded, 0.0f);
  else if (unit.has_extra())
    unit.inner_slope.assign(padded, 1.0f);
  for (const nb::handle one : field<nb::list>(given, "branches"))
    unit.branches.push_back(branch(unit, exactly<nb::dict>(one, "a branch")));
  return unit;
}

FloatLayer float_layer_of(const nb::dict& fields) {
  const auto weights = field<Array<float, 4>>(fields, "weights");  // [c_out][c_in / groups][kernel][kernel]
  FloatLayer layer;
  layer.stride = whole(fields, "stride", 15);
  layer.padding = whole(fields, "padding", 15);
  layer.groups = whole(fields, "groups", 1 << 10);
  layer.relu = field<bool>(fields, "relu");
  if (weights.shape(0) < 1 || weights.shape(0) > 1 << 12 || weights.shape(1) < 1 || weights.shape(1) > 1 << 10 ||
      weights.shape(2) < 1 || weights.shape(2) > 15 || weights.shape(2) != weights.shape(3) || !layer.stride ||
      !layer.groups)
    throw std::invalid_argument("the stem's sizes are out of range");
  layer.c_out = static_cast<int>(weights.shape(0));
  layer.c_in = static_cast<int>(weights.shape(1)) * layer.groups;
  layer.kernel = static_cast<int>(weights.shape(2));
  if (layer.c_out % layer.groups) throw std::invalid_argument("the stem's groups do not fit");
  const int taps = layer.kernel * layer.kernel, inputs = layer.group_in();
  layer.weights.assign(static_cast<size_t>(layer.groups) * layer.blocks() * taps * inputs * kBlock, 0.0f);
  for (int o = 0; o < layer.c_out; ++o)
    for (int c = 0; c < inputs; ++c)
      for (int tap = 0; tap < taps; ++tap) {
        const int group = o / layer.group_out(), in_group = o % layer.group_out();
        const int64_t block = int64_t{group} * layer.blocks() + in_group / kBlock;
        layer.weights[((block * taps + tap) * inputs + c) * kBlock + in_group % kBlock] =
            weights.data()[(static_cast<size_t>(o) * inputs + c) * taps + tap];
      }
  layer.alpha = floats(fields, "alpha", layer.c_out, layer.c_out, 0.0f);
  layer.beta = floats(fields, "beta", layer.c_out, layer.c_out, 0.0f);
  return layer;
}

std::unique_ptr<Stem> stem_of(const nb::object& given) {
  if (given.is_none()) return nullptr;
  const auto fields = exactly<nb::dict>(given, "the stem");
  auto stem = std::make_unique<Stem>();
  for (const nb::handle one : field<nb::list>(fields, "layers"))
    stem->layers.push_back(float_layer_of(exactly<nb::dict>(one, "a layer of the stem")));
  stem->pool_kernel = whole(fields, "pool_kernel", 15);
  stem->pool_stride = whole(fields, "pool_stride", 15);
  stem->pool_padding = whole(fields, "pool_padding", 15);
  if (!stem->pool_kernel || !stem->pool_stride) throw std::invalid_argument("the stem's pooling is out of range");
  return stem;
}

std::unique_ptr<Halving> ending_of(const nb::object& given) {
  if (given.is_none()) return nullptr;
  const auto fields = exactly<nb::dict>(given, "the ending");
  auto ending = std::make_unique<Halving>();
  const auto copy = [&](const char* key) {
    const auto array = field<Array<float, 1>>(fields, key);
    return Floats(array.data(), array.data() + array.shape(0));
  };
  ending->alpha = copy("alpha");
  ending->beta = copy("beta");
  return ending;
}

using Map = nb::ndarray<const float, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Strided = nb::ndarray<const float, nb::ndim<4>, nb::device::cpu>;

bool is_contiguous(const Strided& x) {
  if (x.size() == 0) return true;
  int64_t step = 1;
  for (int i = 3; i >= 0; --i) {  // steps along a dimension of one are of no account
    if (x.shape(i) > 1 && x.stride(i) != step) return false;
    step *= static_cast<int64_t>(x.shape(i));
  }
  return true;
}

const float* per_image(const nb::object& given, bool wanted, int64_t images, int64_t size, const char* what) {
  require(given.is_none() == !wanted, std::string(what) + (wanted ? " is missing" : " is not wanted"));
  if (!wanted) return nullptr;
  const auto array = exactly<nb::ndarray<const float, nb::c_contig, nb::device::cpu>>(given, what);
  require(static_cast<int64_t>(array.size()) == images * size, std::string(what) + " has a wrong size");
  return array.data();
}

void run(const Chain& chain, const Strided& x, nb::ndarray<float, nb::ndim<4>, nb::c_contig, nb::device::cpu> out,
         const nb::object& shortcut, const nb::object& threshold, const nb::object& gate, const nb::object& offset,
         int threads, const std::string& instructions, const nb::object& nanoseconds) {
  const Unit& first = chain.units().front();
  whole(threads, "threads", 1, kMostThreads);
  for (int i = 1; i < 3; ++i)
    require(x.shape(i) >= 1 && x.shape(i) <= kMostPixels, "a map of this size is not supported");
  const int channels = chain.stem() ? chain.stem()->layers.front().c_in : first.c_in;
  if (static_cast<int64_t>(x.shape(3)) != channels || x.shape(0) > INT_MAX)
    throw std::invalid_argument("the input has a wrong number of channels");
  if (!chain.stem() && !is_contiguous(x)) throw std::invalid_argument("the input is not contiguous");
  Batch batch;
  batch.images = static_cast<int>(x.shape(0));
  batch.height = static_cast<int>(x.shape(1));
  batch.width = static_cast<int>(x.shape(2));
  batch.input = x.data();
  batch.first = {x.data(), x.stride(1), x.stride(2), x.stride(3)};
  batch.image_step = x.stride(0);
  batch.output = out.data();
  const Shape shape = chain.output(batch.height, batch.width);
  if (out.shape(0) != x.shape(0) || static_cast<int>(out.shape(1)) != shape.height ||
      static_cast<int>(out.shape(2)) != shape.width || static_cast<int>(out.shape(3)) != shape.channels)
    throw std::invalid_argument("the output has a wrong shape");
  const bool given = first.shortcut == Shortcut::kGiven;
  int64_t size = 0;
  if (given) {
    const auto map = exactly<Map>(shortcut, "shortcut");
    const Shape one = chain.first_output(batch.height, batch.width);
    if (static_cast<int>(map.shape(1)) != one.height || static_cast<int>(map.shape(2)) != one.width ||
        static_cast<int>(map.shape(3)) != one.channels)
      throw std::invalid_argument("the shortcut has a wrong shape");
    size = int64_t{one.height} * one.width * one.channels;
  }
  batch.shortcut = per_image(shortcut, given, batch.images, size, "shortcut");
  batch.threshold = per_image(threshold, first.dynamic_threshold, batch.images, first.c_in, "threshold");
  batch.gate = per_image(gate, first.dynamic_gate, batch.images, first.c_out, "gate");
  batch.offset = per_image(offset, first.dynamic_offset, batch.images, first.c_out, "offset");
  int64_t* spent = nullptr;
  if (!nanoseconds.is_none()) {
    const auto array =
        exactly<nb::ndarray<int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>>(nanoseconds, "nanoseconds");
    if (array.shape(0) != chain.units().size()) throw std::invalid_argument("nanoseconds are one for each unit");
    spent = array.data();
  }
  const Kernels& chosen = kernels(instructions.c_str());
  const nb::gil_scoped_release release;
  chain.run(batch, threads, chosen, spent);
}

// Binary multiply-accumulates per second of the bare tile, all threads at once.
double peak(int words, int threads, const std::string& instructions) {
  whole(words, "words", 1, 1 << 12);
  whole(threads, "threads", 1, kMostThreads);
  const Kernels& chosen = kernels(instructions.c_str());
  const nb::gil_scoped_release release;
  const int repeats = 20'000'000 / (words * (std::string(chosen.name) == "avx512" ? 1 : 20));
  std::vector<double> done(threads);
  const auto start = std::chrono::steady_clock::now();
  const Words activations(kPixels * words, 0x0123456789abcdef), weights(kChannels * words, 0x5555);
  Pool::instance().run(threads, [&](int thread) {
    done[thread] = chosen.spin(activations.data(), weights.data(), words, repeats);
  });
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  double all = 0;
  for (const double mine : done) all += mine;
  return all / seconds.count();
}

NB_MODULE(_kernels, m) {
  m.doc() = "Kernels of 1-bit networks.";
  m.def("instruction_sets", [] {
    std::vector<std::string> names;
    for (const Kernels* found : all_kernels()) names.emplace_back(found->name);
    return names;
  });
  m.def("peak", &peak, "words"_a, "threads"_a, "instructions"_a);
  nb::class_<Chain>(m, "Chain")
      .def("__init__",
           [](Chain* self, const nb::list& given, const nb::object& stem, const nb::object& ending) {
             std::vector<Unit> units;
             for (const nb::handle one : given) units.push_back(unit_of(exactly<nb::dict>(one, "a unit")));
             new (self) Chain(std::move(units), stem_of(stem), ending_of(ending));
           },
           "units"_a, "stem"_a.none(), "ending"_a.none())
      .def("output",
           [](const Chain& self, int height, int width) {
             const Shape shape =
                 self.output(whole(height, "height", 1, kMostPixels), whole(width, "width", 1, kMostPixels));
             return nb::make_tuple(shape.height, shape.width, shape.channels);
           })
      .def("run", &run, "x"_a.noconvert(), "out"_a.noconvert(), "shortcut"_a.none(), "threshold"_a.none(),
           "gate"_a.none(), "offset"_a.none(), "threads"_a, "instructions"_a, "nanoseconds"_a.none());
}

}  // namespace
}  // namespace bcdzoo
