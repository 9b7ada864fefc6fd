// The language of the kernels: CUDA under nvcc and plain C++ under a host compiler (host.h),
// from the same source. Both compile without fused multiply-adds, so that elementwise results
// are bit-identical to the CPU kernels'.
#pragma once

// Threads per block, in every kernel.
#define THREADS 256

#ifdef __CUDACC__
#define DEVICE __device__ __forceinline__
// A kernel takes one struct by value; arguments.rs mirrors each.
#define KERNEL(name, Arguments) extern "C" __global__ void name(const Arguments a)
// A kernel whose threads meet at barriers.
#define KERNEL_WITH_BARRIERS(name, Arguments) KERNEL(name, Arguments)
#else
#include "host.h"
#endif

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

// The index of a thread in a one-dimensional grid.
DEVICE u32 place() { return blockIdx.x * THREADS + threadIdx.x; }

// Bit k of byte j is channel 8j + k.
DEVICE float spike(const u8* bits, u64 at) { return bits[at / 8] >> (at % 8) & 1 ? 1.0f : 0.0f; }

// Copies eight floats at a 32-byte boundary by two loads (or stores).
DEVICE void load8(const float* from, float* to) {
  float4 low = ((const float4*)from)[0], high = ((const float4*)from)[1];
  to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w;
  to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
}

DEVICE void store8(float* to, const float* from) {
  float4 low, high;
  low.x = from[0], low.y = from[1], low.z = from[2], low.w = from[3];
  high.x = from[4], high.y = from[5], high.z = from[6], high.w = from[7];
  ((float4*)to)[0] = low;
  ((float4*)to)[1] = high;
}

// Sums `x` over the threads of a block with equal `threadIdx.x % lanes`, in a fixed order. The
// result is valid in the first `lanes` threads.
DEVICE double block_sum(double x, u32 lanes) {
  __shared__ double sums[THREADS];
  __syncthreads();
  sums[threadIdx.x] = x;
  __syncthreads();
  for (u32 half = THREADS / 2; half >= lanes; half /= 2) {
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
    __syncthreads();
  }
  return sums[threadIdx.x];
}
