#define _FILE_OFFSET_BITS 64  // or where pointers have 32 bits large files would be none
#include "loaded.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

namespace bcdzoo {
namespace {

constexpr int kAtOnce = 32;  // images of which there are numbers at a time, or one for each thread

class File {
 public:
  // A pipe would wait for its writer, if it were not asked not to.
  explicit File(const char* path) : descriptor_(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC)) {}
  ~File() {
    if (descriptor_ >= 0) close(descriptor_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  bool opened() const { return descriptor_ >= 0; }
  // Its size; -1 if it is no regular file.
  int64_t size() const {
    struct stat status;
    return fstat(descriptor_, &status) == 0 && S_ISREG(status.st_mode) ? static_cast<int64_t>(status.st_size) : -1;
  }
  bool read(uint8_t* bytes, size_t size) {
    while (size) {
      const ssize_t got = ::read(descriptor_, bytes, size);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) return false;
      bytes += got;
      size -= static_cast<size_t>(got);
    }
    return true;
  }

 private:
  const int descriptor_;
};

}  // namespace

Content content_of(const char* path) {
  File file(path);
  if (!file.opened()) throw FileError(std::generic_category().message(errno));
  const int64_t size = file.size();
  if (size < 0) throw FileError("it is no regular file");
  Content content(static_cast<size_t>(std::min<int64_t>(size, kHeader)));
  const bool has_header = file.read(content.data(), content.size());
  if (has_header) constants_begin(content.data(), static_cast<uint64_t>(size));
  content.resize(static_cast<size_t>(size));
  if (!has_header || !file.read(content.data() + kHeader, content.size() - kHeader))
    throw FileError("it ends too early");
  return content;
}

Loaded::Loaded(Content content, bool hashed, bool map)
    : content_(std::move(content)),
      network_(read_plan(content_.data(), content_.size(), hashed, map)),
      pixels_(plan().preprocess) {}

Loaded::Loaded(const uint8_t* content, size_t size, bool hashed, bool map)
    : network_(read_plan(content, size, hashed, map)), pixels_(plan().preprocess) {}

void Loaded::require_pixels() const {
  require(plan().image.channels() == 3, "this network's images do not have the 3 channels of pixels: give it float32");
  require(pixels_.known(),
          "this plan does not say how pixels become numbers: give it float32, or make it again with `bcdzoo export`");
}

void Loaded::run_pixels(const uint8_t* pixels, int count, float* out, int threads, const Kernels& kernels) const {
  require_pixels();
  const Shape& image = plan().image;
  const int64_t size = int64_t{image.height()} * image.width();
  const int at_once = std::min(count, (kAtOnce + threads - 1) / threads * threads);
  Floats numbers(static_cast<size_t>(3 * size * at_once));
  for (int done = 0; done < count; done += at_once) {
    const int some = std::min(at_once, count - done);
    for (int i = 0; i < some; ++i) pixels_.convert(pixels + 3 * size * (done + i), size, numbers.data() + 3 * size * i);
    network_.run({numbers.data(), some, 3 * size, size, image.width(), 1}, out + done * network_.output().count(),
                 threads, kernels, nullptr);
  }
}

int threads_of(int64_t threads) {
  require(threads >= 1 && threads <= kMostThreads, "threads is out of range");
  return static_cast<int>(threads);
}

const Kernels* find_kernels(const std::string& name) {
  for (const Kernels* found : all_kernels())
    if (name == found->name) return found;
  return nullptr;
}

}  // namespace bcdzoo
