// Python's view: a network is made from the content of a plan file and runs on batches of images.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <ctime>
#include <optional>
#include <stdexcept>

#include "network.h"
#include "threads.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace bcdzoo {
namespace {

constexpr int kMostThreads = 1024;
constexpr int kMostImages = 1 << 20;

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Batch = nb::ndarray<const float, nb::ndim<4>, nb::device::cpu>;
using Result = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Times = nb::ndarray<int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

const Kernels& kernels(const std::string& name) {
  for (const Kernels* found : all_kernels())
    if (name == found->name) return *found;
  throw std::invalid_argument("this processor has no kernels named " + name);
}

int threads_of(int64_t threads) {
  require(threads >= 1 && threads <= kMostThreads, "threads is out of range");
  return static_cast<int>(threads);
}

// A network with the content that its constants lie in.
struct Owner {
  std::vector<uint8_t, Aligned<uint8_t>> content;
  Network network;

  Owner(const Bytes& bytes, bool hashed, bool map)
      : content(bytes.data(), bytes.data() + bytes.size()), network(read_plan(content.data(), content.size(), hashed, map)) {}
};

nb::tuple shape_of(const Shape& shape) {
  nb::list sizes;
  for (int i = 0; i < shape.rank; ++i) sizes.append(shape.sizes[i]);
  return nb::tuple(sizes);
}

void run(const Owner& self, const Batch& images, const Result& out, int64_t threads, const std::string& instructions, const std::optional<Times>& nanoseconds) {
  const Shape& image = self.network.plan().image;
  for (int i = 0; i < 3; ++i) require(static_cast<int>(images.shape(i + 1)) == image.sizes[i], "the images have a wrong size");
  require(images.shape(0) <= kMostImages, "there are too many images");
  require(out.shape(0) == images.shape(0) && static_cast<int64_t>(out.shape(1)) == self.network.output().count(), "the output has a wrong shape");
  require(!nanoseconds || nanoseconds->shape(0) == self.network.plan().operations.size(), "nanoseconds are one for each operation");
  const Kernels& chosen = kernels(instructions);
  const int count = threads_of(threads);
  const Images batch{images.data(), static_cast<int>(images.shape(0)), images.stride(0), images.stride(1), images.stride(2), images.stride(3)};
  const nb::gil_scoped_release release;
  self.network.run(batch, out.data(), count, chosen, nanoseconds ? nanoseconds->data() : nullptr);
}

constexpr int kSpinLength = 144;  // of a window: dwords, or floats
constexpr double kSpinSeconds = 0.02;

// Seconds that this thread has run: others' work does not count.
double seconds_of_thread() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

// What a bare tile does in a second, repeated for long enough to be timed on any processor.
template <class Spin>
double speed_of(const Spin& spin) {
  for (int repeats = 100;; repeats *= 2) {
    const double start = seconds_of_thread(), done = spin(repeats), seconds = seconds_of_thread() - start;
    if (seconds >= kSpinSeconds || repeats > 1 << 28) return done / seconds;
  }
}

// Multiply-accumulates per second of a bare tile, all threads at once.
template <class Spin>
double rate(int64_t threads, const Spin& spin) {
  const int count = threads_of(threads);
  const nb::gil_scoped_release release;
  std::vector<double> speeds(count);
  Pool::instance().run(count, [&](int thread) { speeds[thread] = speed_of(spin); });
  double all = 0;
  for (const double mine : speeds) all += mine;
  return all;
}

NB_MODULE(_engine, m) {
  m.doc() = "The 1-bit engine.";
  nb::register_exception_translator([](const std::exception_ptr& error, void*) {
    try {
      std::rethrow_exception(error);
    } catch (const PlanError& refused) {
      PyErr_SetString(PyExc_ValueError, refused.what());
    }
  });
  m.def("instruction_sets", [] {
    std::vector<std::string> names;
    for (const Kernels* found : all_kernels()) names.emplace_back(found->name);
    return names;
  });
  m.def("peak", [](int64_t threads, const std::string& instructions) {
    const Kernels& chosen = kernels(instructions);
    return rate(threads, [&](int repeats) { return chosen.spin(kSpinLength, repeats); });
  }, "threads"_a, "instructions"_a);
  m.def("float_peak", [](int64_t threads, const std::string& instructions) {
    const Kernels& chosen = kernels(instructions);
    return rate(threads, [&](int repeats) { return chosen.float_spin(kSpinLength, repeats); });
  }, "threads"_a, "instructions"_a);
  nb::class_<Owner>(m, "Network")
      .def(nb::init<const Bytes&, bool, bool>(), "content"_a.noconvert(), "hashed"_a, "map"_a = false)
      .def_prop_ro("output", [](const Owner& self) { return shape_of(self.network.output()); })
      .def_prop_ro("arena_bytes", [](const Owner& self) { return self.network.arena_bytes(); })
      .def_prop_ro("slow", [](const Owner& self) { return self.network.slow(); })
      .def_prop_ro("steps", [](const Owner& self) { return self.network.steps(); })
      .def("run", &run, "images"_a.noconvert(), "out"_a.noconvert(), "threads"_a, "instructions"_a, "nanoseconds"_a.noconvert() = nb::none());
}

}  // namespace
}  // namespace bcdzoo
