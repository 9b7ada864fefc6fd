//! The forward of spikes by tables: the sums of all 256 subsets of eight weight rows, so that eight channels cost one
//! addition and no branch, whatever they hold. It beats lists except where a layer fires little.

mod plan;
#[cfg(test)]
mod tests;

use super::super::super::{ConvShape, pad8};
use super::super::parallel::{Aligned, Shared, map_tiles, scratch, tiles};
use super::super::simd::{self, Kernel, Simd};
use super::{blocks, out_channels, pack};
use plan::{Pass, Plan};

pub(super) use plan::cycles;

/// Widest block of output channels: a row of a table is a cache line.
pub(super) const WIDEST: usize = 16;
/// Tables of a pass at most.
const TABLES: usize = 9;
/// Floats between two tables, so that their equal rows do not compete for a set of the cache.
const GAP: usize = 23 * 16;
/// Pixels of the map that are asked for ahead of their turn.
const AHEAD: usize = 32;

/// The sums of bit-packed spikes over a weight from [`pack()`], each times its channel's `scale` where that is given.
pub(super) fn forward(s: &ConvShape, spikes: &[u8], packed: &[f32], scale: Option<&[f32]>, target: Shared<f32>) {
    let blocks = blocks(out_channels(s), WIDEST);
    let out_pixels = s.out_height() * s.out_width();
    let (images, groups) = plan::groups(s);
    let plan = Plan::new(s);
    let window = s.kernel * s.kernel * pad8(s.c_in);
    let group = |g: usize| (g * images).min(s.images)..s.images.min((g + 1) * images);
    let sources = map_tiles(groups, spikes.len(), |g| plan.source(spikes, group(g)));
    tiles(groups * blocks.len(), s.macs() / 4, |tile| {
        let (g, (start, width)) = (tile / blocks.len(), blocks[tile % blocks.len()]);
        let group = group(g);
        let tables = table_floats(8, width) * TABLES;
        // A pass alone has one row of zeros for sums so far.
        let sums = if plan.passes.len() == 1 { width } else { group.len() * out_pixels * width };
        scratch(tables + sums, |memory| {
            let (tables, sums) = memory.split_at_mut(tables);
            let lookup = Lookup {
                source: &sources[g],
                plan: &plan,
                images: group.len(),
                weight: &packed[start * window..][..window * width],
                tables: tables.as_mut_ptr(),
                sums,
                scale: scale.map(|scale| &scale[start..start + width]),
                target: target.at(group.start * out_pixels * out_channels(s) + start),
                stride: out_channels(s),
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
struct Lookup<'a> {
    source: &'a [u8],
    plan: &'a Plan<'a>,
    images: usize,
    weight: &'a [f32],
    tables: *mut f32,
    /// `[pixel][width]`, of one pixel if there is one pass.
    sums: &'a mut [f32],
    scale: Option<&'a [f32]>,
    target: *mut f32,
    /// Floats of a pixel of the target.
    stride: usize,
    width: usize,
}

impl Kernel for Lookup<'_> {
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

impl Lookup<'_> {
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

    /// Adds up `BYTES` bytes on each of `LINES` lines; the `last` pass writes to the map.
    #[inline(always)]
    unsafe fn pass<S: Simd, const N: usize, const LINES: usize, const BYTES: usize>(
        &mut self,
        pass: &Pass,
        last: bool,
    ) {
        let width = N * S::LANES;
        let rows = &self.weight[pass.first * 8 * width..][..LINES * BYTES * 8 * width];
        // SAFETY: `tables` has room for these, the plan keeps each pixel's bytes within the source, each byte is the number of
        // a row, there is a row of `sums` for each pixel, and the tile owns its channels of the target's pixels.
        unsafe {
            for (table, rows) in rows.chunks_exact(8 * width).enumerate() {
                let table = self.tables.add(table * table_floats(8, width));
                subsets::<S, N, 8>(rows.as_ptr(), table, |a, b| S::add_ints(a, b));
            }
            let pixels = &pass.pixels[..pass.pixels.len() / self.plan.images * self.images];
            let sums = self.sums.as_mut_ptr();
            if !last {
                for &[from, pixel] in pixels {
                    let to = sums.add(pixel as usize * width);
                    let sum = self.sum::<S, N, LINES, BYTES>(from, to);
                    for n in 0..N {
                        S::store(to.add(n * S::LANES), sum[n]);
                    }
                }
                return;
            }
            let step = if self.plan.passes.len() == 1 { 0 } else { width };
            for &[from, pixel] in pixels {
                let mut sum = self.sum::<S, N, LINES, BYTES>(from, sums.add(pixel as usize * step));
                let to = self.target.add(pixel as usize * self.stride);
                // The map is seldom in a cache.
                simd::prefetch(to.wrapping_add(AHEAD * self.stride), width);
                for n in 0..N {
                    if let Some(scale) = self.scale {
                        sum[n] = S::mul(S::from_ints(sum[n]), S::load(scale.as_ptr().add(n * S::LANES)));
                    }
                    S::store(to.add(n * S::LANES), sum[n]);
                }
            }
        }
    }

    /// The sum so far, and the rows of the spikes that start at byte `from` of the source.
    #[inline(always)]
    unsafe fn sum<S: Simd, const N: usize, const LINES: usize, const BYTES: usize>(
        &self,
        from: u32,
        so_far: *const f32,
    ) -> [S::V; N] {
        let width = N * S::LANES;
        let mut sum = [unsafe { S::zero() }; N];
        // SAFETY: as in `pass`.
        unsafe {
            for n in 0..N {
                sum[n] = S::load(so_far.add(n * S::LANES));
            }
            for line in 0..LINES {
                let spikes = word::<BYTES>(self.source.as_ptr().add(from as usize + line * self.plan.line));
                for k in 0..BYTES {
                    let row = (spikes >> (8 * k)) as usize & 255;
                    let row = self.tables.add((line * BYTES + k) * table_floats(8, width) + row * width);
                    for n in 0..N {
                        sum[n] = S::add_ints(sum[n], S::load(row.add(n * S::LANES)));
                    }
                }
            }
        }
        sum
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

/// `BYTES` bytes (at most 8) as a number, none beyond them read.
#[inline(always)]
unsafe fn word<const BYTES: usize>(from: *const u8) -> u64 {
    // SAFETY: the caller's; two numbers that overlap agree there.
    unsafe {
        match BYTES {
            8 => u64::from_le(from.cast::<u64>().read_unaligned()),
            4..=7 => {
                let (low, high) = (from.cast::<u32>(), from.add(BYTES - 4).cast::<u32>());
                let high = u64::from(u32::from_le(high.read_unaligned())) << (8 * (BYTES - 4));
                u64::from(u32::from_le(low.read_unaligned())) | high
            }
            0 => 0,
            _ => (0..BYTES).fold(0, |word, k| word | u64::from(*from.add(k)) << (8 * k)),
        }
    }
}
