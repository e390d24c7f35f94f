#include "pixels.h"

#include <array>
#include <clocale>
#include <cmath>
#include <cstdlib>
#include <map>

namespace bcdzoo {
namespace {

using Triple = std::array<float, 3>;

// Parts of a text between separators.
std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts(1);
  for (const char c : text)
    if (c == separator)
      parts.emplace_back();
    else
      parts.back() += c;
  return parts;
}

bool read_number(const std::string& text, float& number) {
  if (text.find_first_not_of("+-.0123456789eE") != std::string::npos) return false;
  std::string local;  // what a point is called in this country; streams would do that, too, but need much code
  for (const char c : text) c == '.' ? local += std::localeconv()->decimal_point : local += c;
  char* end;
  number = static_cast<float>(std::strtod(local.c_str(), &end));
  return end != local.c_str() && !*end && std::isfinite(number);
}

// One number for all channels, or three.
bool read_triple(const std::string& text, Triple& triple) {
  const std::vector<std::string> parts = split(text, ':');
  if (parts.size() != 1 && parts.size() != 3) return false;
  for (int i = 0; i < 3; ++i)
    if (!read_number(parts[parts.size() == 1 ? 0 : i], triple[i])) return false;
  return true;
}

}  // namespace

Pixels::Pixels(const std::string& spec) {
  std::map<std::string, std::string> values;
  for (const std::string& item : split(spec, ',')) {
    const size_t at = item.find('=');
    if (at == std::string::npos || !values.emplace(item.substr(0, at), item.substr(at + 1)).second) return;
  }
  Triple mean, std;
  if (values.size() != 6 || !values.count("resize") || !values.count("crop") || !values.count("interpolation")) return;
  if (!read_triple(values["mean"], mean) || !read_triple(values["std"], std)) return;
  if (values["channels"] != "rgb" && values["channels"] != "bgr") return;
  for (const float each : std)
    if (each <= 0) return;
  is_bgr_ = values["channels"] == "bgr";
  numbers_.reserve(3 * 256);
  for (int channel = 0; channel < 3; ++channel)
    for (int value = 0; value < 256; ++value)
      numbers_.push_back((static_cast<float>(value) / 255 - mean[channel]) / std[channel]);
}

void Pixels::convert(const uint8_t* bytes, int64_t pixels, float* out) const {
  for (int channel = 0; channel < 3; ++channel) {
    const float* const numbers = numbers_.data() + 256 * channel;
    const uint8_t* const from = bytes + (is_bgr_ ? 2 - channel : channel);
    for (int64_t pixel = 0; pixel < pixels; ++pixel) out[pixel] = numbers[from[3 * pixel]];
    out += pixels;
  }
}

}  // namespace bcdzoo
