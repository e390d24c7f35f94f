// Every instruction set of the processor against the portable one, on random chains; no Python needed. See neon.sh.
#include <array>
#include <cstdio>
#include <memory>
#include <random>

#include "../bcdzoo/packed/kernels/chain.h"

using namespace bcdzoo;

static std::mt19937 draw(0);

static int upto(int most) { return static_cast<int>(draw() % static_cast<unsigned>(most)) + 1; }

static Floats floats(int count, int padded, float rest) {
  std::normal_distribution<float> normal;
  Floats values(padded, rest);
  for (int i = 0; i < count; ++i) values[i] = normal(draw);
  return values;
}

static Unit random_unit(int c_in, int c_out, int kernel, Shortcut shortcut, bool sampled) {
  Unit unit;
  unit.c_in = c_in;
  unit.c_out = c_out;
  unit.kernel = kernel;
  unit.padding = kernel / 2;
  unit.shortcut = shortcut;
  unit.threshold = floats(c_in, round_up(c_in, kChannels), INFINITY);
  const int padded = unit.padded_out(), window = unit.window_words();
  for (int b = 0; b < (sampled ? 3 : 1); ++b) {
    Branch branch;
    branch.sampling = sampled ? static_cast<Sampling>(b) : Sampling::kNone;
    branch.panels.assign(static_cast<size_t>(window) * padded, 0);
    branch.tap_sums.assign(static_cast<size_t>(kernel) * kernel * padded, 0);
    const uint64_t last = ~uint64_t{0} >> (unit.words() * kWordBits - c_in);
    for (int c = 0; c < c_out; ++c)
      for (int at = 0; at < window; ++at) {
        const uint64_t bits = (uint64_t{draw()} << 32 | draw()) & ((at + 1) % unit.words() ? ~uint64_t{0} : last);
        branch.panels[(int64_t{c / kChannels} * window + at) * kChannels + c % kChannels] = bits;
        branch.tap_sums[at / unit.words() * padded + c] += 2 * __builtin_popcountll(bits);
      }
    for (int c = 0; c < c_out; ++c)
      for (int tap = 0; tap < kernel * kernel; ++tap) branch.tap_sums[tap * padded + c] -= c_in;
    branch.scale = floats(c_out, padded, 0.0f);
    unit.branches.push_back(branch);
  }
  for (Floats* values : {&unit.alpha, &unit.beta, &unit.shift_in, &unit.slope, &unit.shift_out})
    *values = floats(c_out, padded, 0.0f);
  return unit;
}

static std::unique_ptr<Stem> random_stem(int c_out) {
  auto stem = std::make_unique<Stem>();
  for (const auto& [inputs, outputs, stride, groups] : {std::array{3, 24, 2, 1}, std::array{24, c_out, 1, 4}}) {
    FloatLayer layer;
    layer.c_in = inputs;
    layer.c_out = outputs;
    layer.kernel = 3;
    layer.stride = stride;
    layer.padding = 1;
    layer.groups = groups;
    layer.relu = true;
    const int count = groups * layer.blocks() * 9 * layer.group_in() * kBlock;
    layer.weights = floats(count, count, 0.0f);
    layer.alpha = floats(outputs, outputs, 0.0f);
    layer.beta = floats(outputs, outputs, 0.0f);
    stem->layers.push_back(layer);
  }
  stem->pool_kernel = 3;
  stem->pool_stride = 2;
  stem->pool_padding = 1;
  return stem;
}

int main() {
  const auto sets = all_kernels();
  for (int trial = 0; trial < 150; ++trial) {
    const bool sampled = trial % 3 == 0, with_stem = trial % 3 == 1;
    const int c_in = sampled ? 256 * upto(2) : with_stem ? 4 * upto(40) : upto(200);
    const int size = sampled || !with_stem ? upto(12) : 10 + upto(30), images = upto(3), pixels = size * size;
    std::vector<Unit> units;
    if (sampled)
      units.push_back(random_unit(c_in, c_in, 1, Shortcut::kSame, true));
    else
      units.push_back(random_unit(c_in, c_in, 3, Shortcut::kSame, false));
    units.push_back(random_unit(c_in, upto(150), 2 * upto(2) - 1, Shortcut::kNone, false));
    const Chain chain(std::move(units), with_stem ? random_stem(c_in) : nullptr);
    const int inputs = with_stem ? 3 : c_in;
    const Floats x = floats(images * pixels * inputs, images * pixels * inputs, 0.0f);
    const Shape shape = chain.output(size, size);
    std::vector<Floats> outputs;
    for (const Kernels* kernels : sets) {
      outputs.emplace_back(static_cast<size_t>(images) * shape.height * shape.width * shape.channels, 0.0f);
      Batch batch;
      batch.images = images;
      batch.height = batch.width = size;
      batch.input = x.data();
      batch.first = {x.data(), int64_t{size} * 3, 3, 1};
      batch.image_step = int64_t{pixels} * inputs;
      batch.output = outputs.back().data();
      chain.run(batch, upto(3), *kernels, nullptr);
      if (outputs.back() != outputs.front()) {
        std::printf("%s differs from %s in trial %d\n", kernels->name, sets.front()->name, trial);
        return 1;
      }
    }
  }
  for (const Kernels* kernels : sets) std::printf("%s ", kernels->name);
  std::puts("agree");
  return 0;
}
