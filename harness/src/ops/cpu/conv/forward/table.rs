//! The forward pass over spikes by tables of the sums of all 256 subsets of eight weight rows.
//! Eight channels cost one addition and no branch, whatever they hold. This is faster than
//! spike lists unless few neurons of a layer fire.
//!
//! A 3×3 convolution of stride 1 walks along the lines of its input: the row of a byte in the
//! tables is computed once for the three outputs that the byte reaches. In other convolutions
//! each output looks up its own bytes.

mod epilogue;
mod plan;
#[cfg(test)]
mod tests;

use crate::ops::cpu::conv::pack;
use crate::ops::cpu::conv::subset_tables::{subsets, table_floats};
use crate::ops::cpu::conv::tiles::{blocks, out_channels};
use crate::ops::cpu::parallel::{Aligned, map_tiles, scratch, tiles};
use crate::ops::cpu::simd::{self, Level, Simd, SimdKernel};
use crate::ops::{ConvShape, pad8};
use epilogue::{Epilogue, EpilogueTile, KeepSums};
use plan::{LookupPass, Lookups, Run, TablePlan};

pub(in crate::ops::cpu::conv) use epilogue::{Fire, WriteMap};
pub(in crate::ops::cpu::conv) use plan::{column_factor, cycles, sums_stay_in_cache};

/// Output channels of the widest block that shares tables.
fn widest(s: &ConvShape) -> usize {
    let lanes = if simd::level() == Level::Avx512 { 16 } else { 8 };
    plan::widest(s, lanes)
}

/// Passes the sums of bit-packed spikes over a weight from [`pack()`] to `epilogue`. The images
/// are those of the epilogue's first time step, then those of the next.
pub(super) fn forward<K: Epilogue + Send + Sync>(s: &ConvShape, spikes: &[u8], packed: &[f32], epilogue: K) {
    let widest = widest(s);
    let blocks = blocks(out_channels(s), widest);
    let pixels = s.out_height() * s.out_width();
    let steps = epilogue.time_steps();
    let (images, groups) = plan::groups(s, steps);
    let plan = TablePlan::new(s, steps * images, widest);
    let window = s.kernel * s.kernel * pad8(s.c_in);
    let group = |g: usize| (g * images).min(s.images / steps)..(s.images / steps).min((g + 1) * images);
    let sources = map_tiles(groups, spikes.len(), |g| plan.source(spikes, steps, group(g)));
    let tables = plan.passes.iter().map(|pass| pass.tables.len()).max().unwrap_or(0);
    tiles(groups * blocks.len(), s.macs() / 4, |tile| {
        let (g, (channel, width)) = (tile / blocks.len(), blocks[tile % blocks.len()]);
        let group = group(g);
        let images = steps * group.len();
        // One row of zeros, plus the sums between passes if there is more than one.
        let sums = width * (1 + if plan.passes.len() > 1 { images * pixels } else { 0 });
        let tables = tables * table_floats(8, width);
        scratch(tables + sums + s.out_width() * width, |memory| {
            let (tables, rest) = memory.split_at_mut(tables);
            let (sums, membranes) = rest.split_at_mut(sums);
            let (zeros, sums) = sums.split_at_mut(width);
            zeros.fill(0.0);
            if !plan.passes[0].is_full(pixels) {
                sums.fill(0.0);
            }
            let sums = sums.as_mut_ptr();
            for (index, pass) in plan.passes.iter().enumerate() {
                let last = index + 1 == plan.passes.len();
                let so_far =
                    if index == 0 && pass.is_full(pixels) { (zeros.as_ptr(), 0) } else { (sums.cast_const(), width) };
                let weight = &packed[channel * window..][..width * window];
                let group_pass = GroupPass {
                    source: &sources[g],
                    pass,
                    images,
                    pixels,
                    weight,
                    tables: tables.as_mut_ptr(),
                    so_far,
                    membranes: membranes.as_mut_ptr(),
                    width,
                };
                if last {
                    simd::run(GroupPassKernel { group_pass, epilogue, first: group.start * pixels, channel }, width);
                } else {
                    simd::run(GroupPassKernel { group_pass, epilogue: KeepSums(sums), first: 0, channel: 0 }, width);
                }
            }
        });
    });
}

/// The fixed-point OIHW `weight` as `[out block][kernel row][kernel column][in channel][width]`.
pub(in crate::ops::cpu::conv) fn pack(s: &ConvShape, weight: &[f32]) -> Aligned {
    pack::rows(s, weight, &blocks(out_channels(s), widest(s)), &[(0, pad8(s.c_in))])
}

