/* The C interface as C sees it: interface_test net.bcz, the file that make_plan writes. */
#include <bcdzoo/engine.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SIZE = 48, MANY = 64 };

static int faults = 0;

static void expect(int holds, const char* what) {
  if (holds) return;
  printf("wrong: %s\n", what);
  ++faults;
}

static void expect_refused(bcdzoo_status got, bcdzoo_status wanted, const bcdzoo_error* error, const char* what) {
  if (got == wanted && error->status == wanted && strstr(error->message, what) && !strchr(error->message, '\n')) return;
  printf("wrong: status %d, \"%s\" in place of %d, \"%s\"\n", got, error->message, wanted, what);
  ++faults;
}

static char* content_of(const char* path, size_t* size) {
  FILE* file = fopen(path, "rb");
  char* content = malloc(1 << 16);
  *size = file && content ? fread(content, 1, 1 << 16, file) : 0;
  if (file) fclose(file);
  return content;
}

static void facts(const bcdzoo_network* network) {
  expect(bcdzoo_engine_version() == BCDZOO_ENGINE_VERSION, "the version");
  expect(bcdzoo_channels(network) == 3 && bcdzoo_height(network) == 4 && bcdzoo_width(network) == 4,
         "the image's shape");
  expect(bcdzoo_outputs(network) == 3 && !strcmp(bcdzoo_model(network), "net"), "outputs, name");
  expect(!strncmp(bcdzoo_preprocess(network), "resize=4,crop=4,", 16), "preprocessing");
  expect(!strcmp(bcdzoo_class_name(network, 0), "one") && !strcmp(bcdzoo_class_name(network, 2), "three"),
         "class names");
  expect(!bcdzoo_class_name(network, 3) && !bcdzoo_class_name(network, -1), "names of no classes");
  expect(bcdzoo_instructions(0) && !bcdzoo_instructions(-1) && !bcdzoo_instructions(1000), "instruction sets");
  expect(!bcdzoo_channels(NULL) && !bcdzoo_height(NULL) && !bcdzoo_width(NULL) && !bcdzoo_outputs(NULL),
         "facts of NULL");
  expect(!*bcdzoo_model(NULL) && !*bcdzoo_preprocess(NULL) && !bcdzoo_class_name(NULL, 0), "texts of NULL");
  bcdzoo_free(NULL);
}

static void results(const bcdzoo_network* network) {
  float images[MANY * SIZE], logits[MANY * 3];
  uint8_t pixels[SIZE];
  bcdzoo_error error;
  for (int i = 0; i < MANY * SIZE; ++i) images[i] = (float)(i % SIZE / 16) + (float)(i / SIZE); /* channel + image */
  for (int set = 0; bcdzoo_instructions(set); ++set)
    for (int threads = 0; threads < 6; ++threads) {
      memset(logits, 0, sizeof logits);
      expect(bcdzoo_run(network, images, MANY, logits, threads, bcdzoo_instructions(set), &error) == BCDZOO_OK,
             "it runs");
      int right = !*error.message;
      for (int i = 0; i < MANY * 3; ++i)
        right = right && logits[i] == 16.0f * (float)(i % 3 + i / 3) + 0.5f - 0.5f * (float)(i % 3);
      expect(right, "logits of numbers");
    }
  for (int i = 0; i < SIZE; ++i) pixels[i] = i % 3 == 1 ? 255 : 0;
  expect(bcdzoo_run_pixels(network, pixels, 1, logits, 1, NULL, NULL) == BCDZOO_OK, "pixels run");
  expect(logits[0] == -15.5f && logits[1] == 16 && logits[2] == -16.5f, "logits of pixels");
  expect(bcdzoo_run(network, images, 0, logits, 3, NULL, NULL) == BCDZOO_OK, "no image");
}

