// Fused products for where the processor has none, in vectors of four. Provided are
// - narrow(first, second): doubles as floats, each rounded
// - any(mask): whether a lane is not 0

template <int kHalf>
BCDZOO_INLINE D half(F x) {
  typedef float HalfF __attribute__((vector_size(2 * kWidth)));
  const HalfF part = __builtin_shufflevector(x, x, 2 * kHalf, 2 * kHalf + 1);
  return __builtin_convertvector(part, D);
}

// Not inline, because it hardly ever runs.
__attribute__((noinline)) F fmadd_by_one(F a, F b, F c) {
  for (int i = 0; i < kWidth; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
}

// a * b + c, rounded once. In double the product is exact and the sum rounded, which makes no difference to the float
// unless it lies half-way between two floats, or is so small (but not 0) that floats have fewer bits there.
BCDZOO_INLINE F fmadd(F a, F b, F c) {
  typedef uint32_t U __attribute__((vector_size(4 * kWidth)));
  constexpr int kHigh = __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, kLow = 1 - kHigh;
  const D first = half<0>(a) * half<0>(b) + half<0>(c), second = half<1>(a) * half<1>(b) + half<1>(c);
  const I low = __builtin_shufflevector((I)first, (I)second, kLow, kLow + 2, kLow + 4, kLow + 6);
  const I high = __builtin_shufflevector((I)first, (I)second, kHigh, kHigh + 2, kHigh + 4, kHigh + 6);
  const I small = (U)(high & 0x7fffffff) - 1u < 0x381fffffu;  // below 2^-125
  if (__builtin_expect(any(small | ((low & 0x1fffffff) == 0x10000000)), 0)) return fmadd_by_one(a, b, c);
  return narrow(first, second);
}
