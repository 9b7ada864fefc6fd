//! The forward of spikes by tables: the sums of all 256 subsets of eight weight rows, so that eight channels cost one
//! addition and no branch, whatever they hold. It beats lists except where a layer fires little.

mod plan;
mod sink;
#[cfg(test)]
mod tests;

use super::super::super::{ConvShape, pad8};
use super::super::parallel::{Aligned, map_tiles, scratch, tiles};
use super::super::simd::{self, Kernel, Simd};
use super::{blocks, out_channels, pack};
use plan::{Pass, Plan, Run};
use sink::{Sink, Take};

pub(super) use plan::{cycles, fit};
pub(super) use sink::{Fire, Map};

/// Widest block of output channels: a row of a table is a cache line.
pub(super) const WIDEST: usize = 16;
/// Tables of a pass at most.
const TABLES: usize = 9;
/// Floats between two tables, so that their equal rows do not compete for a set of the cache.
const GAP: usize = 23 * 16;

/// The sums of bit-packed spikes over a weight from [`pack()`] to `sink`, for all images of one of its time steps and then
/// of the next.
pub(super) fn forward<K: Sink>(s: &ConvShape, spikes: &[u8], packed: &[f32], sink: K) {
    let blocks = blocks(out_channels(s), WIDEST);
    let out_pixels = s.out_height() * s.out_width();
    let steps = sink.time_steps();
    let (images, groups) = plan::groups(s, steps);
    let plan = Plan::new(s, steps * images);
    let (image, window) = (s.height * s.width * pad8(s.c_in) / 8, s.kernel * s.kernel * pad8(s.c_in));
    let group = |g: usize| (g * images).min(s.images / steps)..(s.images / steps).min((g + 1) * images);
    let sources = map_tiles(groups, spikes.len(), |g| plan.source(plan::gather(spikes, steps, image, group(g))));
    tiles(groups * blocks.len(), s.macs() / 4, |tile| {
        let (g, (start, width)) = (tile / blocks.len(), blocks[tile % blocks.len()]);
        let group = group(g);
        let images = steps * group.len();
        let tables = table_floats(8, width) * TABLES;
        // A pass alone has one row of zeros for sums so far.
        let sums = if plan.passes.len() == 1 { width } else { images * out_pixels * width };
        scratch(tables + sums, |memory| {
            let (tables, sums) = memory.split_at_mut(tables);
            let lookup = Lookup {
                source: &sources[g],
                plan: &plan,
                images,
                weight: &packed[start * window..][..window * width],
                tables: tables.as_mut_ptr(),
                sums,
                sink,
                pixels: out_pixels,
                first: group.start * out_pixels,
                channel: start,
                width,
            };
            simd::run(lookup, width);
        });
    });
}

/// The OIHW `weight`, in whole numbers, as `[out block][kernel row][kernel column][in channel][width]`.
pub(super) fn pack(s: &ConvShape, weight: &[f32]) -> Aligned {
    pack::rows(s, weight, &blocks(out_channels(s), WIDEST), &[(0, pad8(s.c_in))])
}

/// Floats from one table of the subsets of so many rows to the next.
pub(super) const fn table_floats(bits: usize, width: usize) -> usize {
    (width << bits) + GAP
}

/// All pixels of a group of images for one block of output channels.
struct Lookup<'a, K> {
    source: &'a [u8],
    plan: &'a Plan<'a>,
    /// All time steps'.
    images: usize,
    weight: &'a [f32],
    tables: *mut f32,
    /// `[pixel][width]`, of one pixel if there is one pass.
    sums: &'a mut [f32],
    sink: K,
    /// Of an image.
    pixels: usize,
    /// Pixels of a time step before those of the group.
    first: usize,
    channel: usize,
    width: usize,
}

impl<K: Sink> Kernel for Lookup<'_, K> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: passed on; the widths are those of `blocks`.
        unsafe {
            match self.width / S::LANES {
                2 => self.all::<S, 2>(),
                _ => self.all::<S, 1>(),
            }
        }
    }
}

