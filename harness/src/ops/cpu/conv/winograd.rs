//! The input's gradient of 3×3 stride-1 convolutions by Winograd's F(4×4, 3×3) (Lavin & Gray 2016): 36 products for
//! 16 outputs instead of 144. It rounds to about 1e-6 of the norm: gradients only, a forward pass could flip spikes.

use super::super::super::{ConvShape, pad8};
use super::super::parallel::{Aligned, Shared, scratch, tiles};
use super::super::simd::{self, Kernel, Level, Simd};
use super::blocks;
use super::dense::{PIXELS_STEP, Pixel, Sweep, slices};
use super::pack::Weights;

/// Points of a transformed 6×6 tile.
const POINTS: usize = 36;
/// Tiles whose products are in the second-level cache together; a multiple of every register tile's height.
const GROUP: usize = 72;
/// Up to this many pairs of channels the transformed weights (9 MB) stay in the last-level cache.
const SMALL_WEIGHT: usize = 256 * 256;
/// Floats of the transformed gradient that are in memory together.
const TRANSFORMED: usize = 1 << 20;
/// Floats between the ends of two points' planes: a power of two would put all 36 in one cache set.
const SKEW: usize = 16;

/// Whether it beats the direct convolution: tiles must be well filled, channels fill a vector.
pub(super) fn pays(s: &ConvShape) -> bool {
    s.kernel == 3 && s.stride == 1 && s.padding <= 2 && s.height >= 3 && s.width >= 3 && s.c_in >= 5 && s.c_out >= 5
}

/// Geometry of the tiles of 4×4 input pixels.
#[derive(Clone, Copy)]
struct Tiles<'s> {
    s: &'s ConvShape,
    across: usize,
    down: usize,
}

impl Tiles<'_> {
    /// Image, first row and first column of a tile.
    fn corner(&self, tile: usize) -> (usize, usize, usize) {
        let (image, rest) = (tile / (self.down * self.across), tile % (self.down * self.across));
        (image, rest / self.across * 4, rest % self.across * 4)
    }
}

/// The gradient of the input, written to `target`, or added to it if `accumulate`.
pub(super) fn grad_input(s: &ConvShape, weight: &[f32], grad_out: &[f32], target: Shared<f32>, accumulate: bool) {
    let wide = simd::level() == Level::Avx512;
    let blocks = blocks(pad8(s.c_in), if wide { 32 } else { 16 });
    let packed = pack(s, weight, &blocks);
    let grid = Tiles { s, across: s.width.div_ceil(4), down: s.height.div_ceil(4) };
    let job = Job { grid, blocks: &blocks, packed: &packed, grad_out, target, accumulate };
    if s.c_in * s.c_out <= SMALL_WEIGHT {
        job.by_tiles(if wide { 48 } else { 24 });
    } else {
        job.by_weights();
    }
}

/// What all tasks of one gradient share.
#[derive(Clone, Copy)]
struct Job<'a> {
    grid: Tiles<'a>,
    blocks: &'a [(usize, usize)],
    packed: &'a [f32],
    grad_out: &'a [f32],
    target: Shared<f32>,
    accumulate: bool,
}

