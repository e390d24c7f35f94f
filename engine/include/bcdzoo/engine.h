/* The 1-bit engine of bcdzoo: binary neural networks from a plan file (net.bcz, which `bcdzoo export` writes), on a
 * CPU.
 *
 *   bcdzoo_network* network;
 *   bcdzoo_error error;
 *   if (bcdzoo_load("net.bcz", &network, &error) != BCDZOO_OK) { puts(error.message); return 1; }
 *   float* logits = malloc(bcdzoo_outputs(network) * sizeof *logits);
 *   if (bcdzoo_run_pixels(network, pixels, 1, logits, 0, NULL, &error) != BCDZOO_OK) puts(error.message);
 *   bcdzoo_free(network);
 *
 * Errors. What can fail returns a status, and writes it with a message of one line into the caller's `error`, which may
 * be NULL. It is the caller's, and not kept by thread, so that it is also right where a task moves from thread to
 * thread between two calls (Go, Rust, coroutines). Nothing is thrown, and nothing ends the process: neither files,
 * which may be hostile, nor arguments, as long as pointers that are not NULL point to what is described here.
 *
 * Threads. A network never changes: any number of threads may run it at the same time, and its results do not depend on
 * how many threads work on them. The library's own threads are shared by all networks, and wait for the next call;
 * calls that each ask for several threads take turns. A process may be forked at any time: the child makes threads of
 * its own. A library built with BCDZOO_SINGLE_THREAD has none, and is for programs of one thread.
 *
 * Versions. Within a major version nothing is removed or changed, and the shared library's name stays.
 */
#ifndef BCDZOO_ENGINE_H
#define BCDZOO_ENGINE_H

#include <stddef.h>
#include <stdint.h>

#define BCDZOO_ENGINE_VERSION 100 /* 10000 * major + 100 * minor + patch: 0.1.0 */

#if defined(__GNUC__)
#define BCDZOO_API __attribute__((visibility("default")))
#else
#define BCDZOO_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum bcdzoo_status {
  BCDZOO_OK = 0,
  BCDZOO_BAD_ARGUMENT = 1,  /* NULL, a count out of range, images that are not finite, no such instruction set */
  BCDZOO_CANNOT_READ = 2,   /* there is no such file, or it is no regular one */
  BCDZOO_BAD_PLAN = 3,      /* the file is damaged, no plan, of another version, or asks for too much */
  BCDZOO_NO_PREPROCESS = 4, /* the plan does not say how pixels become numbers */
  BCDZOO_NO_MEMORY = 5,
  BCDZOO_NO_THREADS = 6, /* the system gives no more threads */
  BCDZOO_INTERNAL = 7    /* a fault of the engine's own */
} bcdzoo_status;

typedef struct bcdzoo_error {
  bcdzoo_status status;
  char message[508]; /* UTF-8, without control characters, ends with a zero; empty if the status is BCDZOO_OK */
} bcdzoo_error;

typedef struct bcdzoo_network bcdzoo_network;

/* BCDZOO_ENGINE_VERSION of the library that runs. */
BCDZOO_API int bcdzoo_engine_version(void);

/* Loads a network, and checks all of its file. `*network` is NULL if that fails. The content is copied. */
BCDZOO_API bcdzoo_status bcdzoo_load(const char* path, bcdzoo_network** network, bcdzoo_error* error);
BCDZOO_API bcdzoo_status bcdzoo_load_memory(const void* content, size_t size, bcdzoo_network** network,
                                            bcdzoo_error* error);
/* The same of content that is not copied, such as that of flash memory or a mapped file: it begins at a multiple of 64
 * bytes, and stays as it is until the network is freed. */
BCDZOO_API bcdzoo_status bcdzoo_load_in_place(const void* content, size_t size, bcdzoo_network** network,
                                              bcdzoo_error* error);

/* Frees a network that nobody runs any more; NULL is fine. Texts that it gave end with it. */
BCDZOO_API void bcdzoo_free(bcdzoo_network* network);

/* Facts about a network; of NULL they are 0 and "". */
BCDZOO_API int bcdzoo_channels(const bcdzoo_network* network);
BCDZOO_API int bcdzoo_height(const bcdzoo_network* network);
BCDZOO_API int bcdzoo_width(const bcdzoo_network* network);
BCDZOO_API int bcdzoo_outputs(const bcdzoo_network* network);            /* logits of an image: classes */
BCDZOO_API const char* bcdzoo_model(const bcdzoo_network* network);      /* name, such as bcdnet-a */
BCDZOO_API const char* bcdzoo_preprocess(const bcdzoo_network* network); /* see below; "" if unknown */
BCDZOO_API const char* bcdzoo_class_name(const bcdzoo_network* network,
                                         int number); /* NULL: unknown, or no such class */

/* Instruction sets of this processor, the fastest first; NULL behind the last one. */
BCDZOO_API const char* bcdzoo_instructions(int number);

/* Runs a network on images.
 *   count         images, 0 to 2^20
 *   logits        room for count * bcdzoo_outputs(network) floats, image by image
 *   threads       1 to 1024, this one among them; 0: as many as there are processors
 *   instructions  name of an instruction set; NULL: the fastest
 */

/* Images are finite float32 of shape (count, channels, height, width), preprocessed as the network expects. */
BCDZOO_API bcdzoo_status bcdzoo_run(const bcdzoo_network* network, const float* images, int count, float* logits,
                                    int threads, const char* instructions, bcdzoo_error* error);

/* Images are bytes of shape (count, height, width, 3): red, green and blue, resized and cropped to the network's size.
 * They become numbers as the plan's preprocessing says: of
 * "resize=256,crop=224,interpolation=bilinear,mean=0.485:0.456:0.406, std=0.229:0.224:0.225,channels=rgb" (value / 255
 * - mean) / std, and with channels=bgr the other way round, mean and std in the order of these channels. `resize` is
 * the short side to resize to, `crop` the side of the square taken from the middle. */
BCDZOO_API bcdzoo_status bcdzoo_run_pixels(const bcdzoo_network* network, const uint8_t* pixels, int count,
                                           float* logits, int threads, const char* instructions, bcdzoo_error* error);

#ifdef __cplusplus
}
#endif

#endif
