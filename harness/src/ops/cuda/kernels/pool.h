// Average pools, windowed and global, and spike counts.
#pragma once

// The inputs of output `o` along an axis, without those outside the map.
DEVICE void window(const Pooling& a, u32 o, u32 size, u32* start, u32* end) {
  u32 first = o * a.stride, after = first + a.kernel;
  *start = first > a.padding ? first - a.padding : 0;
  *end = after > a.padding ? after - a.padding : 0;
  if (*end > size) *end = size;
}

DEVICE float pixel(const Pooling& a, u64 at) {
  return a.spikes ? spike(a.spikes, at) : a.map[at];
}

KERNEL(pool_forward, Pooling) {
  u32 i = place();
  if (i >= a.images * a.out_height * a.out_width * a.channels) return;
  u32 c = i % a.channels, o = i / a.channels;
  u32 ox = o % a.out_width, oy = o / a.out_width % a.out_height, image = o / a.out_width / a.out_height;
  u32 x0, x1, y0, y1;
  window(a, ox, a.width, &x0, &x1);
  window(a, oy, a.height, &y0, &y1);
  float sum = 0.0f;
  for (u32 y = y0; y < y1; y++)
    for (u32 x = x0; x < x1; x++) sum += pixel(a, (((u64)image * a.height + y) * a.width + x) * a.channels + c);
  a.out[i] = sum * (1.0f / (float)((y1 - y0) * (x1 - x0)));
}

// The first output whose window may cover input `i` of an axis, and the end of these outputs.
DEVICE void covering(const Pooling& a, u32 i, u32 outs, u32* first, u32* end) {
  u32 padded = i + a.padding;
  *first = padded < a.kernel ? 0 : (padded - a.kernel) / a.stride + 1;
  *end = padded / a.stride + 1 < outs ? padded / a.stride + 1 : outs;
}

// `map` is the gradient of the averages and `out` that of the input. Each input gathers from
// its windows.
KERNEL(pool_backward, Pooling) {
  u32 i = place();
  if (i >= a.images * a.height * a.width * a.channels) return;
  u32 c = i % a.channels, p = i / a.channels;
  u32 x = p % a.width, y = p / a.width % a.height, image = p / a.width / a.height;
  u32 ox0, ox1, oy0, oy1;
  covering(a, x, a.out_width, &ox0, &ox1);
  covering(a, y, a.out_height, &oy0, &oy1);
  float sum = 0.0f;
  for (u32 oy = oy0; oy < oy1; oy++)
    for (u32 ox = ox0; ox < ox1; ox++) {
      u32 x0, x1, y0, y1;
      window(a, ox, a.width, &x0, &x1);
      window(a, oy, a.height, &y0, &y1);
      float share = 1.0f / (float)((y1 - y0) * (x1 - x0));
      sum += share * a.map[(((u64)image * a.out_height + oy) * a.out_width + ox) * a.channels + c];
    }
  a.out[i] = sum;
}

// `[images, height * width, channels]` to `[images, channels]`.
KERNEL(global_forward, Pooling) {
  u32 i = place(), pixels = a.height * a.width;
  if (i >= a.images * a.channels) return;
  u32 c = i % a.channels, image = i / a.channels;
  float sum = 0.0f;
  for (u32 p = 0; p < pixels; p++) sum += pixel(a, ((u64)image * pixels + p) * a.channels + c);
  a.out[i] = sum / (float)pixels;
}

KERNEL(global_backward, Pooling) {
  u32 i = place(), pixels = a.height * a.width;
  if (i >= a.images * pixels * a.channels) return;
  u32 c = i % a.channels, image = i / a.channels / pixels;
  a.out[i] = a.map[image * a.channels + c] / (float)pixels;
}

KERNEL_WITH_BARRIERS(count_spikes, CountSpikes) {
  u32 count = 0;
  for (u32 i = place(); i < a.bytes; i += gridDim.x * THREADS) count += __popc(a.spikes[i]);
  // The counts are integers: exact in a double, in any order.
  double sum = block_sum((double)count, 1);
  if (threadIdx.x == 0) atomicAdd(a.out, (u64)sum);
}
