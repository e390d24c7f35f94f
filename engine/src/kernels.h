// What each instruction set provides. All of it works on one image in memory: a map is [pixels][step] floats, with step
// a multiple of kLanes, and whatever is beyond the channels may be read and written. Bits are [pixels][dwords]: channel
// c is bit c % 32 of dword c / 32, and bits beyond the channels are 0.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#if defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#define BCDZOO_MICROCONTROLLER
#endif
#define BCDZOO_INLINE static inline __attribute__((always_inline))

namespace bcdzoo {

constexpr int kLanes = 16;  // channels of a vector of floats
constexpr int kPanel = 32;  // output channels of a panel of weights

static inline int ceil_div(int a, int b) { return (a + b - 1) / b; }
static inline int round_up(int a, int b) { return ceil_div(a, b) * b; }

#ifdef BCDZOO_MICROCONTROLLER
constexpr std::align_val_t kCacheLine{8};  // there are none
#else
constexpr std::align_val_t kCacheLine{64};
#endif

// Memory that starts on a cache line; new elements of numbers are not set.
template <class T>
struct Aligned {
  using value_type = T;
  Aligned() = default;
  template <class U>
  Aligned(const Aligned<U>&) {}
  T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), kCacheLine)); }
  void deallocate(T* p, std::size_t) { ::operator delete(p, kCacheLine); }
  template <class U>
  void construct(U* p) {
    ::new (static_cast<void*>(p)) U;
  }
  template <class U, class... Args>
  void construct(U* p, Args&&... args) {
    ::new (static_cast<void*>(p)) U(std::forward<Args>(args)...);
  }
  bool operator==(const Aligned&) const { return true; }
  bool operator!=(const Aligned&) const { return false; }
};
using Dwords = std::vector<uint32_t, Aligned<uint32_t>>;
using Floats = std::vector<float, Aligned<float>>;
using Ints = std::vector<int32_t, Aligned<int32_t>>;

// Where the windows of a convolution lie in a map that has its padding around it: each consists of `runs` runs of
// `length` neighbouring elements (dwords of bits, or floats), at `run_at` from where the window begins.
struct Windows {
  int length = 0;
  std::vector<int32_t> run_at;     // [runs]
  std::vector<int32_t> window_at;  // [output pixel]

  int runs() const { return static_cast<int>(run_at.size()); }
};

// A pair of bit planes of activations and weights: popcount(activations XOR weights) << shift is taken from a sum.
struct Pair {
  int64_t bits_at = 0;  // of the activations' plane, in dwords
  int panels = 0;       // of the weights' plane: in BinaryConv::panels
  int shift = 1;
};

// A sum of products, and its scale. Of a binary convolution it has one pair.
struct Term {
  std::vector<Pair> pairs;
  // [output pixel][4]: where each quarter of a sampled pixel begins, in dwords from the first plane's; in place of
  // windows, which have as many dwords all in all.
  const int32_t* sampled_at = nullptr;
  Ints acc_init;  // [class][padded c_out]: what a sum is without its popcounts; below 2^24
  Floats scale;   // [padded c_out]
};

// A convolution of bits with everything around it. For each pixel and channel:
//   v = sum over terms of float(acc_init - sum over pairs) * scale
//       (of several bases of activations each such sum is multiplied by its factor, and these are added)
//   v = v * gate + offset                         (two roundings)
//   v = prelu(v, inner_slope)                     (v > 0 ? v : v * slope)
//   v = fma(v, alpha, beta)                       (batch normalization: one rounding)
//   v = v + shortcut
//   v = prelu(v + shift_in, slope) + shift_out    (or that before the shortcut)
//   v = clip(v, limit)
// Without contraction: each step is rounded.
struct BinaryConv {
  int c_out = 0;
  Windows windows;
  std::vector<int32_t> panel_at;  // [panels]: dword of each run where a panel's channels begin (of groups); empty: 0
  std::vector<Dwords> panels;     // of each plane of weights: [panels][runs * length][kPanel]
  std::vector<Term> terms;        // several: sampled branches, or bases; or sets of weights:
  bool chooses = false;           // an image has one of the terms
  std::vector<float> factors;     // of bases of activations: terms are in their sequence; empty: one, without a factor
  std::vector<uint16_t> classes;  // [output pixel]: border class; empty: all are 0
  // Runs of a window that are not padding alone: [first_run, end_run) of each output pixel, or empty: all. Those of
  // padding are not counted but taken from padding_popcounts, [run][padded c_out]; `acc_init` is the same. Only of one
  // term and one pair.
  std::vector<uint16_t> first_run, end_run;
  Ints padding_popcounts;
  // [padded c_out] each; empty: nothing of that kind is done
  Floats inner_slope, alpha, beta, shift_in, slope, shift_out;
  bool activation_first = false;
  float limit = INFINITY;

