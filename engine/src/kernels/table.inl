// An instruction set's kernels, in the sequence of Kernels.
#define BCDZOO_KERNELS(name)                                                                            \
  {name,           binary_conv, binarize,  level_bits, sum_bits,      attend, float_conv, grouped_conv, \
   depthwise_conv, pool,        pointwise, linear,     double_linear, sum,    spin,       float_spin}
