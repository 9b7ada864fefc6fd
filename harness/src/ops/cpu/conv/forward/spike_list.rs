//! The forward pass over spikes by lists: the fixed-point weight rows of the spikes in a window
//! are added up ([`crate::ops::cpu::conv::fixed_point`]).

use crate::ops::cpu::conv::fixed_point::ScaleInPlace;
use crate::ops::cpu::conv::lists::RowLists;
use crate::ops::cpu::conv::pack;
use crate::ops::cpu::conv::tiles::{blocks, out_channels};
use crate::ops::cpu::parallel::{Aligned, Shared, map_tiles, tiles};
use crate::ops::cpu::simd::{self, Level, Simd, SimdKernel};
use crate::ops::{ConvShape, pad8};

/// Output pixels that share one pass over a slice of the weights.
const GROUP_PIXELS: usize = 512;
/// The minimum number of groups, so that threads can share the work, if there are as many
/// images.
const MIN_GROUPS: usize = 4;
/// Bytes of the weights of three taps that stay in the first-level cache.
const SLICE_BYTES: usize = 48 << 10;

/// Blocks of output and of input channels: (first, count).
type Blocks = Vec<(usize, usize)>;

fn channel_blocks(s: &ConvShape) -> (Blocks, Blocks) {
    let wide = simd::level() == Level::Avx512;
    let out_blocks = blocks(out_channels(s), if wide { 128 } else { 64 });
    // CPUs with AVX-512 have a first-level cache of 48 KB, others of 32 KB.
    let slice = if wide { SLICE_BYTES } else { SLICE_BYTES / 2 };
    let in_block = if 3 * 64 * out_blocks[0].1 * 4 <= slice { 64 } else { 32 };
    let in_blocks = (0..pad8(s.c_in)).step_by(in_block).map(|c| (c, in_block.min(pad8(s.c_in) - c))).collect();
    (out_blocks, in_blocks)
}

/// The sums of bit-packed spikes over a weight from [`pack`], times their channel's `scale` if
/// one is given.
pub(in crate::ops::cpu::conv) fn forward(
    s: &ConvShape,
    spikes: &[u8],
    packed: &[f32],
    scale: Option<&[f32]>,
    target: Shared<f32>,
) {
    let (out_blocks, in_blocks) = channel_blocks(s);
    let out_pixels = s.out_height() * s.out_width();
    let images = (GROUP_PIXELS / out_pixels).clamp(1, (s.images / MIN_GROUPS).max(1));
    let groups = s.images.div_ceil(images);
    let image_bytes = s.height * s.width * pad8(s.c_in) / 8;
    let lists = map_tiles(groups, spikes.len() * 16, |g| {
        let spikes = &spikes[g * images * image_bytes..s.images.min((g + 1) * images) * image_bytes];
        let block =
            |&(start, count): &(usize, usize)| RowLists::build(spikes, s.width, pad8(s.c_in) / 8, start / 8, count / 8);
        in_blocks.iter().map(block).collect::<Vec<_>>()
    });
    tiles(groups * out_blocks.len(), s.macs() / 4, |tile| {
        // Neighbouring tiles share weights rather than lists, because the weights are larger.
        let (block, g) = (tile / groups, tile % groups);
        let (start, width) = out_blocks[block];
        let count = images.min(s.images - g * images);
        let first = g * images * out_pixels * out_channels(s) + start;
        for (i, (lists, &(channel, channels))) in lists[g].iter().zip(&in_blocks).enumerate() {
            let rows = s.kernel * s.kernel;
            let weight = &packed[rows * (start * pad8(s.c_in) + channel * width)..][..rows * channels * width];
            let gather =
                Gather { s, lists, images: count, weight, channels, width, target: target.at(first), fresh: i == 0 };
            simd::run(gather, width);
        }
        if let Some(scale) = scale {
            let (pixels, stride, scale) = (count * out_pixels, out_channels(s), &scale[start..start + width]);
            simd::run(ScaleInPlace { target: target.at(first), pixels, stride, scale }, width);
        }
    });
}

/// The fixed-point OIHW `weight` in the layout that [`forward`] reads.
pub(in crate::ops::cpu::conv) fn pack(s: &ConvShape, weight: &[f32]) -> Aligned {
    let (out_blocks, in_blocks) = channel_blocks(s);
    pack::rows(s, weight, &out_blocks, &in_blocks)
}

