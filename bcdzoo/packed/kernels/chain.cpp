#include "chain.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <string>

#include "pool.h"

namespace bcdzoo {

std::vector<const Kernels*> all_kernels() {
  std::vector<const Kernels*> found;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vpopcntdq")) found.push_back(&kAvx512);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(&kAvx2);
#elif defined(__aarch64__)
  found.push_back(&kNeon);
#endif
  found.push_back(&kPortable);
  return found;
}

const Kernels& kernels(const char* name) {
  for (const Kernels* found : all_kernels())
    if (!*name || !std::strcmp(found->name, name)) return *found;
  throw std::invalid_argument(std::string("this processor has no kernels named ") + name);
}

struct Chain::Workspace {
  Floats maps[2];
  std::vector<Words> bits;     // borders stay 0
  std::vector<Floats> planes;  // likewise
};

struct Chain::Plan {
  std::vector<Geometry> geometries;
  std::vector<Planes> planes;      // of the stem: of the image and of each layer's output
  std::vector<int64_t> bit_words;  // of each unit's packed map
  int64_t largest_map = 0;         // floats
  std::mutex mutex;
  std::vector<std::unique_ptr<Workspace>> idle;  // kept, for fresh memory costs more than some units
};

std::unique_ptr<Chain::Workspace> Chain::borrow(Plan& plan) {
  {
    const std::lock_guard<std::mutex> lock(plan.mutex);
    if (!plan.idle.empty()) {
      auto space = std::move(plan.idle.back());
      plan.idle.pop_back();
      return space;
    }
  }
  auto space = std::make_unique<Workspace>();
  for (Floats& map : space->maps) map = Floats(plan.largest_map);
  for (const int64_t words : plan.bit_words) space->bits.emplace_back(words, 0);
  for (const Planes& planes : plan.planes) space->planes.emplace_back(planes.size(), 0.0f);
  return space;
}

namespace {

void require(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument(what);
}

void check(const Unit& unit) {
  const auto padded = static_cast<size_t>(unit.padded_out());
  require(unit.c_in > 0 && unit.c_out > 0 && unit.kernel > 0 && unit.kernel <= 15 && unit.stride > 0 &&
              unit.padding >= 0 && unit.padding < unit.kernel,
          "a unit's sizes are out of range");
  require(unit.branches.size() == 1 || unit.branches.size() == kMostBranches, "a unit has one branch or three");
  for (const Floats* values : {&unit.alpha, &unit.beta, &unit.shift_in, &unit.slope, &unit.shift_out})
    require(values->size() == padded, "a unit's constants are not one for each output channel");
  require(unit.threshold.size() == static_cast<size_t>(round_up(unit.c_in, kChannels)),
          "a unit's thresholds are not one for each channel");
  require(unit.inner_slope.empty() || unit.inner_slope.size() == padded, "a unit's constants are not one for each output channel");
  const bool plain = !unit.has_extra() && !unit.dynamic_gate && !unit.dynamic_offset;
  require(unit.branches.size() == 1 || plain, "a unit of three branches has no inner activation, limit or gate");
  for (const Branch& branch : unit.branches) {
    require(branch.panels.size() == static_cast<size_t>(unit.window_words()) * padded, "weights of a wrong size");
    require(branch.tap_sums.size() == static_cast<size_t>(unit.kernel) * unit.kernel * padded, "sums of a wrong size");
    require(branch.scale.size() == padded, "scales of a wrong size");
    require(branch.sampling == Sampling::kNone ||
                (unit.kernel == 1 && unit.stride == 1 && unit.padding == 0 && unit.c_in % (4 * kWordBits) == 0),
            "samples need a 1x1 convolution of a multiple of 256 channels");
  }
  const bool same_shape = unit.stride == 1 && !unit.append;
  require(unit.shortcut != Shortcut::kSame || (same_shape && unit.c_out <= unit.c_in), "the shortcut does not fit");
  require(unit.shortcut != Shortcut::kAveragePool || (unit.stride == 2 && unit.c_in == unit.c_out),
          "the pooled shortcut does not fit");
  require(unit.shortcut != Shortcut::kDuplicate || (unit.stride == 1 && unit.c_out == 2 * unit.c_in),
          "the doubled shortcut does not fit");
}

void check(const Stem& stem, int channels) {
  require(!stem.layers.empty() && stem.layers.back().c_out == channels, "the stem does not fit");
  int c_in = stem.layers.front().c_in;
  for (const FloatLayer& layer : stem.layers) {
    require(layer.c_in == c_in && layer.c_in % layer.groups == 0 && layer.c_out % layer.groups == 0 &&
                layer.padding < layer.kernel,
            "the stem's layers do not fit");
    c_in = layer.c_out;
  }
  require(stem.pool_padding < stem.pool_kernel, "the stem's pooling is out of range");
}

// Whether a unit leaves the map it reads in place and writes into it.
bool adds_to_map(const Unit& unit) {
  return unit.append || (unit.shortcut == Shortcut::kSame && unit.c_out < unit.c_in);
}

// First channel of its map that such a unit writes.
int offset(const Unit& unit) { return unit.append ? unit.c_in : unit.c_in - unit.c_out; }

Geometry geometry(const Unit& unit, int height, int width) {
  require(height > 0 && width > 0, "a map has no pixels");
  Geometry g;
  g.height = height;
  g.width = width;
  int bottom, right;
  const auto sides = [&](int size, int& before, int& after, int& out) {
    if (unit.same_padding) {
      out = ceil_div(size, unit.stride);
      const int needed = std::max((out - 1) * unit.stride + unit.kernel - size, 0);
      before = needed / 2;
      after = needed - before;
    } else {
      before = after = unit.padding;
      require(size + 2 * unit.padding >= unit.kernel, "a map is smaller than the kernel");
      out = (size + 2 * unit.padding - unit.kernel) / unit.stride + 1;
    }
  };
  sides(height, g.top, bottom, g.out_height);
  sides(width, g.left, right, g.out_width);
  g.bit_height = height + g.top + bottom;
  g.bit_width = width + g.left + right;
  return g;
}

// Taps of an output row (or column) that fall into the padding, a bit each.
int missing(int position, int stride, int kernel, int before, int size) {
  int taps = 0;
  for (int tap = 0; tap < kernel; ++tap) {
    const int at = position * stride + tap - before;
    if (at < 0 || at >= size) taps |= 1 << tap;
  }
  return taps;
}

// The constant part of every sum, by border class: a padded position adds -weight to the count, which is taken back.
void add_bases(const Unit& unit, Geometry& g) {
  std::map<std::pair<int, int>, int> known;
  const int padded = unit.padded_out(), ones = unit.kernel * unit.kernel * unit.c_in;
  g.classes.resize(g.pixels());
  for (int y = 0; y < g.out_height; ++y)
    for (int x = 0; x < g.out_width; ++x) {
      const std::pair<int, int> taps{missing(y, unit.stride, unit.kernel, g.top, g.height),
                                     missing(x, unit.stride, unit.kernel, g.left, g.width)};
      const auto [entry, is_new] = known.emplace(taps, static_cast<int>(known.size()));
      g.classes[y * g.out_width + x] = entry->second;
      if (!is_new) continue;
      for (const Branch& branch : unit.branches)
        for (int c = 0; c < padded; ++c) {
          int32_t base = ones;
          for (int row = 0; row < unit.kernel; ++row)
            for (int column = 0; column < unit.kernel; ++column)
              // with 0 and 1: sum of w * x = (sum of w * (2x - 1) + sum of w) / 2, and padding is 0 by itself
              if (unit.zero_one || (taps.first >> row & 1) || (taps.second >> column & 1))
                base += branch.tap_sums[(row * unit.kernel + column) * padded + c];
          g.bases.push_back(base);
        }
    }
}

void add_places(const Unit& unit, Geometry& g) {
  for (int y = 0; y < g.height; ++y)
    for (int x = 0; x < g.width; ++x) g.bit_at.push_back((y + g.top) * g.bit_width + x + g.left);
  for (int y = 0; y < g.out_height; ++y)
    for (int x = 0; x < g.out_width; ++x) g.window_at.push_back((y * g.bit_width + x) * unit.stride);
  for (const bool far : {false, true}) {
    const bool used = std::any_of(unit.branches.begin(), unit.branches.end(), [&](const Branch& branch) {
      return branch.sampling == (far ? Sampling::kLongRange : Sampling::kShortRange);
    });
    const int rows = (far ? g.height / 2 : 1) % g.height, columns = (far ? g.width / 2 : 1) % g.width;
    for (int y = 0; used && y < g.height; ++y)
      for (int x = 0; x < g.width; ++x) {
        const int down = (y - rows + g.height) % g.height, up = (y + rows) % g.height;
        const int right = (x - columns + g.width) % g.width, left = (x + columns) % g.width;
        for (const int from : {down * g.width + x, up * g.width + x, y * g.width + right, y * g.width + left})
          g.sampled_at[far].push_back(from);
      }
  }
}

}  // namespace

Chain::Chain(std::vector<Unit> units, std::unique_ptr<Stem> stem, std::unique_ptr<Halving> ending)
    : units_(std::move(units)), stem_(std::move(stem)), ending_(std::move(ending)) {
  require(!units_.empty(), "a chain has no units");
  if (stem_) check(*stem_, units_.front().c_in);
  wide_ = adds_to_map(units_.front());
  int channels = units_.front().c_in;
  for (size_t i = 0; i < units_.size(); ++i) {
    const Unit& unit = units_[i];
    check(unit);
    require(unit.c_in == channels, "a unit's input is not the output of the one before");
    require(adds_to_map(unit) == wide_, "units that add to a map do not mix with others");
    require(!wide_ || unit.stride == 1, "units that add to a map keep its size");
    require(!wide_ || units_.size() == 1 || offset(unit) % kChannels == 0, "units that add to a map add whole panels");
    const bool per_image = unit.dynamic_threshold || unit.dynamic_gate || unit.dynamic_offset;
    require(i == 0 || !(per_image || unit.shortcut == Shortcut::kGiven), "only a first unit takes values per image");
    if (unit.append) channels += unit.c_out;
    if (!wide_) channels = unit.c_out;
  }
  require(!ending_ || (ending_->alpha.size() == static_cast<size_t>(channels) && ending_->beta.size() == ending_->alpha.size()),
          "the ending does not fit");
}

Shape Chain::output(int height, int width) const { return output_of(plan(height, width)->geometries.back()); }

Shape Chain::output_of(const Geometry& last) const {
  if (ending_) return {Halving::output(last.out_height), Halving::output(last.out_width), last.out_channels};
  return {last.out_height, last.out_width, last.out_channels};
}

Shape Chain::first_output(int height, int width) const {
  const Geometry& first = plan(height, width)->geometries.front();
  return {first.out_height, first.out_width, units_.front().c_out};
}

std::shared_ptr<Chain::Plan> Chain::plan(int height, int width) const {
  const std::lock_guard<std::mutex> lock(mutex_);
  auto& known = plans_[{height, width}];
  if (known) return known;
  const auto made = std::make_shared<Plan>();
  if (stem_) {
    const auto fits = [&](int kernel, int padding) {
      require(std::min(height, width) + 2 * padding >= kernel, "an image is smaller than the kernel");
    };
    for (const FloatLayer& layer : stem_->layers) {
      fits(layer.kernel, layer.padding);
      made->planes.emplace_back(layer.c_in, height, width, layer.stride, layer.padding, layer.kernel);
      height = layer.output(height);
      width = layer.output(width);
    }
    made->planes.emplace_back(stem_->layers.back().c_out, height, width, 1, 0, 1);
    fits(stem_->pool_kernel, stem_->pool_padding);
    height = stem_->pooled(height);
    width = stem_->pooled(width);
    made->largest_map = int64_t{height} * width * units_.front().c_in;
  }
  int channels = units_.front().c_in;
  for (const Unit& unit : units_) channels += wide_ && unit.append ? unit.c_out : 0;
  const int widest = channels;
  for (const Unit& unit : units_) {
    Geometry g = geometry(unit, height, width);
    if (wide_) {
      require(g.out_height == height && g.out_width == width, "units that add to a map keep its size");
      g.in_channels = g.out_channels = widest;
      if (ending_) made->largest_map = std::max(made->largest_map, int64_t{height} * width * widest);
      g.out_offset = offset(unit);
    } else {
      g.in_channels = unit.c_in;
      g.out_channels = unit.c_out;
      require(unit.shortcut != Shortcut::kSame || (g.out_height == height && g.out_width == width),
              "the shortcut does not fit");
      require(unit.shortcut != Shortcut::kAveragePool ||
                  (g.out_height == ceil_div(height, 2) && g.out_width == ceil_div(width, 2)),
              "the pooled shortcut does not fit");
      made->largest_map = std::max(made->largest_map, int64_t{g.pixels()} * unit.c_out);
    }
    add_bases(unit, g);
    add_places(unit, g);
    made->bit_words.push_back(int64_t{g.bit_height} * g.bit_width * unit.words());
    height = g.out_height;
    width = g.out_width;
    made->geometries.push_back(std::move(g));
  }
  return known = made;
}

void Chain::run(const Batch& batch, int threads, const Kernels& kernels, int64_t* nanoseconds) const {
  const auto sizes = plan(batch.height, batch.width);
  threads = std::max(threads, 1);
  const int whole = batch.images / threads * threads;  // images that keep every thread busy by themselves
  std::vector<std::unique_ptr<Workspace>> workspaces(whole ? threads : 1);
  for (auto& space : workspaces) space = borrow(*sizes);
  std::vector<std::vector<int64_t>> spent(threads, std::vector<int64_t>(units_.size()));
  if (whole) {
    std::atomic<int> next{0};
    Pool::instance().run(threads, [&](int thread) {
      Barrier alone(1);
      for (int image = next++; image < whole; image = next++)
        run_image(*sizes, *workspaces[thread], batch, image, 0, 1, alone, kernels, spent[thread].data());
    });
  }
  if (whole < batch.images) {  // the rest are shared, tile by tile
    Barrier all(threads);
    Pool::instance().run(threads, [&](int thread) {
      for (int image = whole; image < batch.images; ++image)
        run_image(*sizes, *workspaces[0], batch, image, thread, threads, all, kernels, spent[thread].data());
    });
  }
  {
    const std::lock_guard<std::mutex> lock(sizes->mutex);
    for (auto& space : workspaces) sizes->idle.push_back(std::move(space));
  }
  for (size_t i = 0; nanoseconds && i < units_.size(); ++i)
    for (const auto& mine : spent) nanoseconds[i] += mine[i];
}

void Chain::run_stem(const Plan& sizes, Workspace& space, const Image& image, int thread, int threads, Barrier& barrier,
                     const Kernels& kernels) const {
  const auto share = [&](int rows) { return std::pair<int, int>{rows * thread / threads, rows * (thread + 1) / threads}; };
  const auto [first_row, last_row] = share(sizes.planes.front().height);
  kernels.stem.load(image, sizes.planes.front(), space.planes.front().data(), first_row, last_row);
  barrier.wait();
  for (size_t i = 0; i < stem_->layers.size(); ++i) {
    const Planes& to = sizes.planes[i + 1];
    const auto [begin, end] = share(to.height);
    kernels.stem.layer(stem_->layers[i], sizes.planes[i], space.planes[i].data(), to, space.planes[i + 1].data(), begin, end);
    barrier.wait();
  }
  const auto [begin, end] = share(stem_->pooled(sizes.planes.back().height));
  kernels.stem.pool(*stem_, sizes.planes.back(), space.planes.back().data(), space.maps[0].data(), begin, end);
  barrier.wait();
}

void Chain::run_image(const Plan& sizes, Workspace& space, const Batch& batch, int image, int thread, int threads,
                      Barrier& barrier, const Kernels& kernels, int64_t* nanoseconds) const {
  const auto share = [&](int all) {
    return std::pair<int, int>{static_cast<int>(int64_t{all} * thread / threads),
                               static_cast<int>(int64_t{all} * (thread + 1) / threads)};
  };
  const Geometry& last = sizes.geometries.back();
  const Geometry& begins = sizes.geometries.front();
  const int pixels = begins.height * begins.width, c_in = units_.front().c_in;
  const float* const given = stem_ ? nullptr : batch.input + int64_t{image} * pixels * c_in;
  const float* input = given;
  const auto reader = [&](size_t i) {
    return Reader{&units_[i], &sizes.geometries[i], reinterpret_cast<uint32_t*>(space.bits[i].data())};
  };
  const auto [first_pixel, last_pixel] = share(pixels);
  const auto of_image = [&](const float* all, int64_t size) { return all ? all + image * size : nullptr; };
  if (stem_) {
    Image at = batch.first;
    at.values += image * batch.image_step;
    run_stem(sizes, space, at, thread, threads, barrier, kernels);
    input = space.maps[0].data();
  }
  auto start = std::chrono::steady_clock::now();
  for (size_t i = 0; i < (wide_ ? units_.size() : 1); ++i) {  // all of these read the map's first channels
    const Source source{input, c_in, i == 0 ? of_image(batch.threshold, c_in) : nullptr};
    kernels.pack(units_[i], sizes.geometries[i], source, space.bits[i].data(), first_pixel, last_pixel);
  }
  const Shape shape = output_of(last);
  float* const output = batch.output + int64_t{image} * shape.height * shape.width * shape.channels;
  float* result = ending_ ? space.maps[1].data() : output;
  if (wide_) {
    for (int pixel = first_pixel; pixel < last_pixel; ++pixel)
      std::memcpy(result + int64_t{pixel} * last.out_channels, input + int64_t{pixel} * c_in, sizeof(float) * c_in);
    input = result;
  }
  barrier.wait();
  for (size_t i = 0; i < units_.size(); ++i) {
    const Unit& unit = units_[i];
    const Geometry& g = sizes.geometries[i];
    const bool ends = i + 1 == units_.size();
    Maps maps;
    maps.input = input;
    maps.bits = space.bits[i].data();
    if (wide_ || ends) {
      maps.output = result;
    } else if (unit.shortcut == Shortcut::kSame && input != given) {
      maps.output = const_cast<float*>(input);  // each value is read once, before it is written
    } else {
      maps.output = space.maps[input == space.maps[0].data()].data();
    }
    if (i == 0) {
      maps.shortcut = of_image(batch.shortcut, int64_t{g.pixels()} * unit.c_out);
      maps.gate = of_image(batch.gate, unit.c_out);
      maps.offset = of_image(batch.offset, unit.c_out);
    }
    for (size_t later = i + 1; later < units_.size(); ++later) {
      maps.readers.push_back(reader(later));
      if (!wide_ || offset(units_[later]) == offset(unit)) break;  // it writes them anew
    }
    const auto [begin, end] = share(ceil_div(g.pixels(), kPixels));
    kernels.convolve(unit, g, maps, begin, end);
    barrier.wait();
    input = maps.output;
    const auto end_time = std::chrono::steady_clock::now();
    nanoseconds[i] += (end_time - std::exchange(start, end_time)).count();
  }
  if (ending_) {
    const auto [begin, end] = share(shape.height);
    kernels.halve(*ending_, last.out_height, last.out_width, input, output, begin, end);
    barrier.wait();  // the maps may be written again
  }
}

}  // namespace bcdzoo
