/* What a program needs on a Cortex-M without an operating system: a vector table; before main() constants and zeros in
 * RAM, and the FPU on; a heap; and behind main() how much of the memory was used. It prints by semihosting. */
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

extern uint32_t data_from[], data_begin[], data_end[], zeros_begin[], zeros_end[], heap_begin[], heap_end[], stack_top[];
extern void __libc_init_array(void);
extern void initialise_monitor_handles(void);
extern int main(int, char**);

enum { UNTOUCHED = 0x55555555 };
static char *heap_now = (char*)heap_begin, *heap_most = (char*)heap_begin;

void* _sbrk(ptrdiff_t bytes) {
  if (bytes > (char*)heap_end - heap_now) return (void*)-1;
  heap_now += bytes;
  if (heap_now > heap_most) heap_most = heap_now;
  return heap_now - bytes;
}

static void report(void) {
  const uint32_t* deepest = heap_end;
  while (deepest < stack_top && *deepest == UNTOUCHED) ++deepest;
  printf("RAM: data %d, heap %d, stack %d bytes\n", (int)((char*)heap_begin - (char*)data_begin),
         (int)(heap_most - (char*)heap_begin), (int)((char*)stack_top - (char*)deepest));
}

/* Of destructors of C++, and of what compilers put into crti.o, there are none. */
void* __dso_handle = NULL;
void _init(void) {}
void _fini(void) {}

/* C++'s own would print the name of an exception that nobody catches, and needs 20 kB for that. */
void _ZN9__gnu_cxx27__verbose_terminate_handlerEv(void) { abort(); }

void reset(void) {
  *(volatile uint32_t*)0xE000ED88 |= 0xFu << 20; /* CPACR: the FPU may be used */
  __asm volatile("dsb\n isb");
  memcpy(data_begin, data_from, (size_t)((char*)data_end - (char*)data_begin));
  memset(zeros_begin, 0, (size_t)((char*)zeros_end - (char*)zeros_begin));
  for (uint32_t* at = heap_end; at < (uint32_t*)__builtin_frame_address(0) - 64; ++at) *at = UNTOUCHED;
  initialise_monitor_handles();
  __libc_init_array();
  const int status = main(0, NULL);
  report();
  exit(status);
}

static void fault(void) { abort(); }

__attribute__((section(".vectors"), used)) static void* const kVectors[] = {stack_top, reset, fault, fault,
                                                                            fault,     fault, fault};
