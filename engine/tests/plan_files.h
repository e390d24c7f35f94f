// Files of plans, as small as they get, for tests: what is written here by hand is bcdzoo/plan/file.py's layout.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "sha256.h"

namespace bcdzoo {

using Bytes = std::string;

inline Bytes little(uint64_t number, int size) {
  Bytes bytes;
  for (int i = 0; i < size; ++i) bytes += static_cast<char>(number >> 8 * i);
  return bytes;
}

inline Bytes u32(uint64_t number) { return little(number, 4); }

inline Bytes text(const Bytes& word) { return u32(word.size()) + word; }

inline Bytes list(const std::vector<Bytes>& items) {
  Bytes bytes = u32(items.size());
  for (const Bytes& item : items) bytes += item;
  return bytes;
}

inline Bytes wholes(const std::vector<uint32_t>& numbers) {
  std::vector<Bytes> items;
  for (uint32_t number : numbers) items.push_back(u32(number));
  return list(items);
}

inline Bytes floats(const std::vector<float>& numbers) {
  Bytes bytes(numbers.size() * sizeof(float), '\0');
  if (!numbers.empty()) std::memcpy(&bytes[0], numbers.data(), bytes.size());
  return bytes;
}

inline Bytes aligned(Bytes bytes) {
  bytes.resize((bytes.size() + 63) / 64 * 64);
  return bytes;
}

inline Bytes operation(const Bytes& kind, const std::vector<Bytes>& inputs, const std::vector<Bytes>& fields,
                       const std::vector<Bytes>& constants) {
  return text(kind) + text("layer") + list(inputs) + list(fields) + list(constants);
}

inline Bytes input(const Bytes& role, uint32_t value) { return text(role) + u32(value); }

inline Bytes constant(const Bytes& name, uint32_t tag, const std::vector<uint32_t>& sizes, uint64_t start) {
  return text(name) + u32(tag) + wholes(sizes) + little(start, 8);
}

inline Bytes description(const std::vector<uint32_t>& image, const std::vector<Bytes>& operations,
                         const std::vector<Bytes>& names = {}, const Bytes& preprocess = "") {
  Bytes bytes;
  for (uint32_t size : image) bytes += u32(size);
  return bytes + text("net") + text(preprocess) + list({}) + list(names) + list(operations);
}

// A file under a header that fits; its hash is zero.
inline Bytes file_of(const Bytes& description, const Bytes& constants) {
  const Bytes padded = aligned(description);
  const uint64_t begin = 64 + padded.size();
  const Bytes magic(
      "\x89"
      "BCZ\r\n\x1a\n",
      8);
  return magic + u32(1) + u32(0) + little(begin + constants.size(), 8) + little(begin, 8) + Bytes(32, '\0') + padded +
         constants;
}

// The same file with its hash.
inline Bytes hashed(Bytes file) {
  const auto digest = sha256(reinterpret_cast<const uint8_t*>(file.data()) + 64, file.size() - 64);
  return file.replace(32, digest.size(), reinterpret_cast<const char*>(digest.data()), digest.size());
}

// A file's content where the reader wants it, with nothing behind it that could be read unseen.
class Content {
 public:
  explicit Content(const Bytes& bytes)
      : size(bytes.size()), bytes_(static_cast<uint8_t*>(::operator new(size, std::align_val_t{64}))) {
    if (size) std::memcpy(bytes_.get(), bytes.data(), size);
  }
  const uint8_t* data() const { return bytes_.get(); }

  const size_t size;

 private:
  struct Delete {
    void operator()(uint8_t* bytes) const { ::operator delete(bytes, std::align_val_t{64}); }
  };
  std::unique_ptr<uint8_t, Delete> bytes_;
};

}  // namespace bcdzoo
