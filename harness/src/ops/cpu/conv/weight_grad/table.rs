//! The weight's gradient for spikes by tables of the sums of all subsets of a few pixels'
//! gradients. The spikes of an input channel that a tap meets at these pixels form the number
//! of a subset.

use crate::ops::cpu::conv::lists::transpose8;
use crate::ops::cpu::conv::pack;
use crate::ops::cpu::conv::subset_tables::{MAX_BLOCK_WIDTH, subsets, table_floats};
use crate::ops::cpu::conv::tiles::{blocks, out_channels};
use crate::ops::cpu::parallel::{Aligned, Shared, scratch, tiles, vec_from_uninit};
use crate::ops::cpu::simd::{self, Simd, SimdKernel};
use crate::ops::{ConvShape, pad8};

/// Spikes that are looked up together, as the bits of a word.
const WORD_BITS: usize = 64;
/// The minimum number of groups per partial sum. Fewer groups would cost less than their
/// partial sum.
const MIN_GROUPS_PER_SUM: usize = 16;

/// Output pixels that share tables, consecutive in the map: `bits` per table, and as many
/// tables as a word has spikes for.
const fn group_pixels(bits: usize) -> usize {
    WORD_BITS / bits * bits
}

/// Whether the spikes of a padded line fit in one word per column of the stride.
fn fits(s: &ConvShape) -> bool {
    (s.width + 2 * s.padding).div_ceil(s.stride) <= WORD_BITS
}

/// Whether these tables are faster than spike lists and than the dense algorithm. The decision
/// must not depend on the machine, because the algorithms group their sums differently.
pub(in crate::ops::cpu::conv) fn is_faster(s: &ConvShape, density: f64) -> bool {
    fits(s) && density > if s.kernel * s.kernel * s.c_in < 512 { 0.26 } else { 0.2 }
}

/// The OIHW gradient of the weight. The grouping of the sums depends on the shape alone, so
/// neither the number of threads nor the vector width changes a bit.
pub(super) fn grad_weight(s: &ConvShape, spikes: &[u8], grad_out: &[f32], out: &mut [f32]) {
    assert!(fits(s), "the lines have more than {WORD_BITS} columns: {s:?}");
    let blocks = blocks(out_channels(s), MAX_BLOCK_WIDTH);
    let rows = s.kernel * s.kernel * s.c_in;
    // Larger tables are faster if more words are looked up in them.
    let bits = match rows {
        ..256 => 4,
        256..2048 => 6,
        _ => 7,
    };
    let in_group = group_pixels(bits);
    let groups = (s.images * s.out_height() * s.out_width()).div_ceil(in_group);
    let words = words(s, spikes, in_group);
    // Each separately summed run of groups needs a partial sum. There are few of them if the
    // weight is large, because its blocks then give enough tiles.
    let per_sum = groups.div_ceil((32 / blocks.len()).clamp(1, groups)).max(MIN_GROUPS_PER_SUM);
    let (sums, each) = (groups.div_ceil(per_sum), rows * out_channels(s));
    let fill = |partials: Shared<f32>| {
        tiles(sums * blocks.len(), s.macs() / 4, |tile| {
            let (sum, (start, width)) = (tile / blocks.len(), blocks[tile % blocks.len()]);
            let group = sum * per_sum..groups.min((sum + 1) * per_sum);
            // SAFETY: each pair of sum and block has its own range of the partial sums.
            let sums = unsafe { partials.zeroed(sum * each + start * rows, rows * width) };
            let pixel = group.start * in_group * out_channels(s);
            scratch(in_group * width + WORD_BITS / bits * table_floats(bits, width), |memory| {
                let (gradients, tables) = memory.split_at_mut(in_group * width);
                let kernel = AddFromTables {
                    words: &words[group.start * rows..group.end * rows],
                    map: &grad_out[pixel..],
                    start,
                    stride: out_channels(s),
                    gradients,
                    tables,
                    bits,
                    sums,
                    width,
                };
                simd::run(kernel, width);
            });
        });
    };
    // SAFETY: the tiles cover all sums, and each writes all of its own.
    let partials = unsafe { Aligned::from_uninit(sums * each, fill) };
    pack::unpack(s, &partials.chunks(each).collect::<Vec<_>>(), &blocks, out);
}

