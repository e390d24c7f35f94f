// What the tests in Python ask the reader of plans and the reference. For each plan file named on a line of stdin, a
// line: what was found wrong, or "OK" and
//   plan_tool check  the shapes of its values
//   plan_tool run    it was run on the image in FILE.in, float32 (C, H, W); FILE.out has what each operation gives
//   plan_tool steps  the same, but FILE.in holds all values, and each operation runs on those
//   network_tool network  the whole engine ran it, with every instruction set and one to three threads, and gave the
//   same bits;
//                    FILE.out has what the last operation gives
#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <new>
#include <string>
#include <vector>

#include "plan.h"
#include "reference.h"
#ifdef WITH_NETWORK
#include <cstring>

#include "network.h"
#endif

namespace {

using namespace bcdzoo;

// A file's content at a multiple of 64.
class Content {
 public:
  explicit Content(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw PlanError("no file " + path);
    const std::vector<char> all((std::istreambuf_iterator<char>(file)), {});
    size = all.size();
    bytes = static_cast<uint8_t*>(::operator new(size + 1, std::align_val_t{64}));
    std::copy(all.begin(), all.end(), bytes);
  }
  ~Content() { ::operator delete(bytes, std::align_val_t{64}); }
  Content(const Content&) = delete;

  uint8_t* bytes;
  size_t size;
};

std::string text_of(const Shape& shape) {
  std::string text;
  for (int i = 0; i < shape.rank; ++i) text += (i ? "," : " ") + std::to_string(shape.sizes[i]);
  return text;
}

std::string check(const std::string& path) {
  const Content content(path);
  std::string line = "OK";
  for (const Shape& shape : read_plan(content.bytes, content.size, true, false).shapes) line += text_of(shape);
  return line;
}

// A value in memory, its pixels further apart than they need to be.
struct Value {
  static constexpr int kBetween = 3;
  static constexpr float kUntouched = 12345;

  explicit Value(const Shape& shape) {
    map.levels = shape.levels(), map.channels = shape.channels();
    map.height = shape.height(), map.width = shape.width();
    map.step = map.channels + kBetween;
    numbers.assign(static_cast<size_t>(map.levels) * map.pixels() * map.step, kUntouched);
    map.values = numbers.data();
  }

  // Applies something to the numbers in the order of (K, C, H, W).
  template <class Function>
  void each(Function function) {
    for (int k = 0; k < map.levels; ++k)
      for (int c = 0; c < map.channels; ++c)
        for (int y = 0; y < map.height; ++y)
          for (int x = 0; x < map.width; ++x) function(map.at(k, c, y, x));
  }

  void read(std::ifstream& file) {
    each([&](float& number) { file.read(reinterpret_cast<char*>(&number), sizeof number); });
    require(file.good(), "there are too few numbers");
  }

  void write(std::ofstream& file) {
    for (int64_t i = 0; i < int64_t{map.levels} * map.pixels(); ++i)
      for (int64_t c = map.channels; c < map.step; ++c)
        require(map.pixel(i)[c] == kUntouched, "it writes beside a map");
    each([&](float& number) { file.write(reinterpret_cast<const char*>(&number), sizeof number); });
  }

  std::vector<float> numbers;
  Map map;
};

std::string run(const std::string& path, bool steps) {
  const Content content(path);
  const Plan plan = read_plan(content.bytes, content.size, true, true);
  std::ifstream in(path + ".in", std::ios::binary);
  std::ofstream out(path + ".out", std::ios::binary);
  std::vector<Value> values;
  values.reserve(plan.shapes.size());
  values.emplace_back(plan.image);
  values[0].read(in);
  for (size_t i = 0; i < plan.operations.size(); ++i) {
    std::vector<Map> inputs;
    for (const auto& input : plan.operations[i].inputs) inputs.push_back(values[input.second].map);
    values.emplace_back(plan.shapes[i + 1]);
    run_reference(plan.operations[i], inputs, values.back().map);
    values.back().write(out);
    if (steps) values.back().read(in);
  }
  return "OK";
}

#ifdef WITH_NETWORK
std::string run_network(const std::string& path) {
  const Content content(path);
  const Network network(read_plan(content.bytes, content.size, true, true));
  const Shape& image = network.plan().image;
  std::vector<float> pixels(image.count());
  std::ifstream in(path + ".in", std::ios::binary);
  in.read(reinterpret_cast<char*>(pixels.data()), sizeof(float) * pixels.size());
  require(in.good(), "there are too few numbers");
  const int64_t row = image.width(), channel = row * image.height();
  const Images images{pixels.data(), 1, image.count(), channel, row, 1};
  std::vector<float> first;
  for (const Kernels* kernels : all_kernels())
    for (int threads = 1; threads <= 3; ++threads) {
      std::vector<float> out(network.output().count());
      network.run(images, out.data(), threads, *kernels, nullptr);
      if (first.empty()) first = out;
      const bool same = std::memcmp(out.data(), first.data(), sizeof(float) * out.size()) == 0;
      require(same, std::string(kernels->name) + " on " + std::to_string(threads) + " threads gives something else");
    }
  std::ofstream(path + ".out", std::ios::binary)
      .write(reinterpret_cast<const char*>(first.data()), sizeof(float) * first.size());
  return "OK";
}
#else
std::string run_network(const std::string&) { return "this is not network_tool"; }
#endif

std::string answer(const std::string& verb, const std::string& path) try {
  return verb == "check" ? check(path) : verb == "network" ? run_network(path) : run(path, verb == "steps");
} catch (const PlanError& error) {
  return error.what();
}

}  // namespace

int main(int count, char** words) {
  const std::string verb = count == 2 ? words[1] : "";
  if (verb != "check" && verb != "run" && verb != "steps" && verb != "network") {
    std::cerr << "plan_tool check | run | steps | network\n";
    return 2;
  }
  for (std::string path; std::getline(std::cin, path);) std::cout << answer(verb, path) << "\n";
}
