//! The forward pass over spikes that differ in few places from those of an earlier pass with
//! the same weight: the earlier sums, plus the weight rows of new spikes, minus those of
//! vanished spikes. The sums are fixed-point, so the result is bit-identical to a new
//! summation.

use crate::ops::cpu::conv::fixed_point::ScaleInPlace;
use crate::ops::cpu::conv::pack::Weights;
use crate::ops::cpu::conv::select::share_inside;
use crate::ops::cpu::conv::tiles::out_channels;
use crate::ops::cpu::parallel::{Aligned, Shared, tiles};
use crate::ops::cpu::simd::{self, Simd, SimdKernel};
use crate::ops::{ConvShape, pad8};

/// The spikes and sums of an earlier pass.
pub(in crate::ops::cpu::conv) struct PreviousPass {
    pub spikes: Vec<u8>,
    /// Fixed-point sums, not yet scaled.
    pub sums: Vec<f32>,
}

impl PreviousPass {
    /// The number of spikes that appeared or vanished.
    pub(in crate::ops::cpu::conv) fn changes(&self, spikes: &[u8]) -> u64 {
        let ((a, rest_a), (b, rest_b)) = (self.spikes.as_chunks::<8>(), spikes.as_chunks::<8>());
        let words: u64 = a
            .iter()
            .zip(b)
            .map(|(a, b)| u64::from((u64::from_ne_bytes(*a) ^ u64::from_ne_bytes(*b)).count_ones()))
            .sum();
        words + rest_a.iter().zip(rest_b).map(|(a, b)| u64::from((a ^ b).count_ones())).sum::<u64>()
    }
}

/// Cycles per output pixel for `changes` changed spikes per output pixel, in the units of
/// [`crate::ops::cpu::conv::select`].
pub(in crate::ops::cpu::conv) fn cycles(s: &ConvShape, vectors: f64, changes: f64) -> f64 {
    let taps = (s.kernel * s.kernel) as f64
        * share_inside(s, s.height, s.out_height())
        * share_inside(s, s.width, s.out_width());
    3.0 * vectors + changes * taps * (3.0 + 1.2 * vectors)
}

/// Copies `from` to `to` and returns the copy.
///
/// # Safety
/// `to` has room for the copy, and nothing else accesses that memory while the result lives.
unsafe fn copied<'a>(from: &[f32], to: *mut f32) -> &'a mut [f32] {
    // SAFETY: passed on to the caller.
    unsafe {
        std::ptr::copy_nonoverlapping(from.as_ptr(), to, from.len());
        std::slice::from_raw_parts_mut(to, from.len())
    }
}

/// Writes the output map of a convolution, given its fixed-point `sums`.
pub(in crate::ops::cpu::conv) fn scale_sums(s: &ConvShape, sums: &[f32], scale: &[f32], target: Shared<f32>) {
    let (pixels, stride) = (s.out_height() * s.out_width(), out_channels(s));
    tiles(s.images, s.out_len() * 2, |image| {
        let sums = &sums[image * pixels * stride..][..pixels * stride];
        // SAFETY: each image is its own part of the target, which is as long as the sums.
        let target = unsafe { copied(sums, target.at(image * pixels * stride)) };
        simd::run(ScaleInPlace { target: target.as_mut_ptr(), pixels, stride, scale }, stride);
    });
}

/// The fixed-point OIHW `weight` as `[tap][in channel][pad8(c_out)]`.
pub(in crate::ops::cpu::conv) fn pack(s: &ConvShape, weight: &[f32]) -> Aligned {
    let taps: Vec<usize> = (0..s.kernel * s.kernel).collect();
    let mut packed = Aligned::zeros(taps.len() * s.c_in * out_channels(s));
    Weights::forward(s, weight).pack(&taps, 0..s.c_in, 0..s.c_out, out_channels(s), &mut packed);
    packed
}

/// The convolution of `spikes`, given the previous pass and a weight from [`pack`].
pub(in crate::ops::cpu::conv) fn forward(
    s: &ConvShape,
    spikes: &[u8],
    previous: &PreviousPass,
    packed: &[f32],
    scale: &[f32],
    target: Shared<f32>,
) {
    let bytes = s.height * s.width * pad8(s.c_in) / 8;
    let (out_pixels, width) = (s.out_height() * s.out_width(), out_channels(s));
    let readers = (readers(s, s.height, s.out_height()), readers(s, s.width, s.out_width()));
    tiles(s.images, s.out_len() * 4, |image| {
        let (new, old) = (&spikes[image * bytes..][..bytes], &previous.spikes[image * bytes..][..bytes]);
        let sums = &previous.sums[image * out_pixels * width..][..out_pixels * width];
        // SAFETY: each image is its own part of the target, which is as long as the sums.
        let target = unsafe { copied(sums, target.at(image * out_pixels * width)) };
        simd::run(Update { s, new, old, packed, readers: &readers, target }, width);
        simd::run(ScaleInPlace { target: target.as_mut_ptr(), pixels: out_pixels, stride: width, scale }, width);
    });
}

/// For each input position along an axis, the (tap, output position) pairs that read it.
type Readers = Vec<Vec<(usize, usize)>>;