static void refusals(const bcdzoo_network* network, const char* path) {
  float images[SIZE] = {0}, logits[3];
  uint8_t pixels[SIZE] = {0};
  bcdzoo_network* none = (bcdzoo_network*)path;
  bcdzoo_error error;
  const bcdzoo_status bad = BCDZOO_BAD_ARGUMENT;
  expect_refused(bcdzoo_run(NULL, images, 1, logits, 1, NULL, &error), bad, &error, "NULL");
  expect_refused(bcdzoo_run(network, NULL, 1, logits, 1, NULL, &error), bad, &error, "NULL");
  expect_refused(bcdzoo_run(network, images, 1, NULL, 1, NULL, &error), bad, &error, "NULL");
  expect_refused(bcdzoo_run_pixels(network, NULL, 1, logits, 1, NULL, &error), bad, &error, "NULL");
  expect_refused(bcdzoo_run(network, images, -1, logits, 1, NULL, &error), bad, &error, "0 to 1048576");
  expect_refused(bcdzoo_run_pixels(network, pixels, 2147483647, logits, 1, NULL, &error), bad, &error, "0 to 1048576");
  expect_refused(bcdzoo_run(network, images, 1, logits, -1, NULL, &error), bad, &error, "threads must be 0 to 1024");
  expect_refused(bcdzoo_run(network, images, 1, logits, 1025, NULL, &error), bad, &error, "threads must be 0 to 1024");
  expect_refused(bcdzoo_run(network, images, 1, logits, 1, "a\nb", &error), bad, &error,
                 "no instruction set named a?b");
  images[SIZE - 1] = NAN;
  expect_refused(bcdzoo_run(network, images, 1, logits, 1, NULL, &error), bad, &error,
                 "image 0 has a value that is not finite");

  expect_refused(bcdzoo_load(NULL, &none, &error), bad, &error, "NULL");
  expect(!none, "a network of nothing");
  expect_refused(bcdzoo_load(path, NULL, &error), bad, &error, "NULL");
  expect_refused(bcdzoo_load("/no/such\x1b[2J/file", &none, &error), BCDZOO_CANNOT_READ, &error,
                 "cannot read /no/such?[2J/file: No such");
  expect_refused(bcdzoo_load("/", &none, &error), BCDZOO_CANNOT_READ, &error, "no regular file");
  expect_refused(bcdzoo_load("/dev/zero", &none, &error), BCDZOO_CANNOT_READ, &error, "no regular file");
  remove("interface_test.fifo");
  if (mkfifo("interface_test.fifo", 0600) == 0)
    expect_refused(bcdzoo_load("interface_test.fifo", &none, &error), BCDZOO_CANNOT_READ, &error, "no regular file");
  remove("interface_test.fifo");
  expect_refused(bcdzoo_load_memory(NULL, 100, &none, &error), bad, &error, "NULL");
  expect_refused(bcdzoo_load_memory("", 0, &none, &error), BCDZOO_BAD_PLAN, &error, "it is not a plan file");

  size_t size;
  char* content = content_of(path, &size);
  expect(bcdzoo_load_memory(content, size, &none, &error) == BCDZOO_OK, "it is loaded from memory");
  bcdzoo_free(none);
  expect_refused(bcdzoo_load_memory(content, size - 1, &none, &error), BCDZOO_BAD_PLAN, &error,
                 "the content cannot be used");
  expect_refused(bcdzoo_load_memory(content, (size_t)-1, &none, &error), BCDZOO_BAD_PLAN, &error, "it has ");

  char *const room = malloc(size + 128), *const aligned = room + (64 - (uintptr_t)room % 64);
  images[SIZE - 1] = 0;
  memcpy(aligned, content, size);
  expect(bcdzoo_load_in_place(aligned, size, &none, &error) == BCDZOO_OK, "it is loaded where it lies");
  expect(bcdzoo_run(none, images, 1, logits, 1, NULL, &error) == BCDZOO_OK, "it runs where it lies");
  expect(!memcmp(aligned, content, size), "it is left as it is");
  bcdzoo_free(none);
  memmove(aligned + 1, aligned, size);
  expect_refused(bcdzoo_load_in_place(aligned + 1, size, &none, &error), bad, &error, "multiple of 64");
  expect_refused(bcdzoo_load_in_place(NULL, size, &none, &error), bad, &error, "NULL");
  free(room);

  content[size - 1] ^= 1;
  expect_refused(bcdzoo_load_memory(content, size, &none, &error), BCDZOO_BAD_PLAN, &error, "does not match its hash");
  free(content);
}

static void* run_often(void* network) {
  float images[SIZE], logits[3];
  for (int i = 0; i < SIZE; ++i) images[i] = 1;
  long wrong = 0;
  for (int i = 0; i < 2000; ++i) {
    wrong += bcdzoo_run(network, images, 1, logits, i % 3 + 1, NULL, NULL) != BCDZOO_OK;
    wrong += logits[0] != 16.5f || logits[1] != 16 || logits[2] != 15.5f;
  }
  return (void*)wrong;
}

/* Several threads run one network, while the process is forked again and again; each child runs it too, on several
 * threads. */
static void threads_and_forks(bcdzoo_network* network) {
  pthread_t threads[3];
  for (int i = 0; i < 3; ++i)
    if (pthread_create(&threads[i], NULL, run_often, network)) abort();
  for (int i = 0; i < 20; ++i) {
    const pid_t child = fork();
    if (child == 0) {
      float images[2 * SIZE] = {0}, logits[6];
      alarm(60);
      _exit(bcdzoo_run(network, images, 2, logits, 2, NULL, NULL) == BCDZOO_OK && logits[3] == 0.5f &&
                    logits[5] == -0.5f
                ? 0
                : 1);
    }
    int status = 1;
    waitpid(child, &status, 0);
    expect(status == 0, "a child runs it");
  }
  for (int i = 0; i < 3; ++i) {
    void* wrong;
    pthread_join(threads[i], &wrong);
    expect(!wrong, "several threads run it");
  }
}

int main(int count, char** words) {
  bcdzoo_network* network;
  bcdzoo_error error;
  if (count != 2 || bcdzoo_load(words[1], &network, &error) != BCDZOO_OK) return 2;
  facts(network);
  results(network);
  refusals(network, words[1]);
  threads_and_forks(network);
  bcdzoo_free(network);
  printf("%d faults\n", faults);
  return faults != 0;
}
