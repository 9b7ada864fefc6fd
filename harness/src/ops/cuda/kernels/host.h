// Runs the kernels on the host, for tests. The blocks of a launch run one after the other; the
// threads of a block are coroutines that take turns at each barrier.
#pragma once

#include <setjmp.h>
#include <ucontext.h>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define DEVICE static inline
#define __shared__ static thread_local
#define KERNEL(name, Arguments) HOST_KERNEL(name, Arguments, false)
#define KERNEL_WITH_BARRIERS(name, Arguments) HOST_KERNEL(name, Arguments, true)
#define HOST_KERNEL(name, Arguments, barriers)                                                 \
  static void name##_thread(const Arguments a);                                                \
  static const Kernel name##_kernel(#name, sizeof(Arguments), barriers, [](const void* args) { \
    name##_thread(*static_cast<const Arguments*>(args));                                       \
  });                                                                                          \
  static void name##_thread(const Arguments a)

struct Dimensions {
  unsigned x, y, z;
};
struct float4 {
  float x, y, z, w;
};
static thread_local Dimensions threadIdx, blockIdx, gridDim;

// A kernel and its name, in a list of all kernels.
struct Kernel {
  const char* name;
  size_t size;
  bool barriers;
  void (*thread)(const void*);
  const Kernel* next;
  static const Kernel*& list() {
    static const Kernel* first = nullptr;
    return first;
  }
  Kernel(const char* name, size_t size, bool barriers, void (*thread)(const void*))
      : name(name), size(size), barriers(barriers), thread(thread), next(list()) {
    list() = this;
  }
  static const Kernel* find(const char* name) {
    for (const Kernel* k = list(); k; k = k->next)
      if (!strcmp(k->name, name)) return k;
    return nullptr;
  }
};

// The coroutines of a block's threads, which are reused for the next block. They start as
// contexts and continue by jumps, which need no system call.
struct Coroutine {
  ucontext_t start;
  jmp_buf rest;
  std::vector<char> stack;
  bool started, ended;
};
struct Block {
  const Kernel* kernel;  // null between blocks
  const void* arguments;
  jmp_buf scheduler;
  Coroutine threads[THREADS];
};
static thread_local Block* block;

// Returns to the scheduler until it resumes this thread.
static void pause_thread() {
  if (!_setjmp(block->threads[threadIdx.x].rest)) _longjmp(block->scheduler, 1);
}

static void resume_thread(unsigned i) {
  threadIdx = {i, 0, 0};
  if (_setjmp(block->scheduler)) return;
  if (block->threads[i].started) _longjmp(block->threads[i].rest, 1);
  block->threads[i].started = true;
  setcontext(&block->threads[i].start);
}

static inline void __syncthreads() {
  if (!block || !block->kernel) {
    fprintf(stderr, "a kernel without barriers met one\n");
    abort();
  }
  pause_thread();
}

static void coroutine() {
  for (;;) {
    block->kernel->thread(block->arguments);
    block->threads[threadIdx.x].ended = true;
    pause_thread();
  }
}

static inline float __uint_as_float(unsigned bits) {
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
static inline unsigned __float_as_uint(float x) {
  unsigned bits;
  memcpy(&bits, &x, 4);
  return bits;
}
static inline int __popc(unsigned x) { return __builtin_popcount(x); }
static inline unsigned long long atomicAdd(unsigned long long* at, unsigned long long x) {
  unsigned long long old = *at;
  *at += x;
  return old;
}

static void run_with_barriers(const Kernel* kernel, const void* arguments) {
  if (!block) {
    block = new Block();
    for (Coroutine& thread : block->threads) {
      thread.stack.resize(64 << 10);
      getcontext(&thread.start);
      thread.start.uc_stack.ss_sp = thread.stack.data();
      thread.start.uc_stack.ss_size = thread.stack.size();
      makecontext(&thread.start, coroutine, 0);
    }
  }
  block->kernel = kernel;
  block->arguments = arguments;
  for (Coroutine& thread : block->threads) thread.ended = false;
  // All threads of a block meet the same barriers, so they end in the same round.
  while (!block->threads[0].ended) {
    for (unsigned i = 0; i < THREADS; i++) resume_thread(i);
    for (const Coroutine& thread : block->threads)
      if (thread.ended != block->threads[0].ended) {
        fprintf(stderr, "%s: not every thread of the block reaches a barrier\n", kernel->name);
        abort();
      }
  }
  block->kernel = nullptr;
}

// Returns 0 on success, 1 if there is no such kernel, 2 if its arguments have another size.
extern "C" int kernels_launch(const char* name, const unsigned grid[2], const void* arguments, size_t size) {
  const Kernel* kernel = Kernel::find(name);
  if (!kernel) return 1;
  if (kernel->size != size) return 2;
  gridDim = {grid[0], grid[1], 1};
  for (unsigned y = 0; y < grid[1]; y++)
    for (unsigned x = 0; x < grid[0]; x++) {
      blockIdx = {x, y, 0};
      if (kernel->barriers) {
        run_with_barriers(kernel, arguments);
      } else {
        for (unsigned i = 0; i < THREADS; i++) {
          threadIdx = {i, 0, 0};
          kernel->thread(arguments);
        }
      }
    }
  return 0;
}
