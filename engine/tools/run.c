/* bcdzoo-run: classes of pictures by a plan, with their probabilities. Exit code 1: a picture cannot be used, which
 * does not keep the others from being named; or the network. 2: wrong usage. */
#include <bcdzoo/engine.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char kUsage[] =
    "usage: bcdzoo-run [--top K] [--threads N] [--instructions NAME] [--raw] net.bcz PICTURE...\n"
    "  PICTURE is a PPM (P6, of bytes) of the network's size, red, green and blue; with --raw, float32 of this "
    "machine,\n"
    "  channel by channel, preprocessed as the network expects.\n";

typedef struct {
  int top, threads, raw;
  const char* instructions;
} Options;

/* Text of a file, or a path, without what a terminal would obey. */
static void put(FILE* to, const char* text) {
  for (; *text; ++text) {
    const unsigned char c = (unsigned char)*text, next = (unsigned char)text[1];
    const int is_wide_control = c == 0xc2 && next >= 0x80 && next < 0xa0; /* U+0080 to U+009F */
    fputc(c < 0x20 || c == 0x7f || is_wide_control ? '?' : c, to);
    text += is_wide_control;
  }
}

static int complain(const char* path, const char* what) {
  fprintf(stderr, "bcdzoo-run: ");
  put(stderr, path);
  fprintf(stderr, ": %s\n", what);
  return 1;
}

/* A number in the header of a PPM, behind white space and comments; -1 if there is none, or one that is too large. */
static int number_in(FILE* file) {
  int c = fgetc(file), number = -1;
  while (c == '#' || c == ' ' || c == '\t' || c == '\r' || c == '\n') {
    if (c == '#')
      while (c != '\n' && c != EOF) c = fgetc(file);
    else
      c = fgetc(file);
  }
  for (; c >= '0' && c <= '9' && number < 1000000; c = fgetc(file)) number = 10 * (number < 0 ? 0 : number) + c - '0';
  return c == ' ' || c == '\t' || c == '\r' || c == '\n' ? number : -1;
}

/* What to do with a picture. */
static void advise(char* what, size_t room, const char* why, const bcdzoo_network* network) {
  const int width = bcdzoo_width(network), height = bcdzoo_height(network);
  int side = width < height ? width : height;
  sscanf(bcdzoo_preprocess(network), "resize=%d", &side);
  snprintf(what, room,
           "%s; convert it, for example with `magick IN -resize %dx%d^ -gravity center -extent %dx%d OUT.ppm`", why,
           side, side, width, height);
}

/* Whether a file begins with the header of a PPM of the network's size; otherwise `what` says what to do. */
static int has_header(FILE* file, const bcdzoo_network* network, char* what, size_t room) {
  if (fgetc(file) != 'P' || fgetc(file) != '6') {
    advise(what, room, "it is no PPM of type P6", network);
    return 0;
  }
  const int width = number_in(file), height = number_in(file), largest = number_in(file);
  if (width < 0 || height < 0 || largest < 0) {
    snprintf(what, room, "its header is broken: write it again");
    return 0;
  }
  if (largest != 255) {
    snprintf(what, room, "its largest value is %d, not 255: write it again with 8 bits a channel", largest);
    return 0;
  }
  if (width != bcdzoo_width(network) || height != bcdzoo_height(network)) {
    char why[100];
    snprintf(why, sizeof why, "it has %d x %d pixels, and the network takes %d x %d", width, height,
             bcdzoo_width(network), bcdzoo_height(network));
    advise(what, room, why, network);
    return 0;
  }
  return 1;
}

/* Logits of a picture; 0, and `what` says why, if there are none. */
static int run(const bcdzoo_network* network, const char* path, const Options* options, float* logits, char* what,
               size_t room) {
  const size_t size = (size_t)bcdzoo_channels(network) * (size_t)bcdzoo_height(network) * (size_t)bcdzoo_width(network);
  const size_t bytes = options->raw ? size * sizeof(float) : size;
  bcdzoo_error error;
  void* image = NULL;
  int done = 0;
  FILE* file = fopen(path, "rb");
  if (!file) {
    snprintf(what, room, "%s", strerror(errno));
    return 0;
  }
  if (!options->raw && !has_header(file, network, what, room)) {
    fclose(file);
    return 0;
  }
  if (!(image = malloc(bytes)))
    snprintf(what, room, "out of memory");
  else if (fread(image, 1, bytes, file) != bytes || fgetc(file) != EOF)
    snprintf(what, room, "it does not have the %lu bytes of one image", (unsigned long)bytes);
  else if ((options->raw ? bcdzoo_run(network, image, 1, logits, options->threads, options->instructions, &error)
                         : bcdzoo_run_pixels(network, image, 1, logits, options->threads, options->instructions,
                                             &error)) != BCDZOO_OK)
    snprintf(what, room, "%s", error.message);
  else
    done = 1;
  free(image);
  fclose(file);
  return done;
}

/* Prints the likeliest classes, a line each: path, probability, number, and name if there is one. Logits are used up.
 */
static void print(const bcdzoo_network* network, const char* path, const Options* options, float* logits) {
  const int classes = bcdzoo_outputs(network);
  double largest = logits[0], sum = 0;
  for (int i = 1; i < classes; ++i) largest = logits[i] > largest ? logits[i] : largest;
  for (int i = 0; i < classes; ++i) sum += exp(logits[i] - largest);
  for (int place = 0; place < options->top && place < classes; ++place) {
    int best = 0;
    for (int i = 1; i < classes; ++i)
      if (logits[i] > logits[best]) best = i;
    const char* name = bcdzoo_class_name(network, best);
    put(stdout, path);
    printf("\t%.4f\t%d\t", exp(logits[best] - largest) / sum, best);
    put(stdout, name ? name : "");
    putchar('\n');
    logits[best] = -INFINITY;
  }
}

static int whole(const char* text, int most, int* number) {
  char* end;
  const long value = strtol(text, &end, 10);
  *number = (int)value;
  return *text >= '0' && *text <= '9' && !*end && value <= most;
}

int main(int count, char** words) {
  Options options = {5, 0, 0, NULL};
  int at = 1, failed = 0;
  for (; at < count && !strncmp(words[at], "--", 2); ++at) {
    const char* value = at + 1 < count ? words[at + 1] : "";
    if (!strcmp(words[at], "--help")) return fputs(kUsage, stdout), 0;
    if (!strcmp(words[at], "--raw"))
      options.raw = 1;
    else if ((!strcmp(words[at], "--top") && whole(value, 1 << 24, &options.top) && options.top) ||
             (!strcmp(words[at], "--threads") && whole(value, 1024, &options.threads)))
      ++at;
    else if (!strcmp(words[at], "--instructions") && *value)
      options.instructions = words[++at];
    else
      return fputs(kUsage, stderr), 2;
  }
  if (count - at < 2) return fputs(kUsage, stderr), 2;

  bcdzoo_network* network;
  bcdzoo_error error;
  char what[640];
  if (bcdzoo_load(words[at], &network, &error) != BCDZOO_OK)
    return fprintf(stderr, "bcdzoo-run: %s\n", error.message), 1;
  float* logits = malloc(sizeof *logits * (size_t)bcdzoo_outputs(network));
  if (!logits) failed = complain(words[at], "out of memory");
  while (logits && ++at < count)
    if (run(network, words[at], &options, logits, what, sizeof what))
      print(network, words[at], &options, logits);
    else
      failed = complain(words[at], what);
  free(logits);
  bcdzoo_free(network);
  return failed || fflush(stdout) ? 1 : 0;
}