/// The spikes of each channel on each line, as one word per column of the stride that a tap
/// meets. Bit `q` of a word is the spike at column `stride·q + column` of the padded line. The
/// layout is `[image][line][column][channel]`.
fn lines(s: &ConvShape, spikes: &[u8]) -> Vec<u64> {
    let (bytes, columns) = (pad8(s.c_in) / 8, s.kernel.min(s.stride));
    let each = s.height * columns * 8 * bytes;
    let fill = |lines: Shared<u64>, image: usize| {
        // SAFETY: each image has its own lines.
        let lines = unsafe { lines.zeroed(image * each, each) };
        for (y, column) in (0..s.height).flat_map(|y| (0..columns).map(move |column| (y, column))) {
            if (y + s.padding) % s.stride >= s.kernel {
                continue;
            }
            let words = &mut lines[(y * columns + column) * 8 * bytes..][..8 * bytes];
            let spikes = &spikes[(image * s.height + y) * s.width * bytes..][..s.width * bytes];
            let first = (column + s.stride * s.padding - s.padding) % s.stride;
            let mut at = (first + s.padding) / s.stride;
            for x in (first..s.width).step_by(8 * s.stride) {
                for (m, words) in words.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                    let mut bits = 0;
                    for (k, x) in (x..s.width).step_by(s.stride).take(8).enumerate() {
                        bits |= u64::from(spikes[x * bytes + m]) << (8 * k);
                    }
                    for (word, byte) in words.iter_mut().zip(transpose8(bits).to_le_bytes()) {
                        *word |= u64::from(byte) << at;
                    }
                }
                at += 8;
            }
        }
    };
    // SAFETY: the lines of each image are zeroed, then filled.
    unsafe { vec_from_uninit(s.images * each, |lines| tiles(s.images, spikes.len() * 8, |image| fill(lines, image))) }
}

/// For each group, the spikes that each tap meets at the group's pixels:
/// `[group][tap][channel]`.
fn words(s: &ConvShape, spikes: &[u8], in_group: usize) -> Vec<u64> {
    let lines = lines(s, spikes);
    let (height, width) = (s.out_height(), s.out_width());
    let pixels = s.images * height * width;
    let (channels, columns, rows) = (pad8(s.c_in), s.kernel.min(s.stride), s.kernel * s.kernel * s.c_in);
    let groups = pixels.div_ceil(in_group);
    let fill = |words: Shared<u64>, group: usize| {
        // SAFETY: each group has its own words.
        let words = unsafe { words.zeroed(group * rows, rows) };
        let mut pixel = group * in_group;
        let end = pixels.min(pixel + in_group);
        while pixel < end {
            // The next stretch of pixels on one line of the map.
            let (image, oy, ox) = (pixel / (height * width), pixel / width % height, pixel % width);
            let count = (width - ox).min(end - pixel);
            let mask = u64::MAX >> (WORD_BITS - count);
            for (tap, words) in words.chunks_exact_mut(s.c_in).enumerate() {
                let (ky, kx) = (tap / s.kernel, tap % s.kernel);
                let Some(y) = (oy * s.stride + ky).checked_sub(s.padding).filter(|y| *y < s.height) else { continue };
                let line = ((image * s.height + y) * columns + kx % s.stride) * channels;
                let (down, up) = (ox + kx / s.stride, pixel % in_group);
                for (word, line) in words.iter_mut().zip(&lines[line..]) {
                    *word |= (line >> down & mask) << up;
                }
            }
            pixel += count;
        }
    };
    // SAFETY: the words of each group are zeroed, then filled.
    unsafe { vec_from_uninit(groups * rows, |words| tiles(groups, groups * rows * 4, |group| fill(words, group))) }
}

/// Adds the sums of some groups of pixels, looked up in tables, for one block of output
/// channels.
struct AddFromTables<'a> {
    words: &'a [u64],
    /// The gradient of the output, from the first group's first pixel on.
    map: &'a [f32],
    /// The block's first channel, and the floats per pixel.
    start: usize,
    stride: usize,
    /// Room for the gradients of a group.
    gradients: &'a mut [f32],
    tables: &'a mut [f32],
    /// Pixels per table.
    bits: usize,
    /// `[tap][channel][width]`.
    sums: &'a mut [f32],
    width: usize,
}

impl SimdKernel for AddFromTables<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: passed on; the widths are those of `blocks`, and the tables have `bits` bits.
        unsafe {
            match (self.width / S::LANES, self.bits) {
                (2, 4) => self.groups::<S, 2, 4>(),
                (2, 6) => self.groups::<S, 2, 6>(),
                (2, _) => self.groups::<S, 2, 7>(),
                (_, 4) => self.groups::<S, 1, 4>(),
                (_, 6) => self.groups::<S, 1, 6>(),
                _ => self.groups::<S, 1, 7>(),
            }
        }
    }
}

