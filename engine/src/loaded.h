// A network with what it needs beside the engine: the content that its constants lie in, and what its pixels become.
#pragma once

#include "network.h"
#include "pixels.h"

namespace bcdzoo {

constexpr int kMostThreads = 1024;
constexpr int kMostImages = 1 << 20;

using Content = std::vector<uint8_t, Aligned<uint8_t>>;

// A file that cannot be read: the message says why, without its name.
struct FileError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The content of a plan file. Throws FileError; or PlanError if its header is wrong, without reading any further.
Content content_of(const char* path);

class Loaded {
 public:
  // As for read_plan.
  Loaded(Content content, bool hashed, bool map);
  // The same of content that is not copied.
  Loaded(const uint8_t* content, size_t size, bool hashed, bool map);

  const Network& network() const { return network_; }
  const Plan& plan() const { return network_.plan(); }

  // Whether the plan says what becomes of pixels; if not, throws PlanError.
  void require_pixels() const;
  // Runs images of bytes, (count, height, width, 3), as Network::run.
  void run_pixels(const uint8_t* pixels, int count, float* out, int threads, const Kernels& kernels) const;

 private:
  const Content content_;
  const Network network_;
  const Pixels pixels_;
};

// The number of threads that is asked for; throws PlanError if it is out of range.
int threads_of(int64_t threads);
// An instruction set by its name; null if this processor does not have it.
const Kernels* find_kernels(const std::string& name);

}  // namespace bcdzoo
