// The C interface: nothing is thrown across it.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <system_error>

#include "bcdzoo/engine.h"
#include "loaded.h"
#include "threads.h"

struct bcdzoo_network {
  bcdzoo::Loaded loaded;
};

namespace {

using namespace bcdzoo;

struct Refusal {
  bcdzoo_status status;
  std::string message;
};

// Writes a message of one line: neither control characters nor half a character at its end.
void say(bcdzoo_error* error, bcdzoo_status status, const char* message) noexcept {
  if (!error) return;
  error->status = status;
  const size_t length = std::strlen(message);
  size_t size = std::min(length, sizeof error->message - 1);
  while (size < length && size > 0 && (static_cast<uint8_t>(message[size]) & 0xc0) == 0x80) --size;
  std::copy_n(message, size, error->message);
  error->message[size] = '\0';
  const auto is_control = [](const char& c) {
    const uint8_t byte = static_cast<uint8_t>(c);
    return byte < 0x20 || byte == 0x7f;
  };
  std::replace_if(error->message, error->message + size, is_control, '?');
  for (char* c = error->message; c + 1 < error->message + size; ++c)  // U+0080 to U+009F
    if (static_cast<uint8_t>(c[0]) == 0xc2 && static_cast<uint8_t>(c[1]) < 0xa0) c[0] = c[1] = '?';
}

// Does something, and turns whatever it throws into a status.
template <class Job>
bcdzoo_status guarded(bcdzoo_error* error, const Job& job) noexcept {
  bcdzoo_status status = BCDZOO_OK;
  const auto fail = [&](bcdzoo_status why, const char* message) { say(error, status = why, message); };
  say(error, BCDZOO_OK, "");
  try {
    job();
  } catch (const Refusal& refusal) {
    fail(refusal.status, refusal.message.c_str());
  } catch (const FileError& missing) {
    fail(BCDZOO_CANNOT_READ, missing.what());
  } catch (const PlanError& refused) {
    fail(BCDZOO_BAD_PLAN, refused.what());
  } catch (const ImageError& refused) {
    fail(BCDZOO_BAD_ARGUMENT, refused.what());
  } catch (const std::bad_alloc&) {
    fail(BCDZOO_NO_MEMORY, "out of memory");
  } catch (const std::length_error&) {  // more than a pointer of 32 bits reaches
    fail(BCDZOO_NO_MEMORY, "out of memory");
  } catch (const std::system_error&) {
    fail(BCDZOO_NO_THREADS, "the system gives no more threads: ask for fewer");
  } catch (const std::exception& fault) {
    fail(BCDZOO_INTERNAL, fault.what());
  } catch (...) {
    fail(BCDZOO_INTERNAL, "an unknown fault");
  }
  return status;
}

void demand(bool holds, bcdzoo_status status, const std::string& message) {
  if (!holds) throw Refusal{status, message};
}

// `make` gives a new network.
template <class Make>
bcdzoo_status load(const Make& make, const void* from, const char* name, bcdzoo_network** network,
                   bcdzoo_error* error) noexcept {
  if (network) *network = nullptr;
  return guarded(error, [&] {
    demand(network && from, BCDZOO_BAD_ARGUMENT, "a pointer is NULL");
    try {
      *network = make();
    } catch (const FileError& missing) {
      throw FileError(std::string("cannot read ") + name + ": " + missing.what());
    } catch (const PlanError& refused) {
      throw PlanError(std::string(name) + " cannot be used as a plan: " + refused.what() +
                      "; make it again with `bcdzoo export`");
    }
  });
}

const Kernels& kernels_of(const char* instructions) {
  if (!instructions) return *all_kernels().front();
  const Kernels* const found = find_kernels(instructions);
  demand(found, BCDZOO_BAD_ARGUMENT, std::string("this processor has no instruction set named ") + instructions);
  return *found;
}

// Checks what is the same for all kinds of images, and runs them.
template <class Run>
bcdzoo_status run_images(const bcdzoo_network* network, const void* images, int count, float* logits, int threads,
                         const char* instructions, bcdzoo_error* error, const Run& run) noexcept {
  return guarded(error, [&] {
    demand(network && images && logits, BCDZOO_BAD_ARGUMENT, "a pointer is NULL");
    demand(count >= 0 && count <= kMostImages, BCDZOO_BAD_ARGUMENT,
           "the images must be 0 to " + std::to_string(kMostImages));
    demand(threads >= 0 && threads <= kMostThreads, BCDZOO_BAD_ARGUMENT,
           "threads must be 0 to " + std::to_string(kMostThreads));
    run(network->loaded, threads ? threads : Pool::processors(), kernels_of(instructions));
  });
}

}  // namespace

