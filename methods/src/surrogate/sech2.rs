//! sech² without overflow: shared by Dspike and the sigmoid.

/// `sech²(x) = 4e/(1 + e)²` with `e = exp(-2|x|)`: no cancellation, no overflow.
pub(super) fn sech2(x: f64) -> f64 {
    let e = (-2.0 * x.abs()).exp();
    4.0 * e / ((1.0 + e) * (1.0 + e))
}

/// The same in f32, branch-free; relative error below 1e-6 while `|x| < 43`, and below 1e-37 absolutely beyond.
#[inline(always)]
pub(super) fn sech2_f32(x: f32) -> f32 {
    let (fraction, power) = split(x);
    ratio(exp2_fraction(fraction) * power)
}

/// Numbers that pass through the loops of [`each`] together.
const BLOCK: usize = 256;

/// A block on a cache line's border: a vector that lies across two lines and is read right after it was written waits for
/// the cache, which would make the whole surrogate half as slow again.
#[repr(align(64))]
struct Block([f32; BLOCK]);

/// Turns each `v` into `finish(v, sech²(factor · v))`, with the bits of [`sech2_f32`].
#[inline(always)]
pub(super) fn each(values: &mut [f32], factor: f32, finish: impl Fn(f32, f32) -> f32) {
    let (blocks, rest) = values.as_chunks_mut::<BLOCK>();
    for block in blocks {
        one(block, factor, &finish);
    }
    if rest.is_empty() {
        return;
    }
    let mut last = [0.0; BLOCK];
    last[..rest.len()].copy_from_slice(rest);
    one(&mut last, factor, &finish);
    rest.copy_from_slice(&last[..rest.len()]);
}

/// A processor overlaps more turns of short loops than of one long chain of operations that wait for each other.
#[inline(always)]
fn one(values: &mut [f32; BLOCK], factor: f32, finish: impl Fn(f32, f32) -> f32) {
    let (Block(x), Block(powers)) = (&mut Block([0.0; BLOCK]), &mut Block([0.0; BLOCK]));
    for i in 0..BLOCK {
        (x[i], powers[i]) = split(factor * values[i]);
    }
    for i in 0..BLOCK {
        x[i] = exp2_fraction(x[i]) * powers[i];
    }
    for i in 0..BLOCK {
        values[i] = finish(values[i], ratio(x[i]));
    }
}

/// `4e/(1 + e)²`.
#[inline(always)]
fn ratio(e: f32) -> f32 {
    4.0 * e / ((1.0 + e) * (1.0 + e))
}

/// `exp(-2|x|)` as `2^fraction · power`, the fraction in [-1/2, 1/2] and the power a whole one of 2.
#[inline(always)]
fn split(x: f32) -> (f32, f32) {
    // Adding 1.5 · 2²³ leaves round(y) in the low bits of the sum: vector code has no cheap float-to-int with Rust's saturation.
    const SHIFT: f32 = 12_582_912.0;
    let y = ((-2.0 * std::f32::consts::LOG2_E) * x.abs()).max(-126.0);
    let shifted = y + SHIFT;
    (y - (shifted - SHIFT), f32::from_bits(shifted.to_bits().wrapping_add(127) << 23))
}

/// `2^f` on [-1/2, 1/2], by a polynomial.
#[inline(always)]
fn exp2_fraction(f: f32) -> f32 {
    // Powers of ln 2 over factorials; the first term left out is below 1.2e-7.
    const C: [f32; 6] =
        [std::f32::consts::LN_2, 0.240_226_5, 0.055_504_11, 0.009_618_13, 0.001_333_355_8, 0.000_154_035_3];
    1.0 + f * (C[0] + f * (C[1] + f * (C[2] + f * (C[3] + f * (C[4] + f * C[5])))))
}
