/* Names the class of a picture: classify net.bcz picture.ppm, a PPM of bytes and of the network's size.
 *   cc classify.c $(pkg-config --cflags --libs bcdzoo_engine) -o classify */
#include <bcdzoo/engine.h>
#include <stdio.h>
#include <stdlib.h>

int main(int count, char** words) {
  bcdzoo_network* network;
  bcdzoo_error error;
  if (count != 3) return fprintf(stderr, "classify net.bcz picture.ppm\n"), 2;
  if (bcdzoo_load(words[1], &network, &error) != BCDZOO_OK) return fprintf(stderr, "%s\n", error.message), 1;

  int width = 0, height = 0, best = 0, failed = 1;
  const size_t size = (size_t)3 * bcdzoo_height(network) * bcdzoo_width(network);
  uint8_t* pixels = malloc(size);
  float* logits = malloc(sizeof *logits * bcdzoo_outputs(network));
  FILE* file = fopen(words[2], "rb");
  if (!pixels || !logits || !file || fscanf(file, "P6 %d %d 255", &width, &height) != 2 || fgetc(file) == EOF ||
      width != bcdzoo_width(network) || height != bcdzoo_height(network) || fread(pixels, 1, size, file) != size) {
    fprintf(stderr, "%s is no PPM of %d x %d pixels\n", words[2], bcdzoo_width(network), bcdzoo_height(network));
  } else if (bcdzoo_run_pixels(network, pixels, 1, logits, 0, NULL, &error) != BCDZOO_OK) {
    fprintf(stderr, "%s\n", error.message);
  } else {
    for (int i = 1; i < bcdzoo_outputs(network); ++i)
      if (logits[i] > logits[best]) best = i;
    const char* name = bcdzoo_class_name(network, best);
    printf("class %d, %s: %.9g\n", best, name ? name : "which has no name", logits[best]);
    failed = 0;
  }
  if (file) fclose(file);
  free(logits);
  free(pixels);
  bcdzoo_free(network);
  return failed;
}
