/* A network and its images as bytes of the program: prints the bits of each image's logits, a line an image.
 *   classify [instruction set] */
#include <bcdzoo/engine.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern const unsigned char plan[], plan_end[], images[], images_end[];

static int fail(const bcdzoo_error* error) { return printf("%s\n", error->message), 1; }

int main(int count, char** words) {
  const char* const instructions = count > 1 ? words[1] : NULL;
  bcdzoo_network* network;
  bcdzoo_error error;
  if (bcdzoo_load_in_place(plan, (size_t)(plan_end - plan), &network, &error) != BCDZOO_OK) return fail(&error);
  const size_t size = (size_t)bcdzoo_height(network) * (size_t)bcdzoo_width(network) * 3;
  const int outputs = bcdzoo_outputs(network);
  float* const logits = malloc(sizeof *logits * (size_t)outputs);
  if (!logits) return puts("out of memory"), 1;
  for (const unsigned char* image = images; image + size <= images_end; image += size) {
    for (int repeat = 0; repeat < REPEATS; ++repeat)
      if (bcdzoo_run_pixels(network, image, 1, logits, 1, instructions, &error) != BCDZOO_OK) return fail(&error);
    for (int i = 0; i < outputs; ++i) {
      uint32_t bits;
      memcpy(&bits, logits + i, sizeof bits);
      printf("%08" PRIx32 "%c", bits, i + 1 < outputs ? ' ' : '\n');
    }
  }
  free(logits);
  bcdzoo_free(network);
  return 0;
}