  int padded_out() const { return round_up(c_out, kPanel); }
  int panel_count() const { return padded_out() / kPanel; }
};

// Bits of what is written, for a convolution that reads it: value >= threshold, at once for kPanel channels.
struct BitsOut {
  uint32_t* bits = nullptr;           // of the first channel written
  const int32_t* pixel_at = nullptr;  // [output pixel], in dwords
  const float* threshold = nullptr;   // [padded channels] from the first channel written on; +inf beyond the channels
};

// Where a convolution of bits reads and writes, for one image.
struct BinaryMaps {
  const uint32_t* bits = nullptr;
  float* out = nullptr;  // first channel to write, of pixel 0; null: bits alone are wanted
  int64_t out_step = 0;
  const float* shortcut = nullptr;  // [output pixels][shortcut_step], or null; may be `out` itself
  int64_t shortcut_step = 0;
  int term = 0;                                    // of a convolution that chooses
  int shortcut_channels = 0;                       // after so many (a multiple of kPanel) it begins again; 0: never
  const float *gate = nullptr, *offset = nullptr;  // [padded c_out], or null
  std::vector<BitsOut> readers;
};

// Attention of bits, of an image's signs. For each query and head, with m the differing bits of the query and a key:
//   p = float(exps[m - least m] / sum over keys of that)   (the sum over differences, from the least on)
//   v = float(sum over keys with p / level > 0.5 of the values' signs) * level
struct Attention {
  int heads = 0, head_dwords = 0, keys = 0;  // 32 channels a dword
  float level = 1;
  std::vector<double> exps;  // [channels of a head + 1]: exp(-2 * difference / divisor)

  int dwords() const { return heads * head_dwords; }
  int key_dwords() const { return ceil_div(keys, 32); }
  // Numbers that the kernel needs beside.
  int64_t scratch() const { return int64_t{keys} + key_dwords() + 64 * int64_t{head_dwords} + 1; }
};

// A real-valued convolution; the input has its padding around it. v = sum over runs and their elements in sequence, one
// fused product each, in each channel by itself (beginning with the first product's sum with 0); v += bias;
// v = fma(v, alpha, beta); v = v < 0 ? 0 : v, so that a NaN stays one.
struct FloatConv {
  int c_out = 0;
  Windows windows;
  Floats panels;                  // [panels][runs * length][kPanel]
  std::vector<int32_t> panel_at;  // [panels]: element of each run where a panel's channels begin (of groups); empty: 0
  Floats bias, alpha, beta;       // [padded c_out]; empty: none
  bool relu = false;

  int padded_out() const { return round_up(c_out, kPanel); }
  int panel_count() const { return padded_out() / kPanel; }
};

// One input channel for each output channel, otherwise the same: [taps][padded to kLanes] weights, with
// run_at of single taps.
struct DepthwiseConv {
  int channels = 0;
  Windows windows;           // runs are taps; length is the channels
  Floats weights;            // [taps][channels rounded up to kLanes]
  Floats bias, alpha, beta;  // [the same]; empty: none
  bool relu = false;
};

// A convolution of narrow groups: a vector of outputs belongs to several, whose input channels lie behind one another.
// Sums as of FloatConv.
struct GroupedConv {
  int c_out = 0, group_in = 0, group_out = 0;
  Windows windows;           // runs are taps
  Floats weights;            // [outputs / kLanes][taps][group_in][kLanes]
  Floats bias, alpha, beta;  // [c_out rounded up to kLanes]; empty: none
  bool relu = false;

  int vectors() const { return ceil_div(c_out, kLanes); }
};

struct Pooling {
  bool is_max = true;
  int kernel[2] = {1, 1}, stride[2] = {1, 1}, padding[2] = {0, 0};
  bool count_padding = false;
  int height = 0, width = 0, out_height = 0, out_width = 0;
};

// Steps of a pixel's channels by themselves, in sequence; every constant is [channels rounded up to kLanes].
struct Pointwise {
  enum class Kind { kScaleShift, kPrelu, kClip, kAbs, kSign, kStep, kAdd, kSubtract, kMultiply } kind = Kind::kClip;
  Floats alpha, beta;                           // kScaleShift: fma(x, alpha, beta); kStep: x >= alpha ? beta : -beta
  Floats shift_in, positive, slope, shift_out;  // kPrelu; empty: nothing, slope always there
  float low = -INFINITY, high = INFINITY;       // kClip: to the lower bound, then the upper one; a NaN stays one
};

// Integer levels of floats as planes of bits: level = (quantizes) rint(clip(x, low, high) * or / step) + offset; of
// a NaN 0.
struct LevelBits {
  bool quantizes = false, divides = false;
  float low = 0, high = 0, step = 1, offset = 0;
  int planes = 1;
};