/// One pass over a group of images for one block of output channels.
struct GroupPass<'a> {
    source: &'a [u8],
    pass: &'a LookupPass,
    /// Images of the group, counted over all time steps.
    images: usize,
    /// Output pixels per image.
    pixels: usize,
    weight: &'a [f32],
    tables: *mut f32,
    /// The sums of the passes before: the address of the first pixel's, and the floats between
    /// two pixels.
    so_far: (*const f32, usize),
    /// The membranes of a line of neurons.
    membranes: *mut f32,
    width: usize,
}

/// A [`GroupPass`] whose sums go to an epilogue.
struct GroupPassKernel<'a, K> {
    group_pass: GroupPass<'a>,
    epilogue: K,
    /// Pixels of a time step before those of the group.
    first: usize,
    channel: usize,
}

impl<K: Epilogue> SimdKernel for GroupPassKernel<'_, K> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: passed on; the widths are those of `blocks`.
        unsafe {
            match self.group_pass.width / S::LANES {
                2 => self.outputs::<S, 2>(),
                _ if self.group_pass.pass.lookups.columns == 3 => self.columns::<S>(),
                _ => self.outputs::<S, 1>(),
            }
        }
    }
}

impl<K: Epilogue> GroupPassKernel<'_, K> {
    #[inline(always)]
    unsafe fn columns<S: Simd>(self) {
        let Lookups { lines, bytes, .. } = self.group_pass.pass.lookups;
        // SAFETY: passed on (here and below).
        unsafe {
            match (lines, bytes) {
                (3, 1) => self.all::<S, 1, 3, 3, 1>(),
                (3, _) => self.all::<S, 1, 3, 3, 2>(),
                (_, 2) => self.all::<S, 1, 3, 1, 2>(),
                (_, 3) => self.all::<S, 1, 3, 1, 3>(),
                (_, 4) => self.all::<S, 1, 3, 1, 4>(),
                (_, 5) => self.all::<S, 1, 3, 1, 5>(),
                (_, 6) => self.all::<S, 1, 3, 1, 6>(),
                (_, 7) => self.all::<S, 1, 3, 1, 7>(),
                _ => self.all::<S, 1, 3, 1, 8>(),
            }
        }
    }

    #[inline(always)]
    unsafe fn outputs<S: Simd, const N: usize>(self) {
        let Lookups { lines, bytes, .. } = self.group_pass.pass.lookups;
        unsafe {
            match (lines, bytes) {
                (3, _) => self.all::<S, N, 1, 3, 3>(),
                (_, 0) => self.all::<S, N, 1, 1, 0>(),
                (_, 1) => self.all::<S, N, 1, 1, 1>(),
                (_, 2) => self.all::<S, N, 1, 1, 2>(),
                (_, 3) => self.all::<S, N, 1, 1, 3>(),
                (_, 4) => self.all::<S, N, 1, 1, 4>(),
                (_, 5) => self.all::<S, N, 1, 1, 5>(),
                (_, 6) => self.all::<S, N, 1, 1, 6>(),
                (_, 7) => self.all::<S, N, 1, 1, 7>(),
                _ => self.all::<S, N, 1, 1, 8>(),
            }
        }
    }

    #[inline(always)]
    unsafe fn all<S: Simd, const N: usize, const COLUMNS: usize, const LINES: usize, const BYTES: usize>(self) {
        let Self { group_pass, epilogue, first, channel } = self;
        let (pass, steps) = (group_pass.pass, epilogue.time_steps());
        assert!(
            pass.lookups == Lookups { columns: COLUMNS, lines: LINES, bytes: BYTES }
                && group_pass.width == N * S::LANES,
            "no kernel for {:?} of {} channels",
            pass.lookups,
            group_pass.width
        );
        let end = |run: &Run| {
            (group_pass.images - 1) * pass.image + run.from + (run.len - 1) * pass.step + (LINES - 1) * pass.line + 8
        };
        assert!(
            pass.runs
                .iter()
                .all(|run| (BYTES == 0 || end(run) <= group_pass.source.len()) && (COLUMNS == 1 || run.len > 1)),
            "the source holds eight bytes from each pixel's first byte on, and a line of columns at least two pixels: {:?}",
            pass.lookups
        );
        // SAFETY: there is room for the tables and for the membranes of a line. The source is
        // as long as asserted, and each of its bytes is the number of a row. There are sums so
        // far for each pixel, and the tile owns its channels of the epilogue's pixels.
        unsafe {
            group_pass.build::<S, N>();
            let tile = epilogue.tile::<S, N>(channel);
            let images = group_pass.images / steps;
            for image in 0..images {
                for run in &pass.runs {
                    if <K::Tile<S, N> as EpilogueTile<S, N>>::STATE {
                        group_pass.membranes.write_bytes(0, run.len * group_pass.width);
                    }
                    for t in 0..steps {
                        let frame = t * images + image;
                        let line = OutputLine {
                            tables: group_pass.tables.cast_const().cast(),
                            from: group_pass.source.as_ptr().add(frame * pass.image + run.from),
                            step: pass.step,
                            line: pass.line,
                            before: group_pass
                                .so_far
                                .0
                                .add((frame * group_pass.pixels + run.pixel) * group_pass.so_far.1),
                            before_step: group_pass.so_far.1,
                            membrane: group_pass.membranes,
                            tile,
                            at: epilogue.position(t, first + image * group_pass.pixels + run.pixel),
                        };
                        if COLUMNS == 3 {
                            line.columns::<S, N, LINES, BYTES>(run.len);
                        } else {
                            line.outputs::<S, N, LINES, BYTES>(run.len);
                        }
                    }
                }
            }
        }
    }
}

