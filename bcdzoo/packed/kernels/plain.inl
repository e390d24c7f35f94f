// The primitives on floats in plain C++, which compilers turn into vectors where there are any.

// Bit i: x[i] >= limit[i].
uint32_t at_least(const float* x, const float* limit) {
  uint32_t mask = 0;
  for (int i = 0; i < kChannels; ++i) mask |= uint32_t{x[i] >= limit[i]} << i;
  return mask;
}

struct Lanes {
  float value[kLanes];
};

BCDZOO_INLINE Lanes splat(float value) {
  Lanes all;
  for (float& one : all.value) one = value;
  return all;
}

BCDZOO_INLINE Lanes positive(Lanes x) {
  for (float& one : x.value) one = one > 0.0f ? one : 0.0f;
  return x;
}

// x * w + sum, rounded once.
BCDZOO_INLINE Lanes fused(Lanes x, float w, Lanes sum) {
  for (int i = 0; i < kLanes; ++i) sum.value[i] = __builtin_fmaf(x.value[i], w, sum.value[i]);
  return sum;
}
