//! The transforms of gradients and weights to the 36 points, and of products back to pixels.

use super::{Job, POINTS, TileGrid};
use crate::ops::cpu::simd::{self, Simd, SimdKernel};
use crate::ops::pad8;
use std::ops::Range;

/// One dimension of the gradient's transform.
#[inline(always)]
unsafe fn forward<S: Simd>(d: [S::V; 6]) -> [S::V; 6] {
    // SAFETY: the CPU has the instructions of `S`, which the caller guarantees (here and
    // below).
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

/// One dimension of the inverse transform.
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

/// Transforms some tiles of the gradient to `[point][tile][c_out]`.
pub(super) struct Transform<'a> {
    pub grid: TileGrid<'a>,
    pub tiles: Range<usize>,
    pub grad_out: &'a [f32],
    pub to: *mut f32,
    pub stride: usize,
}

impl SimdKernel for Transform<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let s = self.grid.s;
        let (height, width, channels) = (s.out_height(), s.out_width(), pad8(s.c_out));
        let zeros = vec![0.0; channels];
        for (k, (image, y, x)) in self.grid.corners(self.tiles.clone()).enumerate() {
            // Row y of the input meets the rows from y + padding - 2 on of the output's
            // gradient.
            let (y, x) = ((y + s.padding) as isize - 2, (x + s.padding) as isize - 2);
            let pixel = |i: usize, j: usize| {
                let pixel = ((image * height) as isize + y + i as isize) * width as isize + x + j as isize;
                self.grad_out.as_ptr().wrapping_offset(pixel * channels as isize)
            };
            // Prefetches the new pixels of the tile below: maps are larger than caches, and the
            // hardware prefetcher sees no pattern.
            for i in 6..10 {
                simd::prefetch(pixel(i, 1), 4 * channels);
            }
            let to = self.to.wrapping_add(k * channels);
            let (rows, columns) = (within(y, height), within(x, width));
            // SAFETY: all pixels lie in the map or are `zeros`; the task owns its tiles of each plane.
            unsafe {
                if rows.len() * columns.len() == POINTS {
                    let (corner, line) = (pixel(0, 0), width * channels);
                    self.tile::<S>(to, channels, |i, j| corner.add(i * line + j * channels));
                } else {
                    let mut pixels = [[zeros.as_ptr(); 6]; 6];
                    for i in rows {
                        for j in columns.clone() {
                            pixels[i][j] = pixel(i, j);
                        }
                    }
                    self.tile::<S>(to, channels, |i, j| pixels[i][j]);
                }
            }
        }
    }
}

impl Transform<'_> {
    /// Transforms 6×6 pixels to the points of a tile.
    #[inline(always)]
    unsafe fn tile<S: Simd>(&self, to: *mut f32, channels: usize, pixel: impl Fn(usize, usize) -> *const f32) {
        for c in (0..channels).step_by(S::LANES) {
            // SAFETY: passed on to the caller.
            unsafe {
                let mut columns = [[S::zero(); 6]; 6];
                for j in 0..6 {
                    let d = |i: usize| S::load(pixel(i, j).add(c));
                    columns[j] = forward::<S>([d(0), d(1), d(2), d(3), d(4), d(5)]);
                }
                for i in 0..6 {
                    let row = forward::<S>([0, 1, 2, 3, 4, 5].map(|j| columns[j][i]));
                    for j in 0..6 {
                        S::store(to.add((i * 6 + j) * self.stride + c), row[j]);
                    }
                }
            }
        }
    }
}

/// The part of six rows or columns from `first` on that lies inside a map of `size`.
fn within(first: isize, size: usize) -> Range<usize> {
    let start = (-first).clamp(0, 6) as usize;
    start..(size as isize - first).clamp(start as isize, 6) as usize
}

/// Transforms `[tap][c_out][width]` to `[point][c_out][width]`.
pub(super) struct TransformWeights<'a> {
    pub weight: &'a [f32],
    pub to: *mut f32,
    pub c_out: usize,
    pub width: usize,
}

impl SimdKernel for TransformWeights<'_> {
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

/// Transforms `[point][tile][width]` to the 4×4 pixels of each tile.
pub(super) struct TransformBack<'a> {
    pub job: &'a Job<'a>,
    pub tiles: Range<usize>,
    pub from: *const f32,
    pub stride: usize,
    pub start: usize,
    pub width: usize,
}

impl SimdKernel for TransformBack<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let s = self.job.grid.s;
        for (k, (image, y, x)) in self.job.grid.corners(self.tiles.clone()).enumerate() {
            let corner = (image * s.height + y) * s.width + x;
            let (rows, columns) = (s.height - y, s.width - x);
            // Prefetches the tile below.
            let next = self.job.target.at((corner + 4 * s.width) * pad8(s.c_in) + self.start);
            for pixel in 0..16 {
                let at = (pixel / 4 * s.width + pixel % 4) * pad8(s.c_in);
                simd::prefetch(next.wrapping_add(at), self.width);
            }
            // SAFETY: passed on.
            unsafe {
                if rows >= 4 && columns >= 4 {
                    self.tile::<S, true>(k, corner, (4, 4));
                } else {
                    self.tile::<S, false>(k, corner, (rows, columns));
                }
            }
        }
    }
}

impl TransformBack<'_> {
    /// Writes the `k`th tile to the pixels from `corner` on. If the tile is not `WHOLE`, only
    /// `inside` rows and columns of it lie in the map.
    #[inline(always)]
    unsafe fn tile<S: Simd, const WHOLE: bool>(&self, k: usize, corner: usize, inside: (usize, usize)) {
        let (channels, line, accumulate) = (pad8(self.job.grid.s.c_in), self.job.grid.s.width, self.job.accumulate);
        let (stride, width) = (self.stride, self.width);
        let from = self.from.wrapping_add(k * width);
        let to = self.job.target.at(corner * channels + self.start);
        for c in (0..width).step_by(S::LANES) {
            // SAFETY: `from` holds 36 planes; the task owns these channels of its tiles' pixels.
            unsafe {
                let mut columns = [[S::zero(); 4]; 6];
                for j in 0..6 {
                    let point = |i: usize| S::load(from.add((6 * i + j) * stride + c));
                    columns[j] = back::<S>([point(0), point(1), point(2), point(3), point(4), point(5)]);
                }
                for i in 0..4 {
                    let row = back::<S>([0, 1, 2, 3, 4, 5].map(|j| columns[j][i]));
                    for j in 0..4 {
                        if WHOLE || (i < inside.0 && j < inside.1) {
                            let to = to.wrapping_add((i * line + j) * channels + c);
                            S::store(to, if accumulate { S::add(S::load(to), row[j]) } else { row[j] });
                        }
                    }
                }
            }
        }
    }
}