impl GroupPass<'_> {
    #[inline(always)]
    unsafe fn build<S: Simd, const N: usize>(&self) {
        let eight = 8 * self.width;
        for (table, &rows) in self.pass.tables.iter().enumerate() {
            let rows = &self.weight[rows * eight..][..eight];
            // SAFETY: the caller has made room for the tables.
            unsafe {
                let table = self.tables.add(table * table_floats(8, self.width));
                subsets::<S, N, 8>(rows.as_ptr(), table, |a, b| S::add_ints(a, b));
            }
        }
    }
}

/// Neighbouring output pixels of an image, from the next one to compute on.
#[derive(Clone, Copy)]
struct OutputLine<T> {
    tables: *const u8,
    /// The first byte of the next pixel, the bytes to the following pixel and those to the next
    /// line.
    from: *const u8,
    step: usize,
    line: usize,
    /// The next pixel's sums so far, and the floats to the following pixel's.
    before: *const f32,
    before_step: usize,
    membrane: *mut f32,
    tile: T,
    /// The position of the next pixel in the epilogue's order.
    at: usize,
}

impl<T> OutputLine<T> {
    /// Computes `len` outputs, each of which looks up its own spikes.
    #[inline(always)]
    unsafe fn outputs<S: Simd, const N: usize, const LINES: usize, const BYTES: usize>(mut self, len: usize)
    where
        T: EpilogueTile<S, N>,
    {
        for _ in 0..len {
            // SAFETY: as in `all` (here and below).
            unsafe {
                let mut sums = load::<S, N>(self.before);
                for line in 0..LINES {
                    if BYTES == 0 {
                        break;
                    }
                    let word = word::<8>(self.from.add(line * self.line));
                    for k in 0..BYTES {
                        let row = self.row::<S, N, 8>(word, k);
                        // With one vector there is a single load, so no address is computed
                        // twice.
                        let row = if N > 1 { simd::pin_row(row) } else { row };
                        add::<S, N>(&mut sums, row, line * BYTES + k);
                    }
                }
                self.emit(sums);
                self.from = self.from.wrapping_add(self.step);
                self.before = self.before.wrapping_add(self.before_step);
            }
        }
    }

    /// Computes all outputs of a line; each input is looked up once for the three outputs that
    /// it reaches.
    #[inline(always)]
    unsafe fn columns<S: Simd, const N: usize, const LINES: usize, const BYTES: usize>(mut self, len: usize)
    where
        T: EpilogueTile<S, N>,
    {
        // SAFETY: as in `all`; there are at least two inputs per line.
        unsafe {
            let none = [S::zero(); N];
            let sums = [none, self.next_before::<S, N, LINES>(), self.next_before::<S, N, LINES>()];
            let mut sums = self.column::<S, N, LINES, BYTES>(sums);
            for _ in 1..len - 1 {
                let before = self.next_before::<S, N, LINES>();
                sums = self.column::<S, N, LINES, BYTES>([sums[1], sums[2], before]);
                self.emit(sums[0]);
            }
            let sums = self.column::<S, N, LINES, BYTES>([sums[1], sums[2], none]);
            self.emit(sums[0]);
            self.emit(sums[1]);
        }
    }