/// Adds one block of input channels to one block of output channels, for a group of images.
struct Gather<'a> {
    s: &'a ConvShape,
    lists: &'a RowLists,
    images: usize,
    weight: &'a [f32],
    /// Channels of the input block, padded.
    channels: usize,
    /// Channels of the output block.
    width: usize,
    target: *mut f32,
    /// Whether this is the first block, whose sums start from zero.
    fresh: bool,
}

impl SimdKernel for Gather<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: passed on; the widths are those of `blocks`.
        unsafe {
            match self.width / S::LANES {
                8 => self.gather::<S, 8>(),
                4 => self.gather::<S, 4>(),
                2 => self.gather::<S, 2>(),
                _ => self.gather::<S, 1>(),
            }
        }
    }
}

impl Gather<'_> {
    #[inline(always)]
    unsafe fn gather<S: Simd, const N: usize>(&self) {
        let s = self.s;
        let (height, width, out_channels) = (s.out_height(), s.out_width(), pad8(s.c_out));
        for ky in 0..s.kernel {
            let weight = self.weight[ky * s.kernel * self.channels * self.width..].as_ptr();
            let fresh = self.fresh && ky == 0;
            for image in 0..self.images {
                for oy in 0..height {
                    let y = (oy * s.stride + ky) as isize - s.padding as isize;
                    let target = self.target.wrapping_add((image * height + oy) * width * out_channels);
                    if y < 0 || y as usize >= s.height {
                        if fresh {
                            // SAFETY: the tile owns these channels of this row.
                            unsafe { clear::<S, N>(target, width, out_channels) };
                        }
                        continue;
                    }
                    let starts = &self.lists.starts[(image * s.height + y as usize) * s.width..][..s.width + 1];
                    // SAFETY: the row's lists and outputs are this image's.
                    unsafe { self.row::<S, N>(weight, starts, target, width, fresh) };
                }
            }
        }
    }

    /// Adds one kernel row to one output row. The spikes under a window are one contiguous
    /// range of the list.
    #[inline(always)]
    unsafe fn row<S: Simd, const N: usize>(
        &self,
        weight: *const f32,
        starts: &[u32],
        target: *mut f32,
        width: usize,
        fresh: bool,
    ) {
        let s = self.s;
        let out_channels = pad8(s.c_out);
        for ox in 0..width {
            let x = (ox * s.stride) as isize - s.padding as isize;
            let first = x.clamp(0, s.width as isize) as usize;
            let last = (x + s.kernel as isize).clamp(0, s.width as isize) as usize;
            // Entry (column, channel) reads weight row (column - x, channel).
            let base = weight.wrapping_offset(-x * (self.channels * self.width) as isize);
            let to = target.wrapping_add(ox * out_channels);
            // SAFETY: entries hold columns in `first..last`, so rows lie in this kernel row's weights.
            unsafe {
                let mut sum = [S::zero(); N];
                if !fresh {
                    for n in 0..N {
                        sum[n] = S::load(to.add(n * S::LANES));
                    }
                }
                let entries = self.lists.entries.get_unchecked(starts[first] as usize..starts[last] as usize);
                let mut odd = [S::zero(); N];
                let (pairs, rest) = entries.as_chunks::<2>();
                for &[a, b] in pairs {
                    let a = base.wrapping_add(a as usize * (N * S::LANES));
                    let b = base.wrapping_add(b as usize * (N * S::LANES));
                    for n in 0..N {
                        sum[n] = S::add_ints(sum[n], S::load(a.add(n * S::LANES)));
                    }
                    for n in 0..N {
                        odd[n] = S::add_ints(odd[n], S::load(b.add(n * S::LANES)));
                    }
                }
                for &entry in rest {
                    let row = base.wrapping_add(entry as usize * (N * S::LANES));
                    for n in 0..N {
                        odd[n] = S::add_ints(odd[n], S::load(row.add(n * S::LANES)));
                    }
                }
                for n in 0..N {
                    sum[n] = S::add_ints(sum[n], odd[n]);
                }
                for n in 0..N {
                    S::store(to.add(n * S::LANES), sum[n]);
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn clear<S: Simd, const N: usize>(target: *mut f32, width: usize, out_channels: usize) {
    for ox in 0..width {
        for n in 0..N {
            // SAFETY: passed on to the caller.
            unsafe { S::store(target.add(ox * out_channels + n * S::LANES), S::zero()) };
        }
    }
}
