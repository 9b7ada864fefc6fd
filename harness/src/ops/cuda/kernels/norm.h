// Batch norm: statistics, the fold into scale and shift, the backward pass.
#pragma once

// The first row of a block, and the end of its rows.
DEVICE void block_rows(u32 rows, u32 each, u32* start, u32* end) {
  *start = blockIdx.x * each;
  *end = *start + each < rows ? *start + each : rows;
}

KERNEL_WITH_BARRIERS(moments, Moments) {
  u32 start, end, strips = a.channels / a.lanes, group = blockIdx.y / strips;
  u32 c = blockIdx.y % strips * a.lanes + threadIdx.x % a.lanes;
  block_rows(a.rows, a.rows_each, &start, &end);
  double sum = 0.0, squares = 0.0;
  for (u32 r = start + threadIdx.x / a.lanes; r < end; r += THREADS / a.lanes) {
    u64 row = ((u64)(r / a.slab) * a.groups + group) * a.slab + r % a.slab;
    double x = a.map[row * a.channels + c];
    sum += x;
    squares += x * x;
  }
  sum = block_sum(sum, a.lanes);
  squares = block_sum(squares, a.lanes);
  if (threadIdx.x < a.lanes) {
    u32 at = group * a.channels + c;
    a.partial[(u64)at * gridDim.x + blockIdx.x] = sum;
    a.partial[(u64)(a.groups * a.channels + at) * gridDim.x + blockIdx.x] = squares;
  }
}

KERNEL_WITH_BARRIERS(totals, Totals) {
  double sum = 0.0;
  for (u32 i = threadIdx.x; i < a.count; i += THREADS) sum += a.partial[(u64)blockIdx.x * a.count + i];
  sum = block_sum(sum, 1);
  if (threadIdx.x == 0) a.out[blockIdx.x] = sum;
}

KERNEL(statistics, Statistics) {
  u32 c = place();
  if (c >= a.channels) return;
  double mean = a.sums[c] / a.rows, variance = a.sums[a.channels + c] / a.rows - mean * mean;
  a.mean[c] = mean;
  a.variance[c] = variance >= 0.0 ? variance : (variance < 0.0 ? 0.0 : variance);  // NaN stays NaN
}

KERNEL(fold, Fold) {
  u32 i = place(), c = i % a.padded;
  if (i >= a.groups * a.padded) return;
  double scale = 0.0, shift = 0.0, inverse = 0.0;
  if (c < a.channels) {
    inverse = 1.0 / sqrt(a.variance[i] + a.epsilon);
    scale = (double)a.gamma[c] * a.gain * inverse;
    shift = (double)a.beta[c] - a.mean[i] * scale;
  }
  a.inverse_std[i] = inverse;
  a.scale[i] = (float)scale;
  a.shift[i] = (float)shift;
}

// dx = gamma * inverse * (g - sum(g)/n - x_hat * sum(g * x_hat)/n) as k1 * g + k2 * x + k3.
KERNEL(norm_coefficients, Coefficients) {
  u32 c = place();
  if (c >= a.padded) return;
  float k1 = 0.0f, k2 = 0.0f, k3 = 0.0f;
  if (c < a.channels) {
    double mean = a.mean[c], inverse = a.inverse_std[c];
    double sum_normalised = inverse * (a.sum_map[c] - mean * a.sum[c]);
    a.grad_gamma[c] = (float)(a.gain * sum_normalised);
    a.grad_beta[c] = (float)a.sum[c];
    double factor = (double)a.gamma[c] * a.gain * inverse;
    double slope = factor * inverse * sum_normalised / a.rows;
    k1 = (float)factor;
    k2 = (float)-slope;
    k3 = (float)(slope * mean - factor * a.sum[c] / a.rows);
  }
  a.k1[c] = k1;
  a.k2[c] = k2;
  a.k3[c] = k3;
}

// A thread computes four channels.
KERNEL(norm_backward, NormBackward) {
  u32 i = place();
  if (i >= a.count / 4) return;
  u32 c = i % (a.channels / 4);
  float4 g = ((const float4*)a.grad)[i], x = ((const float4*)a.map)[i];
  float4 k1 = ((const float4*)a.k1)[c], k2 = ((const float4*)a.k2)[c], k3 = ((const float4*)a.k3)[c];
  float4 out;
  out.x = k1.x * g.x + k2.x * x.x + k3.x;
  out.y = k1.y * g.y + k2.y * x.y + k3.y;
  out.z = k1.z * g.z + k2.z * x.z + k3.z;
  out.w = k1.w * g.w + k2.w * x.w + k3.w;
  ((float4*)a.out)[i] = out;
}
