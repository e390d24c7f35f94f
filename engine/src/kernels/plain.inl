// What vectors.inl leaves open, in vectors of four, for any processor.

typedef uint32_t U __attribute__((vector_size(4 * kWidth)));

#ifdef __FP_FAST_FMAF
// a * b + c, rounded once.
BCDZOO_INLINE F fmadd(F a, F b, F c) {
  for (int i = 0; i < kWidth; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
}
#else
typedef float HalfF __attribute__((vector_size(2 * kWidth)));
typedef int64_t L __attribute__((vector_size(4 * kWidth)));

template <int kHalf>
BCDZOO_INLINE D half(F x) {
  return __builtin_convertvector(__builtin_shufflevector(x, x, 2 * kHalf, 2 * kHalf + 1), D);
}

// a * b + c, rounded once. In double the product is exact and the sum rounded, which makes no difference to the float
// unless it lies half-way between two floats, or is so small (but not 0) that floats have fewer bits there.
BCDZOO_INLINE F fmadd(F a, F b, F c) {
  constexpr int kHigh = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, kLow = 1 - kHigh;
  const D first = half<0>(a) * half<0>(b) + half<0>(c), second = half<1>(a) * half<1>(b) + half<1>(c);
  const I low = __builtin_shufflevector((I)first, (I)second, kLow, kLow + 2, kLow + 4, kLow + 6);
  const I high = __builtin_shufflevector((I)first, (I)second, kHigh, kHigh + 2, kHigh + 4, kHigh + 6);
  const U small = (U)(high & 0x7fffffff) - 1u < 0x381fffffu;  // below 2^-125
  const L doubtful = (L)((I)small | ((low & 0x1fffffff) == 0x10000000));
  if (__builtin_expect((doubtful[0] | doubtful[1]) != 0, 0)) {
    for (int i = 0; i < kWidth; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return c;
  }
  const HalfF lower = __builtin_convertvector(first, HalfF), upper = __builtin_convertvector(second, HalfF);
  return __builtin_shufflevector(lower, upper, 0, 1, 2, 3);
}
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
