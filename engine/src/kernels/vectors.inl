// Vectors of kWidth lanes of 32 bits, once for every instruction set, whose file says kWidth before it includes this.
// Compiled without contraction of products and sums: every float is rounded where the code says so and nowhere else.

#ifndef __OPTIMIZE__
#error "kernels are to be optimized: what is inline in headers would be shared by the instruction sets otherwise"
#endif

typedef float F __attribute__((vector_size(4 * kWidth)));
typedef int32_t I __attribute__((vector_size(4 * kWidth)));
typedef float LooseF __attribute__((vector_size(4 * kWidth), aligned(4), may_alias));
typedef int32_t LooseI __attribute__((vector_size(4 * kWidth), aligned(4), may_alias));

// Doubles, half as many.
constexpr int kDoubles = kWidth / 2;
typedef double D __attribute__((vector_size(8 * kDoubles)));
typedef double LooseD __attribute__((vector_size(8 * kDoubles), aligned(8), may_alias));

constexpr int kLaneVectors = kLanes / kWidth;  // that hold kLanes channels

BCDZOO_INLINE F load(const float* from) { return *reinterpret_cast<const LooseF*>(from); }
BCDZOO_INLINE I load(const void* from) { return *reinterpret_cast<const LooseI*>(from); }
BCDZOO_INLINE D load(const double* from) { return *reinterpret_cast<const LooseD*>(from); }
BCDZOO_INLINE void store(float* to, F x) { *reinterpret_cast<LooseF*>(to) = x; }
BCDZOO_INLINE F splat(float value) { return value - F{}; }
BCDZOO_INLINE I splat(int32_t value) { return value - I{}; }
BCDZOO_INLINE F to_floats(I x) { return __builtin_convertvector(x, F); }

// v > 0 ? v : v * slope; of a NaN a NaN.
BCDZOO_INLINE F prelu(F v, F slope) { return v > F{} ? v : v * slope; }

// A NaN stays one.
BCDZOO_INLINE F clip(F v, F low, F high) {
  v = v < low ? low : v;
  return v > high ? high : v;
}

// What a constant that is not there is replaced by: products with 1 and sums with -0 change nothing, not even a -0.
alignas(64) const float kOnes[kPanel] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                         1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
alignas(64) const float kMinusZeros[kPanel] = {-0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f,
                                               -0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f,
                                               -0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f, -0.f};

BCDZOO_INLINE const float* part(const Floats& constants, int first, const float* otherwise) {
  return constants.empty() ? otherwise : constants.data() + first;
}

// The lowest `count` bits.
BCDZOO_INLINE uint32_t low_bits(int count) { return count >= 32 ? ~0u : count <= 0 ? 0u : (1u << count) - 1; }
