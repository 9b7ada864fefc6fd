//! The statistics and the backward pass of batch norm. The forward pass is folded into the LIF
//! kernel as a scale and a shift.

use super::parallel::{Shared, map_tiles, tiles, vec_from_uninit};
use super::simd::{self, Simd, SimdKernel};

/// Floats per chunk. Sums are taken chunk by chunk, so that they do not depend on the number of
/// threads.
const CHUNK: usize = 1 << 15;

/// The mean and biased variance of each padded channel over all rows of a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Statistics {
    /// The mean.
    pub mean: Vec<f64>,
    /// The biased variance (divided by n).
    pub variance: Vec<f64>,
}

/// The rows per chunk, and the number of chunks of `rows` rows of `channels` floats.
pub(super) fn chunks(rows: usize, channels: usize) -> (usize, usize) {
    let each = (CHUNK / channels).max(1);
    (each, rows.div_ceil(each))
}

/// The mean and biased variance of each of `channels` (padded) channels over the rows of `map`,
/// summed in f64.
pub fn statistics(map: &[f32], channels: usize) -> Statistics {
    let rows = map.len() / channels;
    let (each, n) = chunks(rows, channels);
    let sums = map_tiles(n, map.len(), |chunk| {
        let rows = &map[chunk * each * channels..rows.min((chunk + 1) * each) * channels];
        simd::run(Moments { rows, channels }, channels)
    });
    let mut total = vec![0.0; 2 * channels];
    for sum in &sums {
        for (t, s) in total.iter_mut().zip(sum) {
            *t += s;
        }
    }
    let n = rows.max(1) as f64;
    let shifted: Vec<f64> = total[..channels].iter().map(|sum| sum / n).collect();
    let variance = (0..channels).map(|c| (total[channels + c] / n - shifted[c] * shifted[c]).max(0.0)).collect();
    Statistics { mean: shifted, variance }
}

/// The f64 sums and sums of squares of some rows: `[2, channels]`.
struct Moments<'a> {
    rows: &'a [f32],
    channels: usize,
}

impl SimdKernel for Moments<'_> {
    type Output = Vec<f64>;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> Vec<f64> {
        let mut sums = vec![0.0; 2 * self.channels];
        let mut done = 0;
        // Several channels are summed side by side, because each addition to one sum waits four
        // cycles for the one before.
        while done + 32 <= self.channels {
            self.sum::<32>(done, &mut sums);
            done += 32;
        }
        while done + 16 <= self.channels {
            self.sum::<16>(done, &mut sums);
            done += 16;
        }
        if done < self.channels {
            self.sum::<8>(done, &mut sums);
        }
        sums
    }
}

impl Moments<'_> {
    /// The sums of `N` channels from `first` on.
    #[inline(always)]
    fn sum<const N: usize>(&self, first: usize, sums: &mut [f64]) {
        let (mut a, mut b) = ([0.0f64; N], [0.0f64; N]);
        for row in self.rows.chunks_exact(self.channels) {
            let x: &[f32; N] = row[first..].first_chunk().expect("channels are padded to 8");
            for k in 0..N {
                let x = f64::from(x[k]);
                a[k] += x;
                b[k] += x * x;
            }
        }
        sums[first..first + N].copy_from_slice(&a);
        sums[self.channels + first..][..N].copy_from_slice(&b);
    }
}

/// The coefficients of batch norm's backward pass, one per padded channel:
/// `grad_in = k1·grad + k2·map + k3`.
#[derive(Clone, Copy, Debug)]
pub struct Coefficients<'a> {
    /// The factor of the gradient of the normalised output.
    pub k1: &'a [f32],
    /// The factor of the norm's input.
    pub k2: &'a [f32],
    /// The constant.
    pub k3: &'a [f32],
}

/// Turns `grad`, the gradient of the norm's output, into the gradient of its input `map`, in
/// place.
///
/// # Panics
/// If the slices or the coefficients differ in length (here and below).
pub fn norm_backward(k: &Coefficients, map: &[f32], grad: &mut [f32]) {
    let target = Shared::new(grad);
    affine(k, map, target, target, grad.len());
}

/// Like [`norm_backward`], to a new map.
pub fn new_norm_backward(k: &Coefficients, map: &[f32], grad: &[f32]) -> Vec<f32> {
    // SAFETY: the chunks cover all rows.
    unsafe { vec_from_uninit(grad.len(), |out| affine(k, map, Shared::reading(grad), out, grad.len())) }
}

fn affine(k: &Coefficients, map: &[f32], grad: Shared<f32>, out: Shared<f32>, len: usize) {
    let channels = k.k1.len();
    assert!(k.k2.len() == channels && k.k3.len() == channels, "three coefficients per channel");
    assert!(map.len() == len && channels.is_multiple_of(8) && len.is_multiple_of(channels), "whole rows of one shape");
    let rows = len / channels;
    let (each, n) = chunks(rows, channels);
    tiles(n, len, |chunk| {
        let range = chunk * each * channels..rows.min((chunk + 1) * each) * channels;
        simd::run(Affine { k, map, grad, out, range }, channels);
    });
}

struct Affine<'a> {
    k: &'a Coefficients<'a>,
    map: &'a [f32],
    grad: Shared<f32>,
    out: Shared<f32>,
    range: std::ops::Range<usize>,
}

impl SimdKernel for Affine<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let channels = self.k.k1.len();
        for row in self.range.step_by(channels) {
            for c in (0..channels).step_by(S::LANES) {
                // SAFETY: `affine` has verified the lengths of maps and coefficients, and that
                // rows are a multiple of the lanes. Chunks are disjoint, and each value is read
                // before its place is written.
                unsafe {
                    let k = |k: &[f32]| S::load(k.as_ptr().add(c));
                    let (g, x) = (S::load(self.grad.at(row + c)), S::load(self.map.as_ptr().add(row + c)));
                    let sum = S::add(S::mul(k(self.k.k1), g), S::mul(k(self.k.k2), x));
                    S::store(self.out.at(row + c), S::add(sum, k(self.k.k3)));
                }
            }
        }
    }
}
