// Convolutions of narrow groups, once for every instruction set.

// Input channel `c` of every lane's group, of kWidth outputs from one on: `at` is where the first one's group begins.
BCDZOO_INLINE F group_operand(const float* at, int c, int group_in, int group_out, [[maybe_unused]] F loaded) {
  if (group_out >= kWidth) return splat(at[c]);
#ifndef __clang__  // which has no shuffle by a variable
  if (kWidth / group_out * group_in <= kWidth) {
    I index;
    for (int i = 0; i < kWidth; ++i) index[i] = i / group_out * group_in + c;
    return __builtin_shuffle(loaded, index);
  }
#endif
  F gathered;
  for (int i = 0; i < kWidth; ++i) gathered[i] = at[i / group_out * group_in + c];
  return gathered;
}

// MR pixels of kWidth outputs from `first` on. The sizes of groups are constants where they can be.
template <int MR, int kIn, int kOut>
BCDZOO_INLINE void grouped_tile(const GroupedConv& conv, const float* in, float* out, int64_t out_step, int pixel,
                                int first) {
  const int group_in = kIn ? kIn : conv.group_in, group_out = kOut ? kOut : conv.group_out;
  const Windows& windows = conv.windows;
  const float* x[MR];
  for (int p = 0; p < MR; ++p) x[p] = in + windows.window_at[pixel + p] + first / group_out * group_in;
  const float* w = conv.weights.data() + int64_t{first / kLanes} * windows.runs() * group_in * kLanes + first % kLanes;
  F sums[MR];
  for (F& sum : sums) sum = F{};
  for (const int32_t tap : windows.run_at) {
    F loaded[MR];
#pragma GCC unroll 16
    for (int p = 0; p < MR; ++p) loaded[p] = load(x[p] + tap);
#pragma GCC unroll 16
    for (int c = 0; c < group_in; ++c, w += kLanes) {
      const F weight = load(w);
#pragma GCC unroll 16
      for (int p = 0; p < MR; ++p)
        sums[p] = fmadd(group_operand(x[p] + tap, c, group_in, group_out, loaded[p]), weight, sums[p]);
    }
  }
  for (int p = 0; p < MR; ++p) {
    F v = sums[p];
    if (!conv.bias.empty()) v = v + load(conv.bias.data() + first);
    if (!conv.alpha.empty()) v = fmadd(v, load(conv.alpha.data() + first), load(conv.beta.data() + first));
    store(out + (pixel + p) * out_step + first, conv.relu ? (v < F{} ? F{} : v) : v);
  }
}

template <int kIn, int kOut>
void grouped_as(const GroupedConv& conv, const float* in, float* out, int64_t out_step, int begin, int end) {
  constexpr int kTile = kPlain ? kFloatMR : 6;
  int pixel = begin;
  for (; pixel + kTile <= end; pixel += kTile)
    for (int first = 0; first < conv.vectors() * kLanes; first += kWidth)
      grouped_tile<kTile, kIn, kOut>(conv, in, out, out_step, pixel, first);
  for (; pixel < end; ++pixel)
    for (int first = 0; first < conv.vectors() * kLanes; first += kWidth)
      grouped_tile<1, kIn, kOut>(conv, in, out, out_step, pixel, first);
}

void grouped_conv(const GroupedConv& conv, const float* in, float* out, int64_t out_step, int begin, int end) {
  auto chosen = grouped_as<0, 0>;
  if (conv.group_out == 8 && conv.group_in == 8) chosen = grouped_as<8, 8>;
  if (conv.group_out == 8 && conv.group_in == 4) chosen = grouped_as<4, 8>;
  chosen(conv, in, out, out_step, begin, end);
}
