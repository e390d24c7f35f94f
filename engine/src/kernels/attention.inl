// Attention of bits, once for every instruction set; its loops over keys and over channels are the compiler's to
// vectorize.

// Which keys a query sees in a head: bits of `mask`; returns how many.
BCDZOO_INLINE int seen_keys(const Attention& attention, const uint32_t* query, const uint32_t* keys, int32_t* differing,
                            int32_t* counts, uint32_t* mask) {
  const int count = attention.keys, channels = 32 * attention.head_dwords;
  const double* const exps = attention.exps.data();
  for (int j = 0; j < count; ++j) differing[j] = 0;
  for (int word = 0; word < attention.head_dwords; ++word)
    for (int j = 0; j < count; ++j) differing[j] += __builtin_popcount(query[word] ^ keys[int64_t{word} * count + j]);
  int least = channels;
  for (int j = 0; j < count; ++j) least = differing[j] < least ? differing[j] : least;
  for (int i = 0; i <= channels; ++i) counts[i] = 0;
  for (int j = 0; j < count; ++j) ++counts[differing[j] - least];
  double all = 0;
  for (int i = 0; i <= channels; ++i) all += counts[i] * exps[i];
  int limit = 0;  // keys that differ by less more are seen, because weights fall with the difference
  while (limit <= channels && static_cast<float>(exps[limit] / all) / attention.level > 0.5f) ++limit;
  int seen = 0;
  for (int word = 0; word < attention.key_dwords(); ++word) {
    const int first = 32 * word, last = first + 32 < count ? first + 32 : count;
    uint32_t bits = 0;
    for (int j = first; j < last; ++j) bits |= static_cast<uint32_t>(differing[j] - least < limit) << (j - first);
    mask[word] = bits;
    seen += __builtin_popcount(bits);
  }
  return seen;
}

void attend(const Attention& attention, const uint32_t* queries, const uint32_t* keys, const uint32_t* values,
            int32_t* scratch, float* out, int64_t out_step, int begin, int end) {
  const int channels = 32 * attention.head_dwords, words = attention.key_dwords(), heads = attention.heads;
  int32_t *const differing = scratch, *const counts = differing + attention.keys, *const sums = counts + channels + 1;
  uint32_t* const mask = reinterpret_cast<uint32_t*>(sums + channels);
  for (int pixel = begin; pixel < end; ++pixel)
    for (int head = 0; head < heads; ++head) {
      const uint32_t* const query = queries + (int64_t{pixel - begin} * heads + head) * attention.head_dwords;
      const uint32_t* const of_head = keys + int64_t{head} * attention.head_dwords * attention.keys;
      const int seen = seen_keys(attention, query, of_head, differing, counts, mask);
      for (int c = 0; c < channels; ++c) sums[c] = 0;
      for (int word = 0; word < words; ++word) {
        const uint32_t* const of_word = values + (int64_t{head} * words + word) * channels;
        for (int c = 0; c < channels; ++c) sums[c] += __builtin_popcount(mask[word] & of_word[c]);
      }
      float* const to = out + pixel * out_step + int64_t{head} * channels;
      for (int c = 0; c < channels; ++c) to[c] = static_cast<float>(2 * sums[c] - seen) * attention.level;
    }
}
