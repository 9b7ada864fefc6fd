//! Fixed-point weights for sums over spikes. No order of additions, number of threads or vector
//! width changes a bit of such a sum.
//!
//! The weights of a channel are rounded to multiples of a power of two, the smallest for which
//! the sum of all their absolute values fits an i32. This rounds a weight at 2⁻³⁰ of that sum,
//! which is no coarser than f32 rounds the sums themselves. The i32s are stored in the bits of
//! f32 lanes.

use crate::ops::cpu::parallel::{Shared, tiles};
use crate::ops::cpu::simd::{self, Simd, SimdKernel};
use crate::ops::{ConvShape, pad8};

/// A weight whose values are integers times a power of two per output channel.
pub(super) struct FixedPointWeight {
    /// OIHW, i32s in the bits of f32s.
    pub weight: Vec<f32>,
    /// The value of one unit of each output channel, 0 in the padding: `[pad8(c_out)]`.
    pub scale: Vec<f32>,
}

impl FixedPointWeight {
    /// Rounds an OIHW weight. A channel with a weight that is not finite gets a scale of NaN.
    pub(super) fn new(s: &ConvShape, weight: &[f32]) -> Self {
        let inputs = s.c_in * s.kernel * s.kernel;
        let (mut to, mut scale) = (vec![0f32; weight.len()], vec![0f32; pad8(s.c_out)]);
        let (rows, scales) = (Shared::new(&mut to), Shared::new(&mut scale));
        tiles(s.c_out, weight.len() * 2, |o| {
            let from = &weight[o * inputs..(o + 1) * inputs];
            // SAFETY: each output channel has its own row and its own scale.
            let (to, scale) = unsafe { (rows.slice(o * inputs, inputs), scales.slice(o, 1)) };
            let sum = absolute_sum(from);
            if sum.is_finite() {
                // Below 2^-97 the inverse would be too large for f32.
                let exponent = ((sum.to_bits() >> 23) as i32 - 127).max(-97);
                scale[0] = power_of_two(exponent - 29);
                simd::run(Round { from, factor: power_of_two(29 - exponent), to }, 16);
            } else {
                scale[0] = f32::NAN;
            }
        });
        Self { weight: to, scale }
    }
}

fn power_of_two(exponent: i32) -> f32 {
    f32::from_bits(((exponent + 127) << 23).cast_unsigned())
}

fn absolute_sum(values: &[f32]) -> f32 {
    let (lanes, rest) = values.as_chunks::<16>();
    let mut sums = [0f32; 16];
    for values in lanes {
        for (sum, x) in sums.iter_mut().zip(values) {
            *sum += x.abs();
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|x| x.abs()).sum::<f32>()
}

/// Writes `factor · from`, rounded to i32s.
struct Round<'a> {
    from: &'a [f32],
    factor: f32,
    to: &'a mut [f32],
}

impl SimdKernel for Round<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let vectors = self.from.len() / S::LANES * S::LANES;
        for i in (0..vectors).step_by(S::LANES) {
            // SAFETY: both slices hold `LANES` floats from `i` on.
            unsafe {
                let x = S::mul(S::load(self.from.as_ptr().add(i)), S::splat(self.factor));
                S::store(self.to.as_mut_ptr().add(i), S::to_ints(x));
            }
        }
        for (to, from) in self.to[vectors..].iter_mut().zip(&self.from[vectors..]) {
            *to = f32::from_bits(((from * self.factor).round_ties_even() as i32).cast_unsigned());
        }
    }
}

/// Multiplies fixed-point sums by their `scale`, in place.
pub(super) struct ScaleInPlace<'a> {
    /// The first channel of the block at the first pixel.
    pub target: *mut f32,
    pub pixels: usize,
    /// Floats between two pixels.
    pub stride: usize,
    /// A factor per channel of the block.
    pub scale: &'a [f32],
}

impl SimdKernel for ScaleInPlace<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for i in (0..self.scale.len()).step_by(S::LANES) {
            // SAFETY: a block is a multiple of the vector's lanes, and the caller owns the block of these pixels.
            unsafe {
                let scale = S::load(self.scale.as_ptr().add(i));
                for pixel in 0..self.pixels {
                    let at = self.target.add(pixel * self.stride + i);
                    S::store(at, S::mul(S::from_ints(S::load(at)), scale));
                }
            }
        }
    }
}
