// What a kernel is written in: CUDA under nvcc, plain C++ under a host compiler (host.h), from the same source.
// Compiled without fused multiply-adds on both, so that elementwise results are the CPU kernels' bits.
#pragma once

// Threads of a block, in every kernel.
#define THREADS 256

#ifdef __CUDACC__
#define DEVICE __device__ __forceinline__
// A kernel takes one struct by value; arguments.rs mirrors each.
#define KERNEL(name, Arguments) extern "C" __global__ void name(const Arguments a)
// One whose threads meet at barriers.
#define KERNEL_WITH_BARRIERS(name, Arguments) KERNEL(name, Arguments)
#else
#include "host.h"
#endif

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

// The index of a thread in a grid of one dimension.
DEVICE u32 place() { return blockIdx.x * THREADS + threadIdx.x; }

// Bit k of byte j is channel 8j + k.
DEVICE float spike(const u8* bits, u64 at) { return bits[at / 8] >> (at % 8) & 1 ? 1.0f : 0.0f; }

// Eight floats, 32 bytes aligned, in two loads (and stores).
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

// Sums `x` over a block's threads of equal `threadIdx.x % lanes`, in a fixed order; valid in the first `lanes` threads.
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
