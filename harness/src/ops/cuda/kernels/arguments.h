// The arguments of the kernels. arguments.rs has the same fields in the same order; a test compares the sizes.
// Maps are channel-last rows of `channels` floats, padded to a multiple of 8; t is the slowest index of the rows.
#pragma once

// Rows of a map in blocks, for sums a channel: a block takes `rows_each` rows of `lanes` channels and writes one partial sum
// of each kind at [kind][channel][block]. Of several batches side by side, `[T, groups, slab rows]`, each group has sums of its
// own, at [kind][group][channel][block]; `rows` are those of a group.
struct Moments {
  const float* map;
  double* partial;
  u32 rows, channels, lanes, rows_each, groups, slab;
};

// Sums of `count` partial sums each.
struct Totals {
  const double* partial;
  double* out;
  u32 count;
};

struct Statistics {
  const double* sums;  // [2, channels]: of x, of x*x
  double *mean, *variance;
  double rows;
  u32 channels;
};

struct Fold {
  const double *mean, *variance;  // [groups, padded]
  const float *gamma, *beta;      // [channels]
  float *scale, *shift;           // [groups, padded]
  double* inverse_std;            // [groups, padded]
  double gain, epsilon;
  u32 channels, padded, groups;
};

struct Coefficients {
  const double *sum, *sum_map, *mean, *inverse_std;  // [padded]
  const float* gamma;                                // [channels]
  float *grad_gamma, *grad_beta;                     // [channels]
  float *k1, *k2, *k3;                               // [padded]
  double gain, rows;
  u32 channels, padded;
};

struct NormBackward {
  const float *k1, *k2, *k3, *map, *grad;
  float* out;  // may be grad
  u32 count, channels;
};

// What is added to the current: 0 nothing, 1 spikes, 2 a map, 3 a map through its norm.
// Surrogates: 0 dspike, 1 rectangle, 2 sigmoid, 3 triangle, 4 arctan; p and q are the constants of its f32 form.
struct Neurons {
  const float *map, *scale, *shift;
  const u8* side_spikes;
  const float *side_map, *side_scale, *side_shift;
  const float* grad_in;  // ReLU's backward
  float* out;            // ReLU's output; the gradient, in place
  u8* spikes;
  double* partial;  // [3][channels][blocks]: gradient, gradient * map, gradient * side map
  u32 time_steps, positions, channels, broadcast;
  u32 side, hard, detach_reset, surrogate;
  float tau, v_th, p, q;
  u32 lanes, rows_each;
  u32 group_positions;  // that share scale and shift, `[groups, channels]`; forward only
};

struct Pooling {
  const u8* spikes;  // or null, and then
  const float* map;
  float* out;
  u32 images, height, width, channels;
  u32 out_height, out_width, kernel, stride, padding;
};

struct CountSpikes {
  const u8* spikes;
  u64* out;  // added to
  u32 bytes;
};

struct Sgd {
  float *weight, *velocity;
  const float* grad;
  float learning_rate, momentum, weight_decay;
  u32 count;
};

struct CrossEntropy {
  const float* logits;  // [T, B, classes]
  const u32* labels;    // [B]
  float *mean, *grad;   // [B, classes], [T, B, classes]
  double* loss;         // [B]
  u32* rank;            // [B]
  u32 time_steps, batch, classes;
};

// Columns of the images from `first` on: [images, out_height, out_width, kernel, kernel, channels].
struct Columns {
  const u8* spikes;  // or null, and then
  const float* map;
  float* columns;
  float* grad;  // of the map
  u32 first, images, height, width, channels;
  u32 out_height, out_width, kernel, stride, padding, accumulate;
};

// OIHW without padding, and [pad8(c_out), kernel, kernel, pad8(c_in)].
struct Weights {
  const float* from;
  float* to;
  u32 c_out, c_in, kernel, padded_out, padded_in;
};

struct Expand {
  const u8* spikes;
  float* map;
  u32 bytes;
};

// Pixels of `channels` values to rows of `padded`.
struct Pad {
  const float* from;
  float* to;
  u32 pixels, channels, padded;
};

// Spikes [T, slab] to [T, groups, slab], `bytes` a position, each group with one channel from `changed` [T, slab].
struct Spread {
  const u8 *spikes, *changed;
  const u32* channel;  // [groups]: which one group g replaces, by channel g of `changed`
  u8* out;
  u32 time_steps, groups, slab, bytes, changed_bytes;
};

// A bias onto each row; the sums of the rows.
struct Bias {
  float *rows, *bias;
  u32 count, classes;
};

struct CopyMap {
  const float* from;
  float* to;
  u32 count;
};
