//! The input's gradient of 3×3 convolutions of stride 1 by Winograd's F(4×4, 3×3) (Lavin & Gray
//! 2016): 36 products for 16 outputs instead of 144. It rounds to about 1e-6 of the norm, so it
//! is used for gradients only: in a forward pass it could flip spikes.

mod transform;

use crate::ops::cpu::conv::pack::Weights;
use crate::ops::cpu::conv::tiles::blocks;
use crate::ops::cpu::parallel::{Aligned, Shared, scratch, tiles};
use crate::ops::cpu::simd::{self, Level, Simd, SimdKernel};
use crate::ops::{ConvShape, pad8};
use std::ops::Range;
use transform::{Transform, TransformBack, TransformWeights};

/// Points per transformed 6×6 tile.
const POINTS: usize = 36;
/// Channels of the gradient whose weights are in the first-level cache at the same time.
const CHUNK_CHANNELS: usize = 128;
/// Tiles whose products are in the second-level cache at the same time; a multiple of the
/// height of every register tile.
const GROUP_TILES: usize = 72;
/// If there are fewer groups than this, groups have [`SMALL_GROUP_TILES`] tiles, so that
/// threads share them evenly.
const FEW_GROUPS: usize = 8;
const SMALL_GROUP_TILES: usize = 24;
/// Up to this many pairs of channels, the transformed weights (9 MB) stay in the last-level
/// cache.
const MAX_CACHED_CHANNEL_PAIRS: usize = 256 * 256;
/// The maximum number of floats of the transformed gradient that are in memory at the same
/// time.
const MAX_TRANSFORMED_FLOATS: usize = 1 << 20;
/// Extra floats between the planes of two points. A distance of a power of two would put all 36
/// planes into one set of the cache.
const PLANE_SKEW: usize = 16;

/// Whether Winograd is faster than the direct convolution: tiles must be well filled, and
/// channels must fill a vector.
pub(super) fn is_faster(s: &ConvShape) -> bool {
    s.kernel == 3 && s.stride == 1 && s.padding <= 2 && s.height >= 3 && s.width >= 3 && s.c_in >= 5 && s.c_out >= 5
}

/// The grid of tiles of 4×4 input pixels.
#[derive(Clone, Copy)]
struct TileGrid<'s> {
    s: &'s ConvShape,
    across: usize,
    down: usize,
}

impl TileGrid<'_> {
    /// The image, first row and first column of each tile in `tiles`.
    fn corners(self, tiles: Range<usize>) -> impl Iterator<Item = (usize, usize, usize)> {
        let (mut image, rest) = (tiles.start / (self.down * self.across), tiles.start % (self.down * self.across));
        let (mut y, mut x) = (rest / self.across, rest % self.across);
        tiles.map(move |_| {
            let corner = (image, 4 * y, 4 * x);
            x += 1;
            if x == self.across {
                (x, y) = (0, y + 1);
            }
            if y == self.down {
                (y, image) = (0, image + 1);
            }
            corner
        })
    }
}

/// The gradient of the input, written to `target`, or added to it if `accumulate`.
pub(super) fn grad_input(s: &ConvShape, weight: &[f32], grad_out: &[f32], target: Shared<f32>, accumulate: bool) {
    let wide = simd::level() == Level::Avx512;
    let blocks = blocks(pad8(s.c_in), if wide { 32 } else { 16 });
    let packed = pack(s, weight, &blocks);
    let grid = TileGrid { s, across: s.width.div_ceil(4), down: s.height.div_ceil(4) };
    let job = Job { grid, blocks: &blocks, packed: &packed, grad_out, target, accumulate };
    if s.c_in * s.c_out <= MAX_CACHED_CHANNEL_PAIRS {
        job.by_tiles(if wide { 48 } else { 36 });
    } else {
        job.by_weights();
    }
}

