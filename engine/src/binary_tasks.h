// Tasks on bits.
#pragma once

#include "task.h"

namespace bcdzoo {

// A map of bits with the padding of a window around it, of which there may be several planes.
struct BitMap {
  Slot* slot = nullptr;
  int dwords = 0, planes = 1;  // of a pixel
  int height = 0, width = 0;   // of the map inside
  int top = 0, left = 0, bottom = 0, right = 0;
  std::vector<int32_t> pixel_at;  // [pixel of the map inside], in dwords

  int padded_height() const { return top + height + bottom; }
  int padded_width() const { return left + width + right; }
  int64_t plane_dwords() const { return int64_t{padded_height()} * padded_width() * dwords; }
};

// Sets the border of a map of bits to 0.
class BorderTask : public Task {
 public:
  std::shared_ptr<const BitMap> to;
  void run(const Frame& frame, int begin, int end, Part part) const override;
};

// Bits of a map: of some of its channels by comparison, or of its levels.
class BitsTask : public Task {
 public:
  Place from;  // channels that are read
  std::shared_ptr<const BitMap> to;
  int first_dword = 0, first_plane = 0;
  Floats threshold;               // [dwords * 32]; empty: `limits` or `levels`
  Dwords falls;                   // [dwords], or empty
  Place limits;                   // threshold of each image, if it has a slot
  std::vector<LevelBits> levels;  // one, or none
  std::vector<SumBits> sums;      // likewise
  void run(const Frame& frame, int begin, int end, Part part) const override;
  int needs(int read, int end) const override;
};

// A convolution of bits with everything around it.
class UnitTask : public Task {
 public:
  struct Reader {
    std::shared_ptr<const BitMap> to;
    int first_dword = 0;
    Floats threshold;  // of the channels written
  };

  BinaryConv conv;
  std::vector<std::vector<int32_t>> sampled;  // places of the terms' samples
  std::shared_ptr<const BitMap> bits;
  int stride = 1, extent = 1, groups = 1;
  Place to;  // channels that are written; without a slot: bits alone are wanted
  int out_rows = 0, out_columns = 0;
  Place shortcut, gate, offset;  // those without a slot are not there
  int shortcut_channels = 0;
  std::vector<Reader> readers;
  void run(const Frame& frame, int begin, int end, Part part) const override;
  int needs(int read, int end) const override;
  int frees(int read, int end) const override;
  bool samples() const;
  // Some pixels of some panels.
  void convolve(const Kernels& kernels, BinaryMaps maps, std::pair<int, int> pixels, std::pair<int, int> panels) const;

  int bits_read = -1;       // in `reads`
  std::vector<bool> whole;  // of `reads`: all rows are needed
};

}  // namespace bcdzoo
