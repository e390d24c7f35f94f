// What a packed chain is made of. Sizes are fixed when a chain meets a map of some height and width.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <utility>
#include <vector>

#define BCDZOO_INLINE static inline __attribute__((always_inline))

namespace bcdzoo {

constexpr int kPixels = 4;     // of a tile
constexpr int kChannels = 32;  // of a tile, and of a panel of weights
constexpr int kTiles = 4;     // at a time
constexpr int kWordBits = 64;
constexpr int kMostBranches = 3;
constexpr int kMostRuns = 16;  // of consecutive words in a window: rows of a kernel, quarters of a sample

// Memory that starts on a cache line.
template <class T>
struct Aligned {
  using value_type = T;
  Aligned() = default;
  template <class U>
  Aligned(const Aligned<U>&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t{64})); }
  template <class U>
  void construct(U* p) {  // leaves the memory as it is
    ::new (static_cast<void*>(p)) U;
  }
  template <class U, class... Args>
  void construct(U* p, Args&&... args) {
    ::new (static_cast<void*>(p)) U(std::forward<Args>(args)...);
  }
  void deallocate(T* p, std::size_t) { ::operator delete(p, std::align_val_t{64}); }
  bool operator==(const Aligned&) const { return true; }
  bool operator!=(const Aligned&) const { return false; }
};
using Words = std::vector<uint64_t, Aligned<uint64_t>>;
using Floats = std::vector<float, Aligned<float>>;

static inline int ceil_div(int a, int b) { return (a + b - 1) / b; }
static inline int round_up(int a, int b) { return ceil_div(a, b) * b; }

// How a branch of a unit samples its input before a 1x1 convolution (BCDNet's MLP block), by quarters of the channels.
enum class Sampling { kNone, kShortRange, kLongRange };

// One binary convolution: `sums * scale` of the bits of one map.
struct Branch {
  Sampling sampling = Sampling::kNone;
  Words panels;                    // [panels][words of a window][kChannels]
  std::vector<int32_t> tap_sums; // [kernel * kernel][padded c_out]: sum of a tap's weights, which zero padding takes away
  Floats scale;                  // [padded c_out]
};

enum class Shortcut { kNone, kSame, kAveragePool, kDuplicate, kGiven };

// A binary convolution with everything around it: threshold and pack, convolve, then per channel
//   v = sum of branches; v = v * gate + offset (per image); v = prelu(v, inner_slope); v = v * alpha + beta;
//   v += shortcut; v = prelu(v + shift_in, slope) + shift_out (or the activation before the shortcut); v = clip(v, limit)
struct Unit {
  int c_in = 0, c_out = 0, kernel = 1, stride = 1, padding = 0;
  bool same_padding = false;      // TensorFlow's "same" in place of `padding`
  bool activation_first = false;
  bool zero_one = false;          // the input's bits stand for 0 and 1; sums are then twice as large
  bool dynamic_threshold = false, dynamic_gate = false, dynamic_offset = false;
  bool append = false;            // write behind the input's channels; otherwise over the last c_out of them or anew
  Shortcut shortcut = Shortcut::kNone;
  std::vector<Branch> branches;
  Floats threshold;               // [c_in, rounded up to kChannels]: bit = x >= threshold
  Floats inner_slope;  // [padded c_out], or empty
  Floats alpha, beta, shift_in, slope, shift_out;  // [padded c_out]
  float limit = INFINITY;

  bool has_extra() const { return !inner_slope.empty() || limit < INFINITY; }
  int words() const { return ceil_div(c_in, kWordBits); }
  int window_words() const { return kernel * kernel * words(); }
  int padded_out() const { return round_up(c_out, kChannels); }
  int panels() const { return padded_out() / kChannels; }
};

// Batch normalization, 2x2 max pooling (what is left at the edges too) and ReLU at a chain's end.
struct Halving {
  Floats alpha, beta;  // [channels]

  static int output(int size) { return ceil_div(size, 2); }
};

// A unit on a map of some size.
struct Geometry {
  int height = 0, width = 0;          // of the input
  int out_height = 0, out_width = 0;  // of the output
  int top = 0, left = 0;              // padding there
  int bit_height = 0, bit_width = 0;  // of the packed map, padding included
  int in_channels = 0, out_channels = 0;  // of the float maps that are read and written, which may be wider than the unit
  int out_offset = 0;                 // first channel written
  std::vector<int32_t> bases;         // [border class][branch][padded c_out]: what a sum is without its popcounts
  std::vector<int32_t> classes;       // [output pixel]: its border class
  // Places in the packed map, in pixels: of each input pixel, of each output pixel's window, and for the two samplings of
  // the four quarters of each pixel.
  std::vector<int32_t> bit_at, window_at, sampled_at[2];

  int pixels() const { return out_height * out_width; }
};

// A later unit that reads what a unit writes: it gets its bits while the floats are at hand.
struct Reader {
  const Unit* unit = nullptr;
  const Geometry* geometry = nullptr;
  uint32_t* bits = nullptr;  // of its packed map, as half words
};

// Maps of one image while a unit runs. All float maps are [pixels][channels], bits [pixels][words].
struct Maps {
  const float* input = nullptr;
  const float* shortcut = nullptr;   // of Shortcut::kGiven, [output pixels][c_out]
  float* output = nullptr;
  uint64_t* bits = nullptr;
  const float* gate = nullptr;       // [c_out], of this image
  const float* offset = nullptr;
  std::vector<Reader> readers;
};

// Float map from which bits are packed.
struct Source {
  const float* values = nullptr;     // [pixels][channels]
  int channels = 0;                  // the first ones of the unit's
  const float* threshold = nullptr;  // [c_in], of this image; null: the unit's own
};

struct StemKernels;

// What each instruction set provides.
struct Kernels {
  const char* name;
  const StemKernels& stem;
  // Packs the input's pixels [begin, end).
  void (*pack)(const Unit&, const Geometry&, const Source&, uint64_t* bits, int begin, int end);
  // Computes the output's tiles [begin, end), kPixels each.
  void (*convolve)(const Unit&, const Geometry&, const Maps&, int begin, int end);
  // The output's rows [begin, end) of a map of some height and width, to [channels][rows][columns].
  void (*halve)(const Halving&, int height, int width, const float* x, float* out, int begin, int end);
  // The bare tile of `words` words, many times over: how many binary multiply-accumulates that was.
  double (*spin)(const uint64_t* activations, const uint64_t* weights, int words, int repeats);
};

extern const Kernels kPortable;
#if defined(__x86_64__)
extern const Kernels kAvx2, kAvx512;
#elif defined(__aarch64__)
extern const Kernels kNeon;
#endif

}  // namespace bcdzoo
