// Files of plans, as small as they get, for tests: what is written here by hand is bcdzoo/plan/file.py's layout.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <vector>

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

// A file under a header that fits; its hash is zero.
inline Bytes file_of(const Bytes& description, const Bytes& constants) {
  const Bytes padded = aligned(description);
  const uint64_t begin = 64 + padded.size();
  const Bytes magic("\x89" "BCZ\r\n\x1a\n", 8);
  return magic + u32(1) + u32(0) + little(begin + constants.size(), 8) + little(begin, 8) + Bytes(32, '\0') + padded +
         constants;
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
