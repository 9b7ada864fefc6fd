// LIF neurons over T and the ANN's ReLU, on a current whose norm is folded into scale and
// shift.
#pragma once

// The current at index `at` of the output's rows; `from` is its index in the main map.
DEVICE float current(const Neurons& a, u64 from, u64 at, u32 c) {
  float x = a.scale[c] * a.map[from] + a.shift[c];
  switch (a.side) {
    case 1: return x + spike(a.side_spikes, at);
    case 2: return x + a.side_map[at];
    case 3: return x + (a.side_scale[c] * a.side_map[at] + a.side_shift[c]);
    default: return x;
  }
}

// The membrane after the reset of the neurons that fire.
DEVICE float discharge(const Neurons& a, float u) { return u >= a.v_th ? (a.hard ? 0.0f : u - a.v_th) : u; }

// The current of eight channels, whose main coefficients are already loaded. The coefficients
// of the side begin at `c`.
DEVICE void current8(const Neurons& a, const float* scale, const float* shift, u64 from, u64 at, u32 c, float* x) {
  load8(a.map + from, x);
  for (u32 k = 0; k < 8; k++) x[k] = scale[k] * x[k] + shift[k];
  if (a.side == 1) {
    u32 byte = a.side_spikes[at / 8];
    for (u32 k = 0; k < 8; k++) x[k] = x[k] + (byte >> k & 1 ? 1.0f : 0.0f);
  } else if (a.side) {
    float side[8];
    load8(a.side_map + at, side);
    if (a.side == 3)
      for (u32 k = 0; k < 8; k++) side[k] = a.side_scale[c + k] * side[k] + a.side_shift[c + k];
    for (u32 k = 0; k < 8; k++) x[k] = x[k] + side[k];
  }
}

// A thread computes eight channels of a position: one byte of spikes per time step.
KERNEL(lif_forward, Neurons) {
  u32 i = place(), groups = a.channels / 8;
  if (i >= a.positions * groups) return;
  u32 c = i / groups / a.group_positions * a.channels + i % groups * 8;
  u64 start = (u64)i * 8, plane = (u64)a.positions * a.channels;
  float scale[8], shift[8], u[8] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
  load8(a.scale + c, scale);
  load8(a.shift + c, shift);
  for (u32 t = 0; t < a.time_steps; t++) {
    u64 at = start + t * plane;
    float x[8];
    current8(a, scale, shift, a.broadcast ? start : at, at, c, x);
    u32 byte = 0;
    for (u32 k = 0; k < 8; k++) {
      u[k] = a.tau * u[k] + x[k];
      byte |= (u[k] >= a.v_th ? 1u : 0u) << k;
      u[k] = discharge(a, u[k]);
    }
    a.spikes[at / 8] = (u8)byte;
  }
}

DEVICE void write_sums(const Neurons& a, u32 c, double all, double with_map, double with_side) {
  all = block_sum(all, a.lanes);
  with_map = block_sum(with_map, a.lanes);
  with_side = block_sum(with_side, a.lanes);
  if (threadIdx.x < a.lanes) {
    u64 kind = (u64)a.channels * gridDim.x, at = (u64)c * gridDim.x + blockIdx.x;
    a.partial[at] = all;
    a.partial[kind + at] = with_map;
    a.partial[2 * kind + at] = with_side;
  }
}

// A thread computes one channel of a position per iteration. `out` holds the gradient of the
// spikes and receives that of the current:
// g[t] = gs * slope + tau * g[t+1] * (1 - s - u * slope); for the soft reset the last factor is
// (1 - v_th * slope). A detached reset omits the term with the slope. MAX_T bounds T, so that
// the membranes stay in registers.
template <int MAX_T>
DEVICE void lif_backward(const Neurons& a) {
  u32 c = blockIdx.y * a.lanes + threadIdx.x % a.lanes, row, end;
  block_rows(a.positions, a.rows_each, &row, &end);
  u64 plane = (u64)a.positions * a.channels;
  double all = 0.0, with_map = 0.0, with_side = 0.0;
  for (row += threadIdx.x / a.lanes; row < end; row += THREADS / a.lanes) {
    u64 start = (u64)row * a.channels + c;
    float u[MAX_T], kept = 0.0f;
#pragma unroll
    for (int t = 0; t < MAX_T; t++) {
      if (t < (int)a.time_steps) {
        u64 at = start + t * plane;
        u[t] = a.tau * kept + current(a, a.broadcast ? start : at, at, c);
        kept = discharge(a, u[t]);
      }
    }
    float grad = 0.0f, total = 0.0f;
#pragma unroll
    for (int t = MAX_T - 1; t >= 0; t--) {
      if (t < (int)a.time_steps) {
        u64 at = start + t * plane;
        float slope = derivative(a, u[t] - a.v_th);
        float through = a.hard && u[t] >= a.v_th ? 0.0f : 1.0f;
        if (!a.detach_reset) through = through - (a.hard ? u[t] : a.v_th) * slope;
        grad = a.out[at] * slope + a.tau * grad * through;
        total = total + grad;
        if (!a.broadcast) {
          with_map += (double)grad * a.map[at];
          a.out[at] = grad;
        }
        if (a.side == 3) with_side += (double)grad * a.side_map[at];
      }
    }
    if (a.broadcast) {
      with_map += (double)total * a.map[start];
      a.out[start] = total;
    }
    all += total;
  }
  write_sums(a, c, all, with_map, with_side);
}

KERNEL_WITH_BARRIERS(lif_backward_4, Neurons) { lif_backward<4>(a); }
KERNEL_WITH_BARRIERS(lif_backward_8, Neurons) { lif_backward<8>(a); }
KERNEL_WITH_BARRIERS(lif_backward_32, Neurons) { lif_backward<32>(a); }

KERNEL(relu_forward, Neurons) {
  u32 i = place();
  if (i >= a.positions * a.channels) return;
  float x = current(a, i, i, i % a.channels);
  a.out[i] = x >= 0.0f ? x : 0.0f;
}

KERNEL_WITH_BARRIERS(relu_backward, Neurons) {
  u32 c = blockIdx.y * a.lanes + threadIdx.x % a.lanes, row, end;
  block_rows(a.positions, a.rows_each, &row, &end);
  double all = 0.0, with_map = 0.0, with_side = 0.0;
  for (row += threadIdx.x / a.lanes; row < end; row += THREADS / a.lanes) {
    u64 at = (u64)row * a.channels + c;
    // The gradient at exactly 0 is 0, as in PyTorch.
    float grad = 0.0f >= current(a, at, at, c) ? 0.0f : a.grad_in[at];
    a.out[at] = grad;
    all += grad;
    with_map += (double)grad * a.map[at];
    if (a.side == 3) with_side += (double)grad * a.side_map[at];
  }
  write_sums(a, c, all, with_map, with_side);
}
