#include "network.h"

#include <atomic>
#include <chrono>

#include "real_tasks.h"
#include "threads.h"

namespace bcdzoo {
namespace {

constexpr double kWorthAThread = 100e3;  // nanoseconds of work: waking one takes a good part of that
constexpr int kLastRows =
    16;  // of the classifier's weights at a time, which wait in the cache while all images meet them

int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// Whether numbers `step` apart are finite.
bool is_finite(const float* x, int64_t step, int count) {
  constexpr uint32_t kExponent = 0x7f800000;
  const auto is_wrong = [](float number) {
    uint32_t bits;
    std::memcpy(&bits, &number, sizeof(bits));
    return (bits & kExponent) == kExponent;
  };
  uint32_t wrong = 0;
  if (step == 1)
    for (int i = 0; i < count; ++i) wrong |= is_wrong(x[i]);
  else
    for (int i = 0; i < count; ++i) wrong |= is_wrong(x[i * step]);
  return !wrong;
}

// Whether a share of an image's rows is finite.
bool is_finite(const Image& image, const Shape& shape, Part part) {
  const auto [first, last] = part.of(0, shape.height());
  for (int c = 0; c < shape.channels(); ++c)
    for (int y = first; y < last; ++y)
      if (!is_finite(image.values + c * image.channel_step + y * image.row_step, image.column_step, shape.width()))
        return false;
  return true;
}

// A classifier at the end: the tasks are it and what gives the result.
const LinearTask* last_of(const Program& program) {
  const size_t count = program.tasks.size();
  return count < 2 ? nullptr : dynamic_cast<const LinearTask*>(program.tasks[count - 2].get());
}

}  // namespace

struct Network::Arena {
  std::vector<uint8_t, Aligned<uint8_t>> bytes;
};

Network::Network(Plan plan)
    : plan_(std::make_unique<const Plan>(std::move(plan))),
      program_(prepare(*plan_)),
      schedule_(schedule(program_)),
      last_(last_of(program_)) {
  if (last_) schedule_.steps.resize(schedule_.steps.size() - 2);
  for (const auto& task : program_.tasks) cost_ += task->cost;
}

Network::~Network() = default;

std::vector<int> Network::slow() const {
  std::vector<int> found;
  for (const auto& task : program_.tasks)
    if (dynamic_cast<const ReferenceTask*>(task.get())) found.push_back(task->operation);
  return found;
}

std::unique_ptr<Network::Arena> Network::borrow() const {
  {
    const std::lock_guard lock(fork_safe());
    if (!idle_.empty()) {
      auto arena = std::move(idle_.back());
      idle_.pop_back();
      return arena;
    }
  }
  auto arena = std::make_unique<Arena>();
  arena->bytes.resize(schedule_.arena_bytes);
  return arena;
}

void Network::give_back(std::unique_ptr<Arena> arena) const {
  const std::lock_guard lock(fork_safe());
  idle_.push_back(std::move(arena));
}

void Network::run(const Images& images, float* out, int threads, const Kernels& kernels, int64_t* nanoseconds) const {
  threads = static_cast<int>(
      std::clamp(cost_ * images.count / kWorthAThread, 1.0, static_cast<double>(std::clamp(threads, 1, Pool::kMost))));
  const int64_t out_size = output().count();
  const int whole = images.count / threads * threads;  // images that keep every thread busy by themselves
  const int columns = last_ ? last_->columns : 0;
  const int64_t numbers = int64_t{columns} * images.count;
  if (numbers > PTRDIFF_MAX / 4) throw std::bad_alloc();
  Floats features(static_cast<size_t>(numbers));
  std::vector<std::vector<int64_t>> spent(nanoseconds ? threads : 0, std::vector<int64_t>(plan_->operations.size()));
  Failure failure;
  std::atomic<int> wrong{images.count};  // the first image that is not finite
  const auto run_image = [&](int thread, int image, Arena& arena, Part part, Barrier& barrier) {
    Frame frame{kernels,
                arena.bytes.data(),
                {images.values + image * images.image_step, images.channel_step, images.row_step, images.column_step},
                out + image * out_size};
    if (!is_finite(frame.image, plan_->image, part))
      for (int known = wrong; image < known && !wrong.compare_exchange_weak(known, image);) {
      }
    run_steps(frame, part, barrier, failure, nanoseconds ? spent[thread].data() : nullptr);
    if (last_ && part.index == 0)
      std::copy_n(frame.map(last_->from).values, columns, features.data() + int64_t{image} * columns);
  };
  if (whole) {
    std::atomic<int> next{0};
    std::vector<std::unique_ptr<Arena>> arenas(threads);
    for (auto& arena : arenas) arena = borrow();  // here, where it may fail
    Pool::instance().run(threads, [&](int thread) {
      failure.guard([&] {
        Barrier alone(1);
        for (int image = next++; image < whole; image = next++) run_image(thread, image, *arenas[thread], {}, alone);
      });
    });
    failure.rethrow();
    for (auto& arena : arenas) give_back(std::move(arena));
  }
  if (whole < images.count) {  // the others are shared, step by step
    Barrier all(threads);
    auto arena = borrow();
    Pool::instance().run(threads, [&](int thread) {
      for (int image = whole; image < images.count; ++image) {
        run_image(thread, image, *arena, {thread, threads}, all);
        all.wait();
      }
    });
    give_back(std::move(arena));
    failure.rethrow();
  }
  if (wrong < images.count)
    throw ImageError("image " + std::to_string(wrong) + " has a value that is not finite: check its preprocessing");
  if (last_)
    Pool::instance().run(threads,
                         [&](int thread) { run_last(kernels, features.data(), images.count, out, {thread, threads}); });
  for (const auto& mine : spent)
    for (size_t i = 0; i < mine.size(); ++i) nanoseconds[i] += mine[i];
}

void Network::run_steps(const Frame& frame, Part part, Barrier& barrier, Failure& failure, int64_t* nanoseconds) const {
  int64_t start = nanoseconds ? now() : 0;
  for (const Step& step : schedule_.steps) {
    failure.guard([&] { step.task->run(frame, step.begin, step.end, part); });  // others wait at the barrier
    barrier.wait();
    if (!nanoseconds) continue;
    const int64_t end = now();
    nanoseconds[step.task->operation] += end - std::exchange(start, end);
  }
}

void Network::run_last(const Kernels& kernels, const float* features, int images, float* out, Part part) const {
  const int classes = output().channels();
  const auto [first, last] = part.of(0, classes);
  for (int begin = first; begin < last; begin += kLastRows)
    for (int image = 0; image < images; ++image)
      kernels.linear(last_->weights, last_->bias, features + int64_t{image} * last_->columns, last_->columns,
                     out + int64_t{image} * classes, begin, std::min(begin + kLastRows, last));
}

}  // namespace bcdzoo
