// From pixels to a network's numbers, as a plan's preprocessing says.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace bcdzoo {

class Pixels {
 public:
  // Takes what bcdzoo.data.preprocess.Preprocess.spec() writes, "resize=…,crop=…,…,mean=…,std=…,channels=…". Of
  // anything else, and of a preset's name, nothing is known.
  explicit Pixels(const std::string& spec);

  bool known() const { return !numbers_.empty(); }
  // From (pixels, 3) to (3, pixels).
  void convert(const uint8_t* bytes, int64_t pixels, float* out) const;

 private:
  std::vector<float> numbers_;  // [channel][256]; empty: unknown
  bool is_bgr_ = false;
};

}  // namespace bcdzoo