    /// Adds the contributions of the next input to the sums of the outputs to its left, at its
    /// place and to its right.
    #[inline(always)]
    unsafe fn column<S: Simd, const N: usize, const LINES: usize, const BYTES: usize>(
        &mut self,
        mut sums: [[S::V; N]; 3],
    ) -> [[S::V; N]; 3] {
        // SAFETY: as in `all`.
        unsafe {
            for line in 0..LINES {
                let word = word::<BYTES>(self.from.add(line * self.line));
                for k in 0..BYTES {
                    let row = simd::pin_row(self.row::<S, N, BYTES>(word, k));
                    for kx in 0..3 {
                        add::<S, N>(&mut sums[2 - kx], row, 3 * (line * BYTES + k) + kx);
                    }
                }
            }
        }
        self.from = self.from.wrapping_add(BYTES);
        sums
    }

    /// The row of the word's byte `k` in the first table.
    #[inline(always)]
    unsafe fn row<S: Simd, const N: usize, const BYTES: usize>(&self, word: u64, k: usize) -> *const u8 {
        // The byte is multiplied by the bytes of a row.
        let shift = (4 * N * S::LANES).trailing_zeros();
        let bytes = if BYTES == 1 {
            word << shift
        } else {
            simd::pin_word(word.rotate_right(8 * k as u32 + 64 - shift)) & (255 << shift)
        };
        // SAFETY: the first table has 256 rows.
        unsafe { self.tables.add(bytes as usize) }
    }

    /// The sums so far of the next pixel. If one pass covers whole windows, there are none yet.
    #[inline(always)]
    unsafe fn next_before<S: Simd, const N: usize, const LINES: usize>(&mut self) -> [S::V; N] {
        if LINES == 3 {
            // SAFETY: passed on to the caller (here and below).
            return [unsafe { S::zero() }; N];
        }
        let sums = unsafe { load::<S, N>(self.before) };
        self.before = self.before.wrapping_add(self.before_step);
        sums
    }

    /// Passes the sums of the next pixel to the epilogue.
    #[inline(always)]
    unsafe fn emit<S: Simd, const N: usize>(&mut self, sums: [S::V; N])
    where
        T: EpilogueTile<S, N>,
    {
        // SAFETY: as in `all`.
        unsafe {
            if T::STATE {
                let state = self.tile.apply(load::<S, N>(self.membrane), self.at, sums);
                for n in 0..N {
                    S::store(self.membrane.add(n * S::LANES), state[n]);
                }
                self.membrane = self.membrane.wrapping_add(N * S::LANES);
            } else {
                self.tile.apply([S::zero(); N], self.at, sums);
            }
        }
        self.at += 1;
    }
}

/// The `BYTES` bytes from `from` on in the low bits; the rest is zeros or the bytes behind.
#[inline(always)]
unsafe fn word<const BYTES: usize>(from: *const u8) -> u64 {
    // SAFETY: the caller guarantees that eight bytes are readable.
    unsafe {
        match BYTES {
            1 => u64::from(*from),
            2 => u64::from(u16::from_le(from.cast::<u16>().read_unaligned())),
            3 | 4 => u64::from(u32::from_le(from.cast::<u32>().read_unaligned())),
            _ => u64::from_le(from.cast::<u64>().read_unaligned()),
        }
    }
}

#[inline(always)]
unsafe fn load<S: Simd, const N: usize>(from: *const f32) -> [S::V; N] {
    // SAFETY: the caller guarantees that `N` vectors are readable.
    unsafe {
        let mut values = [S::zero(); N];
        for n in 0..N {
            values[n] = S::load(from.add(n * S::LANES));
        }
        values
    }
}

/// Adds the row of table number `table` that corresponds to `row`, a row of the first table.
#[inline(always)]
unsafe fn add<S: Simd, const N: usize>(sums: &mut [S::V; N], row: *const u8, table: usize) {
    // SAFETY: the caller guarantees that this table and this row exist.
    unsafe {
        let row: [S::V; N] = load::<S, N>(row.cast::<f32>().add(table * table_floats(8, N * S::LANES)));
        for n in 0..N {
            sums[n] = S::add_ints(sums[n], row[n]);
        }
    }
}