/// Updates the sums of one image.
struct Update<'a> {
    s: &'a ConvShape,
    new: &'a [u8],
    old: &'a [u8],
    packed: &'a [f32],
    /// Readers by row, and by column.
    readers: &'a (Readers, Readers),
    target: &'a mut [f32],
}

impl SimdKernel for Update<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(mut self) {
        let (s, bits) = (self.s, pad8(self.s.c_in));
        let bytes = s.width * bits / 8;
        let lines = self.new.chunks_exact(bytes).zip(self.old.chunks_exact(bytes));
        for ((new, old), rows) in lines.zip(&self.readers.0) {
            for (at, (new, old)) in new.chunks(8).zip(old.chunks(8)).enumerate() {
                let new = word(new);
                let mut changed = new ^ word(old);
                while changed != 0 {
                    let bit = changed.trailing_zeros() as usize;
                    changed &= changed - 1;
                    let (x, channel) = ((64 * at + bit) / bits, (64 * at + bit) % bits);
                    for &(ky, oy) in rows {
                        for &(kx, ox) in &self.readers.1[x] {
                            let row = (ky * s.kernel + kx) * s.c_in + channel;
                            // SAFETY: the caller guarantees that the CPU has the instructions
                            // of S.
                            unsafe { self.add_row::<S>(row, oy * s.out_width() + ox, new >> bit & 1 == 1) };
                        }
                    }
                }
            }
        }
    }
}

/// Up to eight bytes as a word, the first byte in its lowest bits.
#[inline(always)]
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

impl Update<'_> {
    /// Adds a weight row to the sums of an output pixel if the spike appeared, or subtracts it.
    #[inline(always)]
    unsafe fn add_row<S: Simd>(&mut self, row: usize, out: usize, appeared: bool) {
        let width = out_channels(self.s);
        let row = &self.packed[row * width..][..width];
        let sums = &mut self.target[out * width..][..width];
        for k in (0..width).step_by(S::LANES) {
            // SAFETY: both slices hold `width` floats, a multiple of the vector's lanes.
            unsafe {
                let (at, row) = (sums.as_mut_ptr().add(k), S::load(row.as_ptr().add(k)));
                let sum = S::load(at);
                S::store(at, if appeared { S::add_ints(sum, row) } else { S::sub_ints(sum, row) });
            }
        }
    }
}

/// The (tap, output position) pairs of each input position along one axis.
fn readers(s: &ConvShape, size: usize, out_size: usize) -> Readers {
    let covers = |position: usize| {
        // Output o covers o·stride + tap, for taps 0..kernel, in padded coordinates.
        let taps = (0..s.kernel).filter(move |tap| *tap <= position && (position - tap).is_multiple_of(s.stride));
        taps.map(move |tap| (tap, (position - tap) / s.stride)).filter(|(_, out)| *out < out_size).collect()
    };
    (0..size).map(|position| covers(position + s.padding)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Input;
    use crate::ops::cpu::conv::select::updating_is_faster;
    use crate::ops::cpu::conv::{ConvWeightCache, forward_cached};
    use crate::ops::cpu::pool;
    use crate::ops::cpu::tests::reference::{any_level, normals, spikes};

    #[test]
    fn few_changes_update_the_sums_of_the_pass_before() {
        let _level = any_level();
        // The shapes give words of one pixel and of several, shorter words at the end of a
        // line, and pixels that lie in two words.
        for (height, width, c_in, kernel, stride) in
            [(8, 8, 64, 3, 1), (32, 32, 8, 3, 1), (9, 13, 16, 3, 2), (8, 11, 20, 1, 1)]
        {
            let padding = kernel / 2;
            let s = ConvShape { images: 4, height, width, c_in, c_out: c_in, kernel, stride, padding };
            let weight = normals(1, s.weight_len());
            let (_, before) = spikes(4, s.images * s.height * s.width, s.c_in, 0.3);
            let mut after = before.clone();
            after.iter_mut().step_by(51).enumerate().for_each(|(i, byte)| *byte ^= 1 << (i % 4));
            let cache = ConvWeightCache::keeping_first_pass();
            forward_cached(&s, Input::Spikes(&before), &weight, &cache);
            let changes = cache.previous.get().expect("the first pass is kept").changes(&after);
            assert_eq!(changes, after.len().div_ceil(51) as u64);
            assert!(updating_is_faster(&s, changes, pool::count_spikes(&after)), "{s:?}");
            let bits = |cache| {
                let map = forward_cached(&s, Input::Spikes(&after), &weight, cache);
                map.into_iter().map(f32::to_bits).collect::<Vec<_>>()
            };
            assert!(bits(&cache) == bits(&ConvWeightCache::default()), "{s:?}");
        }
    }

    #[test]
    fn narrow_layers_are_summed_anew_from_fewer_changes_on() {
        let _level = any_level();
        let shape = |side, channels| ConvShape {
            images: 64,
            height: side,
            width: side,
            c_in: channels,
            c_out: channels,
            kernel: 3,
            stride: 1,
            padding: 1,
        };
        let updating = |s: ConvShape, share: f64| {
            let spikes = 0.22 * s.in_len() as f64;
            updating_is_faster(&s, (share * spikes) as u64, spikes as u64)
        };
        assert!(updating(shape(32, 8), 0.02) && !updating(shape(32, 8), 0.1));
        assert!(updating(shape(8, 64), 0.1) && !updating(shape(8, 64), 0.3));
    }
}
