// The arguments of the kernels. arguments.rs has the same fields in the same order; a test
// compares the sizes.
// Maps are channel-last rows of `channels` floats, padded to a multiple of 8; t is the slowest
// index of the rows.
#pragma once

// Sums per channel over the rows of a map, in blocks. A block reads `rows_each` rows of `lanes`
// channels and writes one partial sum of each kind at [kind][channel][block]. If several
// batches lie side by side, `[T, groups, slab rows]`, each group has its own sums at
// [kind][group][channel][block]; `rows` counts those of one group.
struct Moments {
  const float* map;
  double* partial;
  u32 rows, channels, lanes, rows_each, groups, slab;
};

// Adds up `count` partial sums for each sum.
struct Totals {
  const double* partial;
  double* out;
  u32 count;
};

struct Statistics {
  const double* sums;  // [2, channels]: sums of x and of x*x
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
  float* out;  // may be the same as grad
  u32 count, channels;
};

// `side` is the shortcut that is added to the current: 0 nothing, 1 spikes, 2 a map, 3 a map
// with its norm.
// `surrogate`: 0 dspike, 1 rectangle, 2 sigmoid, 3 triangle, 4 arctan; p and q are the
// constants of its f32 form.
struct Neurons {
  const float *map, *scale, *shift;
  const u8* side_spikes;
  const float *side_map, *side_scale, *side_shift;
  const float* grad_in;  // ReLU's backward
  float* out;            // output of ReLU; gradient, in place
  u8* spikes;
  double* partial;  // [3][channels][blocks]: gradient, gradient * map, gradient * side map
  u32 time_steps, positions, channels, broadcast;
  u32 side, hard, detach_reset, surrogate;
  float tau, v_th, p, q;
  u32 lanes, rows_each;
  u32 group_positions;  // positions that share scale and shift, `[groups, channels]`; forward only
};

struct Pooling {
  const u8* spikes;  // if null, `map` is read
  const float* map;
  float* out;
  u32 images, height, width, channels;
  u32 out_height, out_width, kernel, stride, padding;
};

struct CountSpikes {
  const u8* spikes;
  u64* out;  // the count is added
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

// Columns of the images from `first` on: [images, out_height, out_width, kernel, kernel,
// channels].
struct Columns {
  const u8* spikes;  // if null, `map` is read
  const float* map;
  float* columns;
  float* grad;  // gradient of the map
  u32 first, images, height, width, channels;
  u32 out_height, out_width, kernel, stride, padding, accumulate;
};

// Converts between OIHW without padding and [pad8(c_out), kernel, kernel, pad8(c_in)].
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

// Pads pixels of `channels` values to rows of `padded` values.
struct Pad {
  const float* from;
  float* to;
  u32 pixels, channels, padded;
};

// Repeats spikes [T, slab] as [T, groups, slab], `bytes` per position. Each group has one
// channel replaced from `changed` [T, slab].
struct Spread {
  const u8 *spikes, *changed;
  const u32* channel;  // [groups]: the channel of group g that channel g of `changed` replaces
  u8* out;
  u32 time_steps, groups, slab, bytes, changed_bytes;
};

// Adds a bias to each row, or sums the rows.
struct Bias {
  float *rows, *bias;
  u32 count, classes;
};

struct CopyMap {
  const float* from;
  float* to;
  u32 count;
};
