//! Plain f64 loops with which the kernels are compared, and random inputs.

use crate::ops::cpu::{Level, limit};
use crate::ops::{ConvShape, pad8};
use crate::rng::{Purpose, Stream};
use proptest::strategy::Strategy;
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The instruction level is global to the process. Tests that change it hold the lock for
/// writing, the others for reading.
static LEVEL: RwLock<()> = RwLock::new(());

pub fn any_level() -> RwLockReadGuard<'static, ()> {
    LEVEL.read().unwrap_or_else(|e| e.into_inner())
}

/// Limits the instructions while it lives.
pub struct LimitedLevel(#[allow(dead_code)] RwLockWriteGuard<'static, ()>);

/// Limits the instructions to `level` for this test alone.
pub fn limited_level(level: Level) -> LimitedLevel {
    let guard = LEVEL.write().unwrap_or_else(|e| e.into_inner());
    limit(level);
    LimitedLevel(guard)
}

impl Drop for LimitedLevel {
    fn drop(&mut self) {
        limit(Level::Avx512);
    }
}

/// Convolutions with at least one output pixel, from (images, height, width), (input channels,
/// output channels) and (kernel, stride, padding).
pub fn shapes<A, B, C>(size: A, channels: B, geometry: C) -> impl Strategy<Value = ConvShape>
where
    A: Strategy<Value = (usize, usize, usize)>,
    B: Strategy<Value = (usize, usize)>,
    C: Strategy<Value = (usize, usize, usize)>,
{
    (size, channels, geometry).prop_filter_map(
        "no output pixel",
        |((images, height, width), (c_in, c_out), (kernel, stride, padding))| {
            let fits = kernel <= height.min(width) + 2 * padding;
            fits.then_some(ConvShape { images, height, width, c_in, c_out, kernel, stride, padding })
        },
    )
}

pub fn stream(seed: u64) -> Stream {
    Stream::new(seed, Purpose::Synthetic, (0, 0))
}

pub fn normals(seed: u64, n: usize) -> Vec<f32> {
    let mut stream = stream(seed);
    (0..n).map(|_| stream.normal() as f32).collect()
}

/// Rows of `channels` random values, with 0 in the padding.
pub fn map(seed: u64, rows: usize, channels: usize) -> Vec<f32> {
    let mut map = normals(seed, rows * pad8(channels));
    for row in map.chunks_exact_mut(pad8(channels)) {
        row[channels..].fill(0.0);
    }
    map
}

/// Rows of spikes with the given density, as 0/1 floats and as bits.
pub fn spikes(seed: u64, rows: usize, channels: usize, density: f64) -> (Vec<f32>, Vec<u8>) {
    let mut stream = stream(seed);
    let c = pad8(channels);
    let floats: Vec<f32> =
        (0..rows * c).map(|i| if i % c < channels && stream.uniform() < density { 1.0 } else { 0.0 }).collect();
    let bits = pack(&floats);
    (floats, bits)
}

pub fn pack(floats: &[f32]) -> Vec<u8> {
    floats.chunks_exact(8).map(|x| (0..8).fold(0, |b, k| b | (u8::from(x[k] != 0.0) << k))).collect()
}

/// Calls `f(output index, input index, weight index)` for every product of the convolution. The
/// first two are indices into padded maps.
fn products(s: &ConvShape, mut f: impl FnMut(usize, usize, usize)) {
    for image in 0..s.images {
        for oy in 0..s.out_height() {
            for ox in 0..s.out_width() {
                for ky in 0..s.kernel {
                    for kx in 0..s.kernel {
                        let (y, x) = (oy * s.stride + ky, ox * s.stride + kx);
                        if y < s.padding || x < s.padding || y - s.padding >= s.height || x - s.padding >= s.width {
                            continue;
                        }
                        let from = ((image * s.height + y - s.padding) * s.width + x - s.padding) * pad8(s.c_in);
                        let to = ((image * s.out_height() + oy) * s.out_width() + ox) * pad8(s.c_out);
                        for o in 0..s.c_out {
                            for i in 0..s.c_in {
                                f(to + o, from + i, ((o * s.c_in + i) * s.kernel + ky) * s.kernel + kx);
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Sums of products in f64, and of the squares of the products. A sum may cancel to almost
/// nothing by chance, but the roundings of its terms do not. Errors are therefore measured
/// relative to the size that the sum would have if its terms had random signs.
pub struct Sums {
    values: Vec<f64>,
    squares: Vec<f64>,
}

impl Sums {
    fn new(len: usize) -> Self {
        Self { values: vec![0.0; len], squares: vec![0.0; len] }
    }

    fn add(&mut self, i: usize, term: f64) {
        self.values[i] += term;
        self.squares[i] += term * term;
    }

    /// These sums added to the values of `start`.
    pub fn onto(mut self, start: &[f32]) -> Self {
        start.iter().enumerate().for_each(|(i, x)| self.add(i, f64::from(*x)));
        self
    }

    /// Panics unless `got` is within `tolerance` of the sums, relative to the norm of their
    /// sizes, and no element is off by 100 times that share of the largest size.
    pub fn agree(&self, name: &str, got: &[f32], tolerance: f64) {
        let sizes = self.squares.iter().map(|s| s.sqrt()).zip(&self.values).map(|(s, v)| s.max(v.abs()));
        within(name, got, &self.values, sizes, tolerance);
    }
}

pub fn forward(s: &ConvShape, x: &[f32], w: &[f32]) -> Sums {
    let mut out = Sums::new(s.out_len());
    products(s, |o, i, k| out.add(o, f64::from(x[i]) * f64::from(w[k])));
    out
}

pub fn grad_weight(s: &ConvShape, x: &[f32], g: &[f32]) -> Sums {
    let mut out = Sums::new(s.weight_len());
    products(s, |o, i, k| out.add(k, f64::from(x[i]) * f64::from(g[o])));
    out
}

pub fn grad_input(s: &ConvShape, w: &[f32], g: &[f32]) -> Sums {
    let mut out = Sums::new(s.in_len());
    products(s, |o, i, k| out.add(i, f64::from(w[k]) * f64::from(g[o])));
    out
}

/// Panics unless `got` is within `tolerance` of `want`, relative to the norm, and no element is
/// off by 100 times that share of the largest.
pub fn close(name: &str, got: &[f32], want: &[f64], tolerance: f64) {
    within(name, got, want, want.iter().map(|w| w.abs()), tolerance);
}

fn within(name: &str, got: &[f32], want: &[f64], sizes: impl Iterator<Item = f64>, tolerance: f64) {
    assert_eq!(got.len(), want.len(), "{name}");
    let (squares, largest) = sizes.fold((0.0f64, 0.0f64), |(sum, max), size| (sum + size * size, max.max(size)));
    let norm = squares.sqrt();
    let error = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).powi(2)).sum::<f64>().sqrt();
    assert!(error <= tolerance * norm, "{name}: error {error:e} of norm {norm:e}");
    let worst = got.iter().zip(want).map(|(g, w)| (f64::from(*g) - w).abs()).fold(0.0, f64::max);
    assert!(worst <= 100.0 * tolerance * largest, "{name}: one element is off by {worst:e} of {largest:e}");
}

/// Panics unless the padding channels of `map` are exactly 0.
pub fn padding_is_zero(name: &str, map: &[f32], channels: usize) {
    for row in map.chunks_exact(pad8(channels)) {
        assert!(row[channels..].iter().all(|x| x.to_bits() == 0), "{name}: a padding channel is not 0");
    }
}

/// Runs `f` on pools of 1 and 2 threads and panics unless the results are equal.
pub fn same_on_any_threads<T: PartialEq + std::fmt::Debug + Send>(f: impl Fn() -> T + Sync + Send) {
    let on = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(&f);
    assert!(on(1) == on(2), "one thread and two give different bits");
}