impl Job<'_> {
    fn tiles(&self) -> usize {
        self.grid.s.images * self.grid.across * self.grid.down
    }

    /// Small weights, many tiles: the weights are transformed once, and each task takes a group of tiles all the way.
    fn by_tiles(&self, group: usize) {
        let s = self.grid.s;
        let (channels, total) = (pad8(s.c_out), self.tiles());
        let plane = POINTS * s.c_out;
        let mut turned = Aligned::zeros(plane * pad8(s.c_in));
        let shared = Shared::new(&mut turned);
        tiles(self.blocks.len(), turned.len(), |block| {
            let (start, width) = self.blocks[block];
            // SAFETY: blocks are disjoint ranges of `turned`.
            self.turn(block, unsafe { shared.slice(start * plane, width * plane) });
        });
        tiles(total.div_ceil(group), total * s.c_in * s.c_out * POINTS, |step| {
            let tiles = step * group..total.min((step + 1) * group);
            let stride = group * channels + SKEW;
            scratch(POINTS * stride, |transformed| {
                let to = transformed.as_mut_ptr();
                simd::run(
                    Transform { grid: self.grid, tiles: tiles.clone(), grad_out: self.grad_out, to, stride },
                    channels,
                );
                for (block, &(start, width)) in self.blocks.iter().enumerate() {
                    let turned = &turned[start * plane..][..width * plane];
                    self.multiply(block, turned, (transformed, stride), tiles.clone(), group);
                }
            });
        });
    }

    /// Large weights: each task transforms one block of them and takes it through many tiles, transformed before.
    fn by_weights(&self) {
        let s = self.grid.s;
        let (channels, total) = (pad8(s.c_out), self.tiles());
        let together = (TRANSFORMED / (POINTS * channels)).next_multiple_of(GROUP).min(total);
        let stride = together * channels + SKEW;
        scratch(POINTS * stride, |plane| {
            for first in (0..total).step_by(together) {
                let count = together.min(total - first);
                let shared = Shared::new(plane);
                tiles(count.div_ceil(8), count * channels * 256, |step| {
                    let tiles = first + 8 * step..first + count.min(8 * step + 8);
                    let to = shared.at(8 * step * channels);
                    simd::run(Transform { grid: self.grid, tiles, grad_out: self.grad_out, to, stride }, channels);
                });
                let transformed = &*plane;
                let groups = count.div_ceil(GROUP);
                tiles(groups * self.blocks.len(), count * s.c_in * s.c_out * POINTS, |task| {
                    let (block, group) = (task / groups, task % groups);
                    let range = group * GROUP..count.min((group + 1) * GROUP);
                    let from = &transformed[range.start * channels..];
                    scratch(POINTS * s.c_out * self.blocks[block].1, |turned| {
                        self.turn(block, turned);
                        self.multiply(block, turned, (from, stride), first + range.start..first + range.end, GROUP);
                    });
                });
            }
        });
    }

    /// The transformed weights of a block, `[point][c_out][width]`.
    fn turn(&self, block: usize, to: &mut [f32]) {
        let (start, width) = self.blocks[block];
        let c_out = self.grid.s.c_out;
        assert_eq!(to.len(), POINTS * c_out * width, "room for all points");
        let weight = &self.packed[start * 9 * c_out..][..9 * c_out * width];
        simd::run(TransformWeights { weight, to: to.as_mut_ptr(), c_out, width }, width);
    }

    /// Multiplies a group of transformed tiles (at most `group`) by a block's weights and transforms back.
    fn multiply(
        &self,
        block: usize,
        turned: &[f32],
        (from, stride): (&[f32], usize),
        tiles: std::ops::Range<usize>,
        group: usize,
    ) {
        let s = self.grid.s;
        let (start, width) = self.blocks[block];
        let (real, channels) = (tiles.len(), pad8(s.c_out));
        let mut pixels: Vec<Pixel> = (0..real).map(|t| Pixel { from: t * channels, to: t * width }).collect();
        pixels.resize(real.next_multiple_of(PIXELS_STEP), pixels[real - 1]);
        let slices = slices(1, s.c_out, width);
        let (weights, products) = (s.c_out * width, group * width + SKEW);
        scratch(POINTS * products, |product| {
            for point in 0..POINTS {
                let sweep = Sweep {
                    source: from[point * stride..].as_ptr(),
                    pixels: &pixels,
                    real,
                    taps: &[0],
                    slices: &slices,
                    weight: turned[point * weights..].as_ptr(),
                    width,
                    target: product[point * products..].as_mut_ptr(),
                    accumulate: false,
                };
                simd::run(sweep, width);
            }
            let back = TransformBack { job: self, tiles, from: product.as_ptr(), stride: products, start, width };
            simd::run(back, width);
        });
    }
}

/// `[block][tap, turned by 180°][c_out][width]`.
fn pack(s: &ConvShape, weight: &[f32], blocks: &[(usize, usize)]) -> Aligned {
    let weights = Weights::transposed(s, weight);
    let taps: Vec<usize> = (0..9).rev().collect();
    let mut packed = Aligned::zeros(9 * s.c_out * pad8(s.c_in));
    let shared = Shared::new(&mut packed);
    tiles(blocks.len(), weight.len() * 4, |b| {
        let (start, width) = blocks[b];
        // SAFETY: blocks are disjoint ranges of `packed`.
        let out = unsafe { shared.slice(start * 9 * s.c_out, 9 * s.c_out * width) };
        weights.pack(&taps, 0..s.c_out, start..s.c_in.min(start + width).max(start), width, out);
    });
    packed
}

/// One dimension of the gradient's transform.
#[inline(always)]
unsafe fn forward<S: Simd>(d: [S::V; 6]) -> [S::V; 6] {
    // SAFETY: the caller's CPU has the instructions of `S` (here and below).
    unsafe {
        let (two, four, minus_four, minus_five) = (S::splat(2.0), S::splat(4.0), S::splat(-4.0), S::splat(-5.0));
        let (a, b) = (S::fma(minus_four, d[2], d[4]), S::fma(minus_four, d[1], d[3]));
        let (c, e) = (S::sub(d[4], d[2]), S::sub(d[3], d[1]));
        [
            S::fma(four, d[0], S::fma(minus_five, d[2], d[4])),
            S::add(a, b),
            S::sub(a, b),
            S::fma(two, e, c),
            S::fma(S::splat(-2.0), e, c),
            S::fma(four, d[1], S::fma(minus_five, d[3], d[5])),
        ]
    }
}

/// One dimension of the weight's transform.
#[inline(always)]
unsafe fn weights<S: Simd>(g: [S::V; 3]) -> [S::V; 6] {
    unsafe {
        let zero = S::zero();
        let (sixth, quarter) = (S::splat(1.0 / 6.0), S::splat(0.25));
        let ends = S::add(g[0], g[2]);
        let q = S::fma(S::splat(1.0 / 24.0), g[0], S::fma(sixth, g[2], zero));
        [
            S::fma(quarter, g[0], zero),
            S::fma(S::splat(-1.0 / 6.0), S::add(ends, g[1]), zero),
            S::fma(sixth, S::sub(g[1], ends), zero),
            S::fma(S::splat(1.0 / 12.0), g[1], q),
            S::fma(S::splat(-1.0 / 12.0), g[1], q),
            g[2],
        ]
    }
}

