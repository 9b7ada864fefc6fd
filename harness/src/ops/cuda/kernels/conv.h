// The steps before and after the matrix product of a convolution.
#pragma once

// A thread copies eight channels of one tap of an output pixel.
KERNEL(im2col, Columns) {
  u32 i = place(), groups = a.channels / 8, taps = a.kernel * a.kernel;
  if (i >= a.images * a.out_height * a.out_width * taps * groups) return;
  u32 c = i % groups * 8, tap = i / groups % taps, o = i / groups / taps;
  u32 ox = o % a.out_width, oy = o / a.out_width % a.out_height, image = a.first + o / a.out_width / a.out_height;
  // Beyond the upper and left edge these wrap around to large numbers.
  u32 x = ox * a.stride + tap % a.kernel - a.padding, y = oy * a.stride + tap / a.kernel - a.padding;
  float values[8] = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
  if (x < a.width && y < a.height) {
    u64 at = (((u64)image * a.height + y) * a.width + x) * a.channels + c;
    if (a.spikes) {
      u32 byte = a.spikes[at / 8];
      for (u32 k = 0; k < 8; k++) values[k] = byte >> k & 1 ? 1.0f : 0.0f;
    } else {
      load8(a.map + at, values);
    }
  }
  store8(a.columns + (u64)i * 8, values);
}

// A thread computes one channel of an input pixel. It gathers its terms, so the order of the
// sum is fixed.
KERNEL(col2im, Columns) {
  u32 i = place();
  if (i >= a.images * a.height * a.width * a.channels) return;
  u32 c = i % a.channels, p = i / a.channels;
  u32 x = p % a.width, y = p / a.width % a.height, image = p / a.width / a.height;
  float sum = 0.0f;
  for (u32 ky = 0; ky < a.kernel; ky++)
    for (u32 kx = 0; kx < a.kernel; kx++) {
      u32 fy = y + a.padding - ky, fx = x + a.padding - kx;  // wrap around if the tap reaches outside
      u32 oy = fy / a.stride, ox = fx / a.stride;
      if (fy % a.stride || fx % a.stride || oy >= a.out_height || ox >= a.out_width) continue;
      u64 row = ((u64)image * a.out_height + oy) * a.out_width + ox;
      sum += a.columns[(row * a.kernel * a.kernel + ky * a.kernel + kx) * a.channels + c];
    }
  u64 to = (u64)a.first * a.height * a.width * a.channels + i;
  a.grad[to] = a.accumulate ? a.grad[to] + sum : sum;
}

KERNEL(weight_pack, Weights) {
  u32 i = place(), taps = a.kernel * a.kernel;
  if (i >= a.padded_out * taps * a.padded_in) return;
  u32 ci = i % a.padded_in, tap = i / a.padded_in % taps, co = i / a.padded_in / taps;
  a.to[i] = co < a.c_out && ci < a.c_in ? a.from[(co * a.c_in + ci) * taps + tap] : 0.0f;
}

KERNEL(weight_unpack, Weights) {
  u32 i = place(), taps = a.kernel * a.kernel;
  if (i >= a.c_out * a.c_in * taps) return;
  u32 tap = i % taps, ci = i / taps % a.c_in, co = i / taps / a.c_in;
  a.to[i] = a.from[(co * taps + tap) * a.padded_in + ci];
}

// Expands bits to 0 and 1; a thread expands eight channels.
KERNEL(expand, Expand) {
  u32 i = place();
  if (i >= a.bytes) return;
  float values[8];
  for (u32 k = 0; k < 8; k++) values[k] = a.spikes[i] >> k & 1 ? 1.0f : 0.0f;
  store8(a.map + (u64)i * 8, values);
}

// A thread copies eight channels of a pixel.
KERNEL(pad, Pad) {
  u32 i = place(), groups = a.padded / 8;
  if (i >= a.pixels * groups) return;
  u32 c = i % groups * 8, pixel = i / groups;
  float values[8];
  for (u32 k = 0; k < 8; k++) values[k] = c + k < a.channels ? a.from[(u64)pixel * a.channels + c + k] : 0.0f;
  store8(a.to + (u64)i * 8, values);
}

// A thread copies one byte of a position.
KERNEL(spread, Spread) {
  u32 i = place();
  if (i >= a.time_steps * a.groups * a.slab * a.bytes) return;
  u32 j = i % a.bytes, position = i / a.bytes % a.slab, group = i / a.bytes / a.slab % a.groups;
  u64 row = (u64)(i / a.bytes / a.slab / a.groups) * a.slab + position;
  u32 byte = a.spikes[row * a.bytes + j], c = a.channel[group];
  if (c / 8 == j) {
    u32 bit = a.changed[row * a.changed_bytes + group / 8] >> group % 8 & 1;
    byte = (byte & ~(1u << c % 8)) | bit << c % 8;
  }
  a.out[i] = (u8)byte;
}