/// The operands that all tasks of one gradient share.
#[derive(Clone, Copy)]
struct Job<'a> {
    grid: TileGrid<'a>,
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

    /// For small weights: they are transformed once, and each task takes a group of tiles
    /// through all stages.
    fn by_tiles(&self, group: usize) {
        let s = self.grid.s;
        let (channels, total) = (pad8(s.c_out), self.tiles());
        let plane = POINTS * s.c_out;
        let transform_all = |transformed_weights: Shared<f32>| {
            tiles(self.blocks.len(), plane * pad8(s.c_in), |block| {
                let (start, width) = self.blocks[block];
                // SAFETY: blocks are disjoint ranges of `transformed_weights`.
                self.transform_weights(block, unsafe { transformed_weights.zeroed(start * plane, width * plane) });
            });
        };
        // SAFETY: the blocks cover all channels, and all points of each block are written.
        let transformed_weights = unsafe { Aligned::from_uninit(plane * pad8(s.c_in), transform_all) };
        let group = if total < FEW_GROUPS * group { SMALL_GROUP_TILES } else { group };
        tiles(total.div_ceil(group), total * s.c_in * s.c_out * POINTS, |step| {
            let tiles = step * group..total.min((step + 1) * group);
            let stride = group * channels + PLANE_SKEW;
            scratch(POINTS * stride, |transformed| {
                let to = transformed.as_mut_ptr();
                simd::run(
                    Transform { grid: self.grid, tiles: tiles.clone(), grad_out: self.grad_out, to, stride },
                    channels,
                );
                for (block, &(start, width)) in self.blocks.iter().enumerate() {
                    let transformed_weights = &transformed_weights[start * plane..][..width * plane];
                    self.multiply(block, transformed_weights, (transformed, stride), tiles.clone(), group);
                }
            });
        });
    }

    /// For large weights: the tiles are transformed first, and each task transforms one block
    /// of the weights and multiplies many tiles by it.
    fn by_weights(&self) {
        let s = self.grid.s;
        let (channels, total) = (pad8(s.c_out), self.tiles());
        let together = (MAX_TRANSFORMED_FLOATS / (POINTS * channels)).next_multiple_of(GROUP_TILES).min(total);
        let stride = together * channels + PLANE_SKEW;
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
                let groups = count.div_ceil(GROUP_TILES);
                tiles(groups * self.blocks.len(), count * s.c_in * s.c_out * POINTS, |task| {
                    let (block, group) = (task / groups, task % groups);
                    let range = group * GROUP_TILES..count.min((group + 1) * GROUP_TILES);
                    let from = &transformed[range.start * channels..];
                    scratch(POINTS * s.c_out * self.blocks[block].1, |transformed_weights| {
                        self.transform_weights(block, transformed_weights);
                        self.multiply(
                            block,
                            transformed_weights,
                            (from, stride),
                            first + range.start..first + range.end,
                            GROUP_TILES,
                        );
                    });
                });
            }
        });
    }

    /// Writes the transformed weights of a block, `[point][c_out][width]`.
    fn transform_weights(&self, block: usize, to: &mut [f32]) {
        let (start, width) = self.blocks[block];
        let c_out = self.grid.s.c_out;
        assert_eq!(to.len(), POINTS * c_out * width, "room for all points");
        let weight = &self.packed[start * 9 * c_out..][..9 * c_out * width];
        simd::run(TransformWeights { weight, to: to.as_mut_ptr(), c_out, width }, width);
    }

    /// Multiplies a group of transformed tiles (at most `group`) by a block's weights and
    /// transforms the products back.
    fn multiply(
        &self,
        block: usize,
        transformed_weights: &[f32],
        (from, stride): (&[f32], usize),
        tiles: Range<usize>,
        group: usize,
    ) {
        let s = self.grid.s;
        let (start, width) = self.blocks[block];
        assert!(
            transformed_weights.len() >= POINTS * s.c_out * width && tiles.len() <= group,
            "all points' weights, no more tiles"
        );
        assert!(from.len() >= (POINTS - 1) * stride + tiles.len() * pad8(s.c_out), "all points of all tiles");
        let products = group * width + PLANE_SKEW;
        scratch(POINTS * products, |product| {
            let to = product.as_mut_ptr();
            let product = Product {
                from: from.as_ptr(),
                rows: tiles.len(),
                channels: pad8(s.c_out),
                stride,
                weight: transformed_weights.as_ptr(),
                c_out: s.c_out,
                width,
                to,
                products,
            };
            simd::run(product, width);
            let back = TransformBack { job: self, tiles, from: to, stride: products, start, width };
            simd::run(back, width);
        });
    }
}

