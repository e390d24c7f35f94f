// What vectors.inl leaves open, in vectors of four, for any processor.

typedef uint32_t U __attribute__((vector_size(4 * kWidth)));

#ifdef __FP_FAST_FMAF
// a * b + c, rounded once.
BCDZOO_INLINE F fmadd(F a, F b, F c) {
  for (int i = 0; i < kWidth; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
}
#else
BCDZOO_INLINE F narrow(D first, D second) {
  typedef float HalfF __attribute__((vector_size(2 * kWidth)));
  const HalfF lower = __builtin_convertvector(first, HalfF), upper = __builtin_convertvector(second, HalfF);
  return __builtin_shufflevector(lower, upper, 0, 1, 2, 3);
}
BCDZOO_INLINE bool any(I mask) {
  typedef int64_t L __attribute__((vector_size(4 * kWidth)));
  return (((L)mask)[0] | ((L)mask)[1]) != 0;
}
#include "fused.inl"
#endif
BCDZOO_INLINE uint32_t movemask(I x) {
  const U one = (U)x >> 31;
  return one[0] | one[1] << 1 | one[2] << 2 | one[3] << 3;
}
BCDZOO_INLINE uint32_t cmp_ge_mask(F a, F b) { return movemask((I)(a >= b)); }
// a > b ? a : b, so b if one is a NaN.
BCDZOO_INLINE F max(F a, F b) { return a > b ? a : b; }
BCDZOO_INLINE F rint(F x) {
  for (int i = 0; i < kWidth; ++i) x[i] = __builtin_rintf(x[i]);
  return x;
}

// Floats as doubles.
BCDZOO_INLINE D to_doubles(const float* x) {
  D all;
  for (int i = 0; i < kDoubles; ++i) all[i] = static_cast<double>(x[i]);
  return all;
}
