/* How many of the instructions that networks live on this processor starts in a cycle.
 *
 *     cc -O1 benchmarks/instructions.c -o instructions && ./instructions
 *
 * For x86-64 with AVX-512, VNNI, BF16 and VPOPCNTDQ; the 256-bit ones are AVX2's. A chain of additions, of which each
 * waits for the one before, tells the length of a cycle. Samples are short, and the quickest of many counts, so that it
 * works on a busy machine.
 */
#include <stdint.h>
#include <stdio.h>
#include <time.h>

enum { SAMPLES = 4000, ROUNDS = 2000, REGISTERS = 10 };

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec + 1e-9 * t.tv_nsec;
}

/* Seconds of one instruction: the best of many samples. */
static double best(void (*sample)(void)) {
  double least = 1;
  for (int i = 0; i < SAMPLES; i++) {
    double start = now();
    sample();
    double one = (now() - start) / (ROUNDS * REGISTERS);
    if (one < least) least = one;
  }
  return least;
}

static void chain(void) {
  uint64_t x = 0;
  for (int i = 0; i < ROUNDS; i++)
    __asm__ volatile(".rept 10\n add $1, %0\n .endr" : "+r"(x));
}

/* Ten registers, each of which waits only for itself. */
#define SAMPLE(name, code)                                                                                    \
  static void name(void) {                                                                                    \
    for (int i = 0; i < ROUNDS; i++)                                                                          \
      __asm__ volatile(code "0\n" code "1\n" code "2\n" code "3\n" code "4\n" code "5\n" code "6\n" code "7\n" \
                       code "8\n" code "9\n" ::                                                                \
                           : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9");  \
  }

SAMPLE(fma_512, "vfmadd231ps %%zmm14, %%zmm15, %%zmm")
SAMPLE(bfloat16_512, "vdpbf16ps %%zmm14, %%zmm15, %%zmm")
SAMPLE(int8_512, "vpdpbusd %%zmm14, %%zmm15, %%zmm")
SAMPLE(xor_512, "vpxord %%zmm14, %%zmm15, %%zmm")
SAMPLE(popcount_512, "vpopcntd %%zmm15, %%zmm")
SAMPLE(add_512, "vpaddd %%zmm14, %%zmm15, %%zmm")
SAMPLE(fma_256, "vfmadd231ps %%ymm14, %%ymm15, %%ymm")
SAMPLE(int8_256, "vpmaddubsw %%ymm14, %%ymm15, %%ymm")
SAMPLE(pairs_256, "vpmaddwd %%ymm14, %%ymm15, %%ymm")
SAMPLE(shuffle_256, "vpshufb %%ymm14, %%ymm15, %%ymm")

int main(void) {
  double cycle = best(chain);
  printf("%.2f GHz\n", 1e-9 / cycle);
#define SHOW(name) printf("%-13s %.2f a cycle\n", #name, cycle / best(name));
  SHOW(fma_512) SHOW(bfloat16_512) SHOW(int8_512) SHOW(xor_512) SHOW(popcount_512) SHOW(add_512)
  SHOW(fma_256) SHOW(int8_256) SHOW(pairs_256) SHOW(shuffle_256)
  return 0;
}
