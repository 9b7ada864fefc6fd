// The loss of the readout, and the step of the optimiser.
#pragma once

// v = momentum * v + (g + weight_decay * w), w = w - learning_rate * v.
KERNEL(sgd, Sgd) {
  u32 i = place();
  if (i >= a.count) return;
  float w = a.weight[i], v = a.momentum * a.velocity[i] + (a.grad[i] + a.weight_decay * w);
  a.velocity[i] = v;
  a.weight[i] = w - a.learning_rate * v;
}

// The largest `x` of the block's threads, valid in all of them.
DEVICE float block_largest(float x) {
  __shared__ float largest[THREADS];
  __syncthreads();
  largest[threadIdx.x] = x;
  __syncthreads();
  for (u32 half = THREADS / 2; half > 0; half /= 2) {
    if (threadIdx.x < half && largest[threadIdx.x + half] > largest[threadIdx.x])
      largest[threadIdx.x] = largest[threadIdx.x + half];
    __syncthreads();
  }
  return largest[0];
}

// The sum over the block, valid in all threads.
DEVICE double block_total(double x) {
  __shared__ double total;
  double sum = block_sum(x, 1);
  if (threadIdx.x == 0) total = sum;
  __syncthreads();
  return total;
}

// A block computes one sample: the cross-entropy of the logits' mean over T, its gradient, and
// the rank of the label.
KERNEL_WITH_BARRIERS(cross_entropy, CrossEntropy) {
  u32 sample = blockIdx.x, step = a.batch * a.classes, row = sample * a.classes, label = a.labels[sample];
  float highest = -INFINITY;
  for (u32 k = threadIdx.x; k < a.classes; k += THREADS) {
    double sum = 0.0;
    for (u32 t = 0; t < a.time_steps; t++) sum += (double)a.logits[t * step + row + k];
    float mean = (float)(sum / (double)a.time_steps);
    a.mean[row + k] = mean;
    if (mean > highest) highest = mean;
  }
  highest = block_largest(highest);
  __syncthreads();
  float own = a.mean[row + label];
  double exps = 0.0, before = 0.0;
  for (u32 k = threadIdx.x; k < a.classes; k += THREADS) {
    float mean = a.mean[row + k];
    exps += exp((double)(mean - highest));
    before += mean > own || (mean == own && k < label) ? 1.0 : 0.0;
  }
  exps = block_total(exps);
  before = block_total(before);
  for (u32 k = threadIdx.x; k < a.classes; k += THREADS) {
    double share = exp((double)(a.mean[row + k] - highest)) / exps - (k == label ? 1.0 : 0.0);
    float grad = (float)(share / (double)(a.batch * a.time_steps));
    for (u32 t = 0; t < a.time_steps; t++) a.grad[t * step + row + k] = grad;
  }
  if (threadIdx.x == 0) {
    a.loss[sample] = log(exps) - (double)(own - highest);
    a.rank[sample] = (u32)before;
  }
}

KERNEL(add_bias, Bias) {
  u32 i = place();
  if (i < a.count * a.classes) a.rows[i] += a.bias[i % a.classes];
}

// A block sums one class.
KERNEL_WITH_BARRIERS(bias_gradient, Bias) {
  double sum = 0.0;
  for (u32 row = threadIdx.x; row < a.count; row += THREADS) sum += (double)a.rows[(u64)row * a.classes + blockIdx.x];
  sum = block_sum(sum, 1);
  if (threadIdx.x == 0) a.bias[blockIdx.x] = (float)sum;
}

// Measures the memory bandwidth of a device; a thread copies four floats.
KERNEL(copy, CopyMap) {
  u32 i = place();
  if (i < a.count / 4) ((float4*)a.to)[i] = ((const float4*)a.from)[i];
}