impl AddFromTables<'_> {
    #[inline(always)]
    unsafe fn groups<S: Simd, const N: usize, const BITS: usize>(self) {
        let width = N * S::LANES;
        let rows = self.sums.len() / width;
        for (words, map) in self.words.chunks_exact(rows).zip(self.map.chunks(group_pixels(BITS) * self.stride)) {
            // Pixels beyond the last one have no spikes, and gradients of zero.
            let count = map.len() / self.stride;
            for (to, from) in self.gradients.chunks_exact_mut(width).zip(map.chunks_exact(self.stride)) {
                to.copy_from_slice(&from[self.start..self.start + width]);
            }
            self.gradients[count * width..].fill(0.0);
            // SAFETY: there is a table for each `BITS` gradients of the group, and each word
            // selects one row of each table.
            unsafe {
                let tables = self.tables.as_mut_ptr();
                for table in 0..WORD_BITS / BITS {
                    let (rows, table) = (
                        self.gradients[table * BITS * width..].as_ptr(),
                        tables.add(table * table_floats(BITS, width)),
                    );
                    subsets::<S, N, BITS>(rows, table, |a, b| S::add(a, b));
                }
                for (index, (word, sums)) in words.iter().zip(self.sums.chunks_exact_mut(width)).enumerate() {
                    if index < group_pixels(BITS) {
                        // Prefetches a pixel of the next group, which is in no cache yet.
                        let next = map.as_ptr().wrapping_add((group_pixels(BITS) + index) * self.stride + self.start);
                        simd::prefetch(next, width);
                    }
                    // Two sums halve the chain of dependent additions.
                    let (mut sum, mut odd) = ([S::zero(); N], [S::zero(); N]);
                    for n in 0..N {
                        sum[n] = S::load(sums.as_ptr().add(n * S::LANES));
                    }
                    for table in 0..WORD_BITS / BITS {
                        let row = (word >> (BITS * table)) as usize & ((1 << BITS) - 1);
                        let row = tables.add(table * table_floats(BITS, width) + row * width);
                        let to = if table % 2 == 0 { &mut sum } else { &mut odd };
                        for n in 0..N {
                            to[n] = S::add(to[n], S::load(row.add(n * S::LANES)));
                        }
                    }
                    for n in 0..N {
                        S::store(sums.as_mut_ptr().add(n * S::LANES), S::add(sum[n], odd[n]));
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::cpu::simd::Level;
    use crate::ops::cpu::tests::reference::{self as naive, any_level, limited_level, map, same_on_any_threads};
    use proptest::prelude::*;

    /// Shapes with tables of every size, and with words of one line and of many.
    fn shapes() -> impl Strategy<Value = ConvShape> {
        let channels = prop_oneof![1..20usize, 60..80usize, 230..250usize];
        let geometry = (1..6usize, 1..4usize, 0..4usize);
        naive::shapes((1..5usize, 1..20usize, 1..20usize), (channels, 1..40usize), geometry)
    }

    fn gradient(s: &ConvShape, spikes: &[u8], grad: &[f32]) -> Vec<f32> {
        let mut out = vec![f32::NAN; s.weight_len()];
        grad_weight(s, spikes, grad, &mut out);
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn the_gradient_agrees_with_f64_loops(
            s in shapes(),
            density in prop_oneof![Just(0.0), Just(1.0), 0.0..1.0],
        ) {
            let _level = any_level();
            let grad = map(2, s.images * s.out_height() * s.out_width(), s.c_out);
            let (floats, spikes) = naive::spikes(4, s.images * s.height * s.width, s.c_in, density);
            naive::grad_weight(&s, &floats, &grad).agree(&format!("{s:?}"), &gradient(&s, &spikes, &grad), 4e-6);
        }
    }

    #[test]
    fn words_are_used_to_their_last_bit() {
        let _level = any_level();
        for (images, height, width, kernel, stride, padding) in
            [(2, 3, 64, 1, 1, 0), (2, 5, 62, 3, 1, 1), (1, 9, 190, 3, 3, 1), (1, 7, 126, 5, 2, 1)]
        {
            let s = ConvShape { images, height, width, c_in: 11, c_out: 9, kernel, stride, padding };
            let grad = map(2, s.images * s.out_height() * s.out_width(), s.c_out);
            let (floats, spikes) = naive::spikes(4, s.images * s.height * s.width, s.c_in, 0.5);
            naive::grad_weight(&s, &floats, &grad).agree(&format!("{s:?}"), &gradient(&s, &spikes, &grad), 4e-6);
        }
    }

    #[test]
    fn neither_threads_nor_instructions_change_a_bit() {
        let shape = |side, c_in, c_out, stride| ConvShape {
            images: 6,
            height: side,
            width: side,
            c_in,
            c_out,
            kernel: 3,
            stride,
            padding: 1,
        };
        for s in [shape(62, 8, 24, 1), shape(16, 64, 40, 2), shape(4, 256, 16, 1)] {
            let grad = map(2, s.images * s.out_height() * s.out_width(), s.c_out);
            let (_, spikes) = naive::spikes(4, s.images * s.height * s.width, s.c_in, 0.3);
            let at = |level| {
                let _level = limited_level(level);
                same_on_any_threads(|| gradient(&s, &spikes, &grad));
                gradient(&s, &spikes, &grad).iter().map(|x| x.to_bits()).collect::<Vec<_>>()
            };
            let portable = at(Level::Portable);
            assert_eq!(portable, at(Level::Avx2), "{s:?}");
            assert_eq!(portable, at(Level::Avx512), "{s:?}");
        }
    }
}