// The nearest sum of some numbers of a basis, as planes of bits: those of the lowest sum, of which some change at each
// limit that a value reaches.
struct SumBits {
  int planes = 0;
  uint32_t lowest = 0;            // bit k: of plane k
  std::vector<float> limits;      // ascending
  std::vector<uint32_t> changes;  // [limits], bit k: of plane k
};

// Second operand of a pointwise step: the same pixels, or one pixel (or number) for all.
struct Operand {
  const float* values = nullptr;
  int64_t step = 0;     // 0: one pixel for all
  bool single = false;  // one number for all channels
};

struct Kernels {
  const char* name;
  // Output pixels [begin, end) of panels [first, last).
  void (*binary_conv)(const BinaryConv&, const BinaryMaps&, int begin, int end, int first, int last);
  // Bits of pixels [begin, end): x >= threshold, the other way round where `falls` (null, or [dwords]) has a 1.
  // `threshold` is [dwords * 32] with +inf beyond the channels (a reader of x there gets whatever is in memory: bits
  // must be 0 all the same, also where x is a NaN; `falls` is 0 there).
  void (*binarize)(const float* x, int64_t step, int channels, const float* threshold, const uint32_t* falls,
                   uint32_t* bits, const int32_t* pixel_at, int begin, int end);
  // Planes of bits of levels, `plane_step` dwords from one to the next.
  void (*level_bits)(const LevelBits&, const float* x, int64_t step, int channels, uint32_t* bits, int64_t plane_step,
                     const int32_t* pixel_at, int begin, int end);
  void (*sum_bits)(const SumBits&, const float* x, int64_t step, int channels, uint32_t* bits, int64_t plane_step,
                   const int32_t* pixel_at, int begin, int end);
  // Pixels [begin, end) of a map `out`. `queries`: [pixel - begin][dwords]; `keys`: [heads][head_dwords][keys];
  // `values`: [heads][key_dwords][channels of a head], bit k % 32 of dword k / 32 that of key k, 0 beyond the keys.
  void (*attend)(const Attention&, const uint32_t* queries, const uint32_t* keys, const uint32_t* values,
                 int32_t* scratch, float* out, int64_t out_step, int begin, int end);
  void (*float_conv)(const FloatConv&, const float* in, float* out, int64_t out_step, int begin, int end, int first,
                     int last);
  void (*grouped_conv)(const GroupedConv&, const float* in, float* out, int64_t out_step, int begin, int end);
  void (*depthwise_conv)(const DepthwiseConv&, const float* in, float* out, int64_t out_step, int begin, int end);
  // Output pixels [begin, end); the average is the sum over the window's pixels in sequence, beginning with 0, divided.
  // The maximum of a window with a NaN is one. Row y of the input lies where row y % ring does, if ring is not 0.
  void (*pool)(const Pooling&, int ring, const float* in, int64_t in_step, float* out, int64_t out_step, int channels,
               int begin, int end);
  // x and out may be the same.
  void (*pointwise)(const Pointwise&, const float* x, int64_t x_step, const Operand& other, float* out,
                    int64_t out_step, int channels, int begin, int end);
  // Rows [begin, end) of [rows][columns] weights with a vector, + bias if any: kLanes sums of every kLanes-th product,
  // one fused product each; then halves of these are added to halves.
  void (*linear)(const float* weights, const float* bias, const float* x, int columns, float* out, int begin, int end);
  // Products in double, without a bias.
  void (*double_linear)(const float* weights, const double* x, int columns, double* out, int begin, int end);
  // Pixels [begin, end) added in sequence, in double, to each channel's sum in `sums` [channels].
  void (*sum)(const float* x, int64_t step, int channels, double* sums, int begin, int end);
  // The bare tile of a window of `dwords`, many times over: how many binary multiply-accumulates that was.
  double (*spin)(int dwords, int repeats);
  // The same of real-valued ones.
  double (*float_spin)(int length, int repeats);
};

extern const Kernels kPortable;  // not in WebAssembly
#if defined(__x86_64__)
// These need avx2 and fma; and besides avx512f, avx512dq, avx512bw, avx512vl and avx512vpopcntdq.
extern const Kernels kAvx2, kAvx512;
#elif defined(__aarch64__) || (defined(__linux__) && defined(__ARM_PCS_VFP))
#define BCDZOO_NEON
// Of 32 bits it needs neon and vfpv4.
extern const Kernels kNeon;
#elif defined(__wasm_simd128__)
extern const Kernels kWasm;
#endif

// The instruction sets of this processor and build, the fastest first.
std::vector<const Kernels*> all_kernels();

}  // namespace bcdzoo