/// One dimension of the way back.
#[inline(always)]
unsafe fn back<S: Simd>(m: [S::V; 6]) -> [S::V; 4] {
    unsafe {
        let (a, b) = (S::add(m[1], m[2]), S::sub(m[1], m[2]));
        let (c, d) = (S::add(m[3], m[4]), S::sub(m[3], m[4]));
        [
            S::add(m[0], S::add(a, c)),
            S::fma(S::splat(2.0), d, b),
            S::fma(S::splat(4.0), c, a),
            S::add(S::fma(S::splat(8.0), d, b), m[5]),
        ]
    }
}

/// Some tiles of the gradient to `[point][tile][c_out]`.
struct Transform<'a> {
    grid: Tiles<'a>,
    tiles: std::ops::Range<usize>,
    grad_out: &'a [f32],
    to: *mut f32,
    stride: usize,
}

impl Kernel for Transform<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let s = self.grid.s;
        let (height, width, channels) = (s.out_height(), s.out_width(), pad8(s.c_out));
        for (k, tile) in self.tiles.clone().enumerate() {
            let (image, y, x) = self.grid.corner(tile);
            // Row y of the input meets rows y + padding - 2 .. of the output's gradient.
            let (y, x) = ((y + s.padding) as isize - 2, (x + s.padding) as isize - 2);
            for c in (0..channels).step_by(S::LANES) {
                // SAFETY: only pixels inside the map are read; the task owns its tiles of each plane.
                unsafe {
                    let mut columns = [[S::zero(); 6]; 6];
                    for j in 0..6 {
                        let mut d = [S::zero(); 6];
                        let column = x + j as isize;
                        if column >= 0 && (column as usize) < width {
                            for i in 0..6 {
                                let row = y + i as isize;
                                if row >= 0 && (row as usize) < height {
                                    let at = (image * height + row as usize) * width + column as usize;
                                    d[i] = S::load(self.grad_out.as_ptr().add(at * channels + c));
                                }
                            }
                        }
                        columns[j] = forward::<S>(d);
                    }
                    for i in 0..6 {
                        let row = forward::<S>([0, 1, 2, 3, 4, 5].map(|j| columns[j][i]));
                        for j in 0..6 {
                            S::store(self.to.add((i * 6 + j) * self.stride + k * channels + c), row[j]);
                        }
                    }
                }
            }
        }
    }
}

/// `[tap][c_out][width]` to `[point][c_out][width]`.
struct TransformWeights<'a> {
    weight: &'a [f32],
    to: *mut f32,
    c_out: usize,
    width: usize,
}

impl Kernel for TransformWeights<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let plane = self.c_out * self.width;
        for at in (0..plane).step_by(S::LANES) {
            // SAFETY: `weight` holds 9 planes and `to` 36.
            unsafe {
                let mut columns = [[S::zero(); 6]; 3];
                for j in 0..3 {
                    let tap = |i: usize| self.weight.as_ptr().add((3 * i + j) * plane + at);
                    columns[j] = weights::<S>([S::load(tap(0)), S::load(tap(1)), S::load(tap(2))]);
                }
                for i in 0..6 {
                    let row = weights::<S>([columns[0][i], columns[1][i], columns[2][i]]);
                    for j in 0..6 {
                        S::store(self.to.add((i * 6 + j) * plane + at), row[j]);
                    }
                }
            }
        }
    }
}

/// `[point][tile][width]` to the 4×4 pixels of each tile.
struct TransformBack<'a> {
    job: &'a Job<'a>,
    tiles: std::ops::Range<usize>,
    from: *const f32,
    stride: usize,
    start: usize,
    width: usize,
}

impl Kernel for TransformBack<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let (job, s) = (self.job, self.job.grid.s);
        for (k, tile) in self.tiles.clone().enumerate() {
            let (image, y, x) = job.grid.corner(tile);
            for c in (0..self.width).step_by(S::LANES) {
                // SAFETY: `from` holds 36 planes; the task owns these channels of its tiles' pixels.
                unsafe {
                    let mut columns = [[S::zero(); 4]; 6];
                    for j in 0..6 {
                        let point = |i: usize| S::load(self.from.add((6 * i + j) * self.stride + k * self.width + c));
                        columns[j] = back::<S>([point(0), point(1), point(2), point(3), point(4), point(5)]);
                    }
                    for i in 0..4.min(s.height - y) {
                        let row = back::<S>([0, 1, 2, 3, 4, 5].map(|j| columns[j][i]));
                        for j in 0..4.min(s.width - x) {
                            let at = (image * s.height + y + i) * s.width + x + j;
                            let to = job.target.at(at * pad8(s.c_in) + self.start + c);
                            S::store(to, if job.accumulate { S::add(S::load(to), row[j]) } else { row[j] });
                        }
                    }
                }
            }
        }
    }
}