impl<K: Sink> Lookup<'_, K> {
    #[inline(always)]
    unsafe fn all<S: Simd, const N: usize>(mut self) {
        self.sums.fill(0.0);
        for (index, pass) in self.plan.passes.iter().enumerate() {
            let last = index + 1 == self.plan.passes.len();
            // SAFETY: the source holds the bytes of the pass at each of its pixels, and the last one has all pixels.
            unsafe {
                match pass.shape {
                    (3, 3) => self.pass::<S, N, 3, 3>(pass, last),
                    (_, 0) => self.pass::<S, N, 1, 0>(pass, last),
                    (_, 1) => self.pass::<S, N, 1, 1>(pass, last),
                    (_, 2) => self.pass::<S, N, 1, 2>(pass, last),
                    (_, 3) => self.pass::<S, N, 1, 3>(pass, last),
                    (_, 4) => self.pass::<S, N, 1, 4>(pass, last),
                    (_, 5) => self.pass::<S, N, 1, 5>(pass, last),
                    (_, 6) => self.pass::<S, N, 1, 6>(pass, last),
                    (_, 7) => self.pass::<S, N, 1, 7>(pass, last),
                    _ => self.pass::<S, N, 1, 8>(pass, last),
                }
            }
        }
    }

    /// Adds up `BYTES` bytes on each of `LINES` lines; the `last` pass hands on the sums.
    #[inline(always)]
    unsafe fn pass<S: Simd, const N: usize, const LINES: usize, const BYTES: usize>(
        &mut self,
        pass: &Pass,
        last: bool,
    ) {
        let width = N * S::LANES;
        let rows = &self.weight[pass.first * 8 * width..][..LINES * BYTES * 8 * width];
        let end = |run: &Run| {
            (self.images - 1) * self.plan.image
                + run.from
                + (run.len - 1) * self.plan.step
                + (LINES - 1) * self.plan.line
                + 8
        };
        debug_assert!(BYTES == 0 || pass.runs.iter().all(|run| end(run) <= self.source.len()), "{:?}", pass.shape);
        // SAFETY: `tables` has room for these, the source holds eight bytes from each pixel's first on, each byte is the number of
        // a row, there is a row of `sums` for each pixel, and the tile owns its channels of the sink's pixels.
        unsafe {
            for (table, rows) in rows.chunks_exact(8 * width).enumerate() {
                let table = self.tables.add(table * table_floats(8, width));
                subsets::<S, N, 8>(rows.as_ptr(), table, |a, b| S::add_ints(a, b));
            }
            let (sums, source) = (self.sums.as_mut_ptr(), self.source.as_ptr());
            let (plan, pixels) = (self.plan, self.pixels);
            if !last {
                for image in 0..self.images {
                    for run in &pass.runs {
                        let mut from = source.add(image * plan.image + run.from);
                        let mut to = sums.add((image * pixels + run.pixel) * width);
                        for _ in 0..run.len {
                            let sum = self.sum::<S, N, LINES, BYTES>(from, to);
                            for n in 0..N {
                                S::store(to.add(n * S::LANES), sum[n]);
                            }
                            (from, to) = (from.wrapping_add(plan.step), to.add(width));
                        }
                    }
                }
                return;
            }
            let step = if plan.passes.len() == 1 { 0 } else { width };
            let (sink, time_steps) = (self.sink.ready::<S, N>(self.channel), self.sink.time_steps());
            let images = self.images / time_steps;
            // From an image to the same one at the next time step.
            let (image_bytes, image_sums) = (images * plan.image, images * pixels * step);
            for image in 0..images {
                for run in &pass.runs {
                    let first = image * pixels + run.pixel;
                    let (mut from, mut so_far) =
                        (source.add(image * plan.image + run.from), sums.cast_const().add(first * step));
                    for pixel in self.first + first..self.first + first + run.len {
                        let mut state = [S::zero(); N];
                        for t in 0..time_steps {
                            let (from, so_far) =
                                (from.wrapping_add(t * image_bytes), so_far.wrapping_add(t * image_sums));
                            state = sink.take(state, t, pixel, self.sum::<S, N, LINES, BYTES>(from, so_far));
                        }
                        (from, so_far) = (from.wrapping_add(plan.step), so_far.wrapping_add(step));
                    }
                }
            }
        }
    }

    /// The sum so far, and the rows of the spikes that start at byte `from` of the source.
    #[inline(always)]
    unsafe fn sum<S: Simd, const N: usize, const LINES: usize, const BYTES: usize>(
        &self,
        from: *const u8,
        so_far: *const f32,
    ) -> [S::V; N] {
        let mut sum = [unsafe { S::zero() }; N];
        // SAFETY: as in `pass`.
        unsafe {
            for n in 0..N {
                sum[n] = S::load(so_far.add(n * S::LANES));
            }
            for line in 0..LINES {
                if BYTES == 0 {
                    break;
                }
                let spikes = u64::from_le(from.add(line * self.plan.line).cast::<u64>().read_unaligned());
                for k in 0..BYTES {
                    let row = self.row::<S, N>(line * BYTES + k, spikes, k);
                    for n in 0..N {
                        sum[n] = S::add_ints(sum[n], S::load(row.add(n * S::LANES)));
                    }
                }
            }
        }
        sum
    }

    /// In the table of this index: the row of the word's byte `k`.
    #[inline(always)]
    unsafe fn row<S: Simd, const N: usize>(&self, table: usize, word: u64, k: usize) -> *const f32 {
        let width = N * S::LANES;
        // Times a row's bytes.
        let shift = (4 * width).trailing_zeros();
        let bytes = simd::pin_word(word.rotate_right(8 * k as u32 + 64 - shift)) & (255 << shift);
        // SAFETY: as in `pass`.
        unsafe {
            let row = self.tables.cast_const().cast::<u8>().add(bytes as usize);
            // A single load from it needs no sum.
            let row = if N > 1 { simd::pin_row(row) } else { row };
            row.cast::<f32>().add(table * table_floats(8, width))
        }
    }
}

/// The sums by `add` of all subsets of `BITS` rows: the row of a subset's number has the sum over its bits.
///
/// # Safety
/// There are `BITS` (at least 3) rows of `N` vectors, and room for 2^BITS of them.
#[inline(always)]
pub(super) unsafe fn subsets<S: Simd, const N: usize, const BITS: usize>(
    rows: *const f32,
    table: *mut f32,
    add: impl Fn(S::V, S::V) -> S::V,
) {
    let width = N * S::LANES;
    for n in 0..N {
        // SAFETY: the caller's.
        unsafe {
            let (rows, table) = (rows.add(n * S::LANES), table.add(n * S::LANES));
            // The subsets of the first three rows stay in registers.
            let mut low = [S::zero(); 8];
            for subset in 1..8usize {
                let last = subset.ilog2() as usize;
                low[subset] = add(low[subset - (1 << last)], S::load(rows.add(last * width)));
            }
            for high in 0..1usize << (BITS - 3) {
                let mut base = S::zero();
                if high > 0 {
                    let last = high.ilog2() as usize;
                    let rest = S::load(table.add(8 * (high - (1 << last)) * width));
                    base = add(rest, S::load(rows.add((3 + last) * width)));
                }
                for subset in 0..8 {
                    S::store(table.add((8 * high + subset) * width), add(base, low[subset]));
                }
            }
        }
    }
}