extern "C" {

int bcdzoo_engine_version(void) { return BCDZOO_ENGINE_VERSION; }

bcdzoo_status bcdzoo_load(const char* path, bcdzoo_network** network, bcdzoo_error* error) {
  return load([&] { return new bcdzoo_network{{content_of(path), true, false}}; }, path, path, network, error);
}

bcdzoo_status bcdzoo_load_memory(const void* content, size_t size, bcdzoo_network** network, bcdzoo_error* error) {
  const uint8_t* const bytes = static_cast<const uint8_t*>(content);
  const auto make = [&] {
    constants_begin(bytes, size);  // before so many bytes are copied
    return new bcdzoo_network{{Content(bytes, bytes + size), true, false}};
  };
  return load(make, content, "the content", network, error);
}

bcdzoo_status bcdzoo_load_in_place(const void* content, size_t size, bcdzoo_network** network, bcdzoo_error* error) {
  const uint8_t* const bytes = static_cast<const uint8_t*>(content);
  const auto make = [&] {
    demand(reinterpret_cast<uintptr_t>(bytes) % 64 == 0, BCDZOO_BAD_ARGUMENT, "the content is not at a multiple of 64");
    return new bcdzoo_network{{bytes, size, true, false}};
  };
  return load(make, content, "the content", network, error);
}

void bcdzoo_free(bcdzoo_network* network) { delete network; }

int bcdzoo_channels(const bcdzoo_network* network) { return network ? network->loaded.plan().image.channels() : 0; }
int bcdzoo_height(const bcdzoo_network* network) { return network ? network->loaded.plan().image.height() : 0; }
int bcdzoo_width(const bcdzoo_network* network) { return network ? network->loaded.plan().image.width() : 0; }
int bcdzoo_outputs(const bcdzoo_network* network) {
  return network ? network->loaded.network().output().channels() : 0;
}

const char* bcdzoo_model(const bcdzoo_network* network) { return network ? network->loaded.plan().model.c_str() : ""; }
const char* bcdzoo_preprocess(const bcdzoo_network* network) {
  return network ? network->loaded.plan().preprocess.c_str() : "";
}

const char* bcdzoo_class_name(const bcdzoo_network* network, int number) {
  if (!network || number < 0) return nullptr;
  const std::vector<std::string>& names = network->loaded.plan().class_names;
  return static_cast<size_t>(number) < names.size() ? names[static_cast<size_t>(number)].c_str() : nullptr;
}

const char* bcdzoo_instructions(int number) {
  const char* name = nullptr;
  guarded(nullptr, [&] {
    const std::vector<const Kernels*> known = all_kernels();
    if (number >= 0 && static_cast<size_t>(number) < known.size()) name = known[static_cast<size_t>(number)]->name;
  });
  return name;
}

bcdzoo_status bcdzoo_run(const bcdzoo_network* network, const float* images, int count, float* logits, int threads,
                         const char* instructions, bcdzoo_error* error) {
  return run_images(network, images, count, logits, threads, instructions, error,
                    [&](const Loaded& loaded, int how_many, const Kernels& kernels) {
                      const Shape& shape = loaded.plan().image;
                      const int64_t pixels = int64_t{shape.height()} * shape.width();
                      const Images all{images, count, shape.count(), pixels, shape.width(), 1};
                      loaded.network().run(all, logits, how_many, kernels, nullptr);
                    });
}

bcdzoo_status bcdzoo_run_pixels(const bcdzoo_network* network, const uint8_t* pixels, int count, float* logits,
                                int threads, const char* instructions, bcdzoo_error* error) {
  return run_images(network, pixels, count, logits, threads, instructions, error,
                    [&](const Loaded& loaded, int how_many, const Kernels& kernels) {
                      try {
                        loaded.require_pixels();
                      } catch (const PlanError& refused) {
                        throw Refusal{BCDZOO_NO_PREPROCESS, refused.what()};
                      }
                      loaded.run_pixels(pixels, count, logits, how_many, kernels);
                    });
}

}  // extern "C"