/// A matrix product per point: the tiles' rows of channels by a block of the transformed
/// weights.
struct Product {
    /// `[point][tile][channels]`, with `stride` floats between two points.
    from: *const f32,
    /// The number of tiles.
    rows: usize,
    channels: usize,
    stride: usize,
    /// `[point][c_out][width]`.
    weight: *const f32,
    c_out: usize,
    width: usize,
    /// `[point][tile][width]`, with `products` floats between two points.
    to: *mut f32,
    products: usize,
}

impl SimdKernel for Product {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: `multiply` passes buffers that hold all points.
        unsafe {
            match (self.width / S::LANES, S::REGISTERS) {
                (2, 32) => self.points::<S, 12, 2>(),
                (1, 32) => self.points::<S, 24, 1>(),
                (2, 16) => self.points::<S, 6, 2>(),
                (1, 16) => self.points::<S, 12, 1>(),
                (2, _) => self.points::<S, 3, 2>(),
                _ => self.points::<S, 6, 1>(),
            }
        }
    }
}

impl Product {
    #[inline(always)]
    unsafe fn points<S: Simd, const P: usize, const N: usize>(&self) {
        for point in 0..POINTS {
            for first in (0..self.c_out).step_by(CHUNK_CHANNELS) {
                let run = first..self.c_out.min(first + CHUNK_CHANNELS);
                // SAFETY: passed on.
                unsafe {
                    let mut row = 0;
                    while row + P <= self.rows {
                        self.tile::<S, P, N>(point, row, run.clone());
                        row += P;
                    }
                    while row + 3 <= self.rows {
                        self.tile::<S, 3, N>(point, row, run.clone());
                        row += 3;
                    }
                    while row < self.rows {
                        self.tile::<S, 1, N>(point, row, run.clone());
                        row += 1;
                    }
                }
            }
        }
    }

    /// Accumulates `P` rows by `N` vectors in registers, over the channels `run`.
    #[inline(always)]
    unsafe fn tile<S: Simd, const P: usize, const N: usize>(&self, point: usize, row: usize, run: Range<usize>) {
        // SAFETY: the caller's rows and channels lie in the buffers.
        unsafe {
            let to = self.to.add(point * self.products + row * N * S::LANES);
            let mut sum = [[S::zero(); N]; P];
            if run.start > 0 {
                for p in 0..P {
                    for n in 0..N {
                        sum[p][n] = S::load(to.add((p * N + n) * S::LANES));
                    }
                }
            }
            let mut from = self.from.add(point * self.stride + row * self.channels + run.start);
            let mut weight = self.weight.add((point * self.c_out + run.start) * N * S::LANES);
            for _ in run {
                let mut w = [S::zero(); N];
                for n in 0..N {
                    w[n] = S::load(weight.add(n * S::LANES));
                }
                for p in 0..P {
                    let x = S::splat(*from.add(p * self.channels));
                    for n in 0..N {
                        sum[p][n] = S::fma(x, w[n], sum[p][n]);
                    }
                }
                from = from.add(1);
                weight = weight.add(N * S::LANES);
            }
            for p in 0..P {
                for n in 0..N {
                    S::store(to.add((p * N + n) * S::LANES), sum[p][n]);
                }
            }
        }
    }
}

/// The weight as `[block][tap, rotated by 180°][c_out][width]`.
fn pack(s: &ConvShape, weight: &[f32], blocks: &[(usize, usize)]) -> Aligned {
    let weights = Weights::transposed(s, weight);
    let taps: Vec<usize> = (0..9).rev().collect();
    let fill = |packed: Shared<f32>| {
        tiles(blocks.len(), weight.len() * 4, |b| {
            let (start, width) = blocks[b];
            // SAFETY: blocks are disjoint ranges of `packed`.
            let out = unsafe { packed.zeroed(start * 9 * s.c_out, 9 * s.c_out * width) };
            weights.pack(&taps, 0..s.c_out, start..s.c_in.min(start + width).max(start), width, out);
        });
    };
    // SAFETY: the blocks cover all channels, and all rows of each block are written.
    unsafe { Aligned::from_uninit(9 * s.c_out * pad8(s.c_in), fill) }
}
