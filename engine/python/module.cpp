// Python's view: a network is made from the content of a plan file and runs on batches of images.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <ctime>
#include <optional>
#include <stdexcept>

#include "loaded.h"
#include "threads.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace bcdzoo {
namespace {

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using PixelBatch = nb::ndarray<const uint8_t, nb::ndim<4>, nb::c_contig, nb::device::cpu>;
using Batch = nb::ndarray<const float, nb::ndim<4>, nb::device::cpu>;
using Result = nb::ndarray<float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Times = nb::ndarray<int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

const Kernels& kernels(const std::string& name) {
  if (const Kernels* const found = find_kernels(name)) return *found;
  throw std::invalid_argument("this processor has no kernels named " + name);
}

nb::tuple shape_of(const Shape& shape) {
  nb::list sizes;
  for (int i = 0; i < shape.rank; ++i) sizes.append(shape.sizes[i]);
  return nb::tuple(sizes);
}

// Checks what is given to run, and what it gives, against the network: the images' height and width are at `at`.
template <class Any>
void require_sizes(const Loaded& self, const Any& images, const Result& out, int channels, int at) {
  const Shape& image = self.plan().image;
  const auto is = [&](int axis, int size) { return static_cast<int64_t>(images.shape(axis)) == size; };
  require(is(channels, image.channels()) && is(at, image.height()) && is(at + 1, image.width()),
          "the images have a wrong size");
  require(images.shape(0) <= kMostImages, "there are too many images");
  require(out.shape(0) == images.shape(0) && static_cast<int64_t>(out.shape(1)) == self.network().output().count(),
          "the output has a wrong shape");
}

void run(const Loaded& self, const Batch& images, const Result& out, int64_t threads, const std::string& instructions,
         const std::optional<Times>& nanoseconds) {
  require_sizes(self, images, out, 1, 2);
  require(!nanoseconds || nanoseconds->shape(0) == self.plan().operations.size(),
          "nanoseconds are one for each operation");
  const Kernels& chosen = kernels(instructions);
  const int count = threads_of(threads);
  const Images batch{images.data(),    static_cast<int>(images.shape(0)),
                     images.stride(0), images.stride(1),
                     images.stride(2), images.stride(3)};
  const nb::gil_scoped_release release;
  self.network().run(batch, out.data(), count, chosen, nanoseconds ? nanoseconds->data() : nullptr);
}

void run_pixels(const Loaded& self, const PixelBatch& pixels, const Result& out, int64_t threads,
                const std::string& instructions) {
  require_sizes(self, pixels, out, 3, 1);
  const Kernels& chosen = kernels(instructions);
  const int count = threads_of(threads);
  const nb::gil_scoped_release release;
  self.run_pixels(pixels.data(), static_cast<int>(pixels.shape(0)), out.data(), count, chosen);
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
    } catch (const FileError& missing) {
      PyErr_SetString(PyExc_OSError, missing.what());
    }
  });
  m.def("instruction_sets", [] {
    std::vector<std::string> names;
    for (const Kernels* found : all_kernels()) names.emplace_back(found->name);
    return names;
  });
  m.def(
      "peak",
      [](int64_t threads, const std::string& instructions) {
        const Kernels& chosen = kernels(instructions);
        return rate(threads, [&](int repeats) { return chosen.spin(kSpinLength, repeats); });
      },
      "threads"_a, "instructions"_a);
  m.def(
      "float_peak",
      [](int64_t threads, const std::string& instructions) {
        const Kernels& chosen = kernels(instructions);
        return rate(threads, [&](int repeats) { return chosen.float_spin(kSpinLength, repeats); });
      },
      "threads"_a, "instructions"_a);
  nb::class_<Loaded>(m, "Network")
      .def(
          "__init__",
          [](Loaded* self, const Bytes& bytes, bool hashed, bool map) {
            new (self) Loaded(Content(bytes.data(), bytes.data() + bytes.size()), hashed, map);
          },
          "content"_a.noconvert(), "hashed"_a, "map"_a = false)
      .def(
          "__init__",
          [](Loaded* self, const nb::bytes& path) {
            require(std::string(path.c_str(), path.size()).find('\0') == std::string::npos, "its name has a zero byte");
            new (self) Loaded(content_of(path.c_str()), true, false);
          },
          "path"_a)
      .def_prop_ro("model", [](const Loaded& self) { return self.plan().model; })
      .def_prop_ro("preprocess", [](const Loaded& self) { return self.plan().preprocess; })
      .def_prop_ro("class_names", [](const Loaded& self) { return self.plan().class_names; })
      .def_prop_ro("input", [](const Loaded& self) { return shape_of(self.plan().image); })
      .def_prop_ro("output", [](const Loaded& self) { return shape_of(self.network().output()); })
      .def_prop_ro("arena_bytes", [](const Loaded& self) { return self.network().arena_bytes(); })
      .def_prop_ro("slow", [](const Loaded& self) { return self.network().slow(); })
      .def_prop_ro("steps", [](const Loaded& self) { return self.network().steps(); })
      .def("run_pixels", &run_pixels, "pixels"_a.noconvert(), "out"_a.noconvert(), "threads"_a, "instructions"_a)
      .def("run", &run, "images"_a.noconvert(), "out"_a.noconvert(), "threads"_a, "instructions"_a,
           "nanoseconds"_a.noconvert() = nb::none());
}

}  // namespace
}  // namespace bcdzoo
