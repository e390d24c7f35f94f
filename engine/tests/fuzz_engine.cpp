// Gives the C interface what a fuzzer makes of plan files, each under a hash that is right, and runs an image through
// what is loaded: fuzz_engine INPUTS SEED.bcz... A status that is none of those for bad files ends the run.
#include "bcdzoo/engine.h"
#include "fuzz.h"
#include "work.h"

namespace {

long run = 0;

// Whether a plan is so small that many such can be loaded and run; what is no plan is small too.
bool is_small(const Bytes& file) {
  const Content content(file);
  try {
    return work_of(read_plan(content.data(), content.size, false, false)) <= kSmall;
  } catch (const PlanError&) {
    return true;
  }
}

bool is_loaded(const Bytes& file) {
  if (!is_small(file)) return true;
  bcdzoo_network* network = nullptr;
  bcdzoo_error error;
  const Bytes given = file.size() < 64 ? file : hashed(file);
  const bcdzoo_status loaded = bcdzoo_load_memory(given.data(), given.size(), &network, &error);
  if (loaded != BCDZOO_OK) {
    if (network || (loaded != BCDZOO_BAD_PLAN && loaded != BCDZOO_NO_MEMORY)) std::terminate();
    return false;
  }
  const int64_t numbers = int64_t{bcdzoo_channels(network)} * bcdzoo_height(network) * bcdzoo_width(network);
  std::vector<float> image(static_cast<size_t>(numbers)), logits(static_cast<size_t>(bcdzoo_outputs(network)));
  for (size_t i = 0; i < image.size(); ++i) image[i] = static_cast<float>(i % 7) - 3;
  const std::vector<uint8_t> pixels(image.size(), 100);
  const char* const instructions = bcdzoo_instructions(static_cast<int>(run % 3));  // each set has its turn
  const bcdzoo_status real = bcdzoo_run(network, image.data(), 1, logits.data(), 1, instructions, &error);
  const bcdzoo_status bytes = bcdzoo_run_pixels(network, pixels.data(), 1, logits.data(), 1, instructions, &error);
  if (real != BCDZOO_OK || (bytes != BCDZOO_OK && bytes != BCDZOO_NO_PREPROCESS)) std::terminate();
  ++run;
  bcdzoo_free(network);
  return true;
}

}  // namespace

int main(int count, char** words) {
  const int status = fuzz(count, words, is_loaded);
  std::printf("%ld of them run, by the kernels\n", run);
  return status;
}
