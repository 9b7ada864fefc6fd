//! The weight's gradient for dense inputs: tiles of (tap, input channel) rows by output
//! channels are summed over the pixels in registers.

use crate::ops::cpu::conv::direct::Problem;
use crate::ops::cpu::conv::pack;
use crate::ops::cpu::conv::padded::MapSize;
use crate::ops::cpu::conv::tiles::blocks;
use crate::ops::cpu::parallel::{Aligned, Shared, map_tiles, scratch};
use crate::ops::cpu::simd::{self, Level, Simd, SimdKernel};
use crate::ops::{ConvShape, Input, pad8};

/// Pixels summed in registers before they are added to the partial sum. Their gradients stay in
/// the first-level cache.
const CHUNK: usize = 128;
/// Output pixels per padded band.
const BAND_PIXELS: usize = 512;
/// Lists of rows are padded to a multiple of this, which is a multiple of the height of every
/// register tile.
const ROWS_STEP: usize = 240;

/// The OIHW gradient of the weight.
pub(super) fn grad_weight(s: &ConvShape, x: Input, grad_out: &[f32], out: &mut [f32]) {
    let widest = if simd::level() == Level::Avx512 { 32 } else { 16 };
    let blocks = blocks(pad8(s.c_out), widest);
    let (height, width) = (s.out_height(), s.out_width());
    let rows = (BAND_PIXELS / width).clamp(1, height);
    let images = if rows == height { (BAND_PIXELS / (width * height)).clamp(1, s.images) } else { 1 };
    let (bands, groups) = (height.div_ceil(rows), s.images.div_ceil(images));
    // Each range of bands needs a partial sum. There are few of them if the weight is large,
    // because its channels then give enough tiles.
    let parts = blocks.len().min(8);
    let per_part = blocks.len().div_ceil(parts);
    let sums = (16 / parts).clamp(1, bands * groups);
    let per_sum = (bands * groups).div_ceil(sums);
    let taps_channels = s.kernel * s.kernel * s.c_in;
    let mut partials: Vec<Aligned> = (0..sums).map(|_| Aligned::zeros(taps_channels * pad8(s.c_out))).collect();
    let shared: Vec<Shared<f32>> = partials.iter_mut().map(|p| Shared::new(p)).collect();
    map_tiles(sums * parts, s.macs(), |tile| {
        let (sum, part) = (tile / parts, tile % parts);
        let mine = &blocks[(part * per_part).min(blocks.len())..((part + 1) * per_part).min(blocks.len())];
        for step in sum * per_sum..(bands * groups).min((sum + 1) * per_sum) {
            let (g, b) = (step / bands, step % bands);
            let image = g * images..s.images.min((g + 1) * images);
            let row = b * rows..height.min((b + 1) * rows);
            add_band(s, x, grad_out, (image, row), mine, shared[sum]);
        }
    });
    pack::unpack(s, &partials.iter().map(|p| &**p).collect::<Vec<_>>(), &blocks, out);
}

/// Adds the products of one band of pixels to the partial sum `[block][tap][c_in][width]`.
fn add_band(
    s: &ConvShape,
    x: Input,
    grad_out: &[f32],
    (images, rows): (std::ops::Range<usize>, std::ops::Range<usize>),
    blocks: &[(usize, usize)],
    partial: Shared<f32>,
) {
    let size = MapSize { height: s.height, width: s.width, channels: pad8(s.c_in) };
    let band = Problem::forward(s).band(images.clone(), rows.clone());
    let (out_width, out_channels) = (s.out_width(), pad8(s.c_out));
    let mut pixels = Vec::new();
    for (k, image) in images.enumerate() {
        for (i, row) in rows.clone().enumerate() {
            let from = (k * band.rows + i * s.stride) * band.columns;
            let to = (image * s.out_height() + row) * out_width;
            pixels.extend((0..out_width).map(|j| ((from + j * s.stride) * size.channels, (to + j) * out_channels)));
        }
    }
    let mut row_offsets = Vec::new();
    for tap in 0..s.kernel * s.kernel {
        let base = (tap / s.kernel * band.columns + tap % s.kernel) * size.channels;
        row_offsets.extend(base..base + s.c_in);
    }
    let real = row_offsets.len();
    row_offsets.resize(real.next_multiple_of(ROWS_STEP), 0);
    scratch(band.len(size), |buffer| {
        band.fill(x, size, buffer);
        for pixels in pixels.chunks(CHUNK) {
            for &(start, width) in blocks {
                let target = partial.at(start * real);
                let source = buffer.as_ptr();
                let gradient = grad_out[start..].as_ptr();
                simd::run(Sweep { source, gradient, pixels, rows: &row_offsets, real, width, target }, width);
            }
        }
    });
}

/// Adds all (tap, input channel) rows of one block of output channels over one chunk of pixels.
struct Sweep<'a> {
    source: *const f32,
    gradient: *const f32,
    /// For each pixel, its offsets in the padded source and in the gradient.
    pixels: &'a [(usize, usize)],
    rows: &'a [usize],
    real: usize,
    width: usize,
    target: *mut f32,
}

impl SimdKernel for Sweep<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: `add_band` made all offsets lie in their buffers; surplus rows read offset 0 and are not stored.
        unsafe {
            match (self.width / S::LANES, S::REGISTERS) {
                (2, 32) => self.sweep::<S, 10, 2>(),
                (1, 32) => self.sweep::<S, 16, 1>(),
                (2, 16) => self.sweep::<S, 6, 2>(),
                (1, 16) => self.sweep::<S, 12, 1>(),
                (2, _) => self.sweep::<S, 3, 2>(),
                _ => self.sweep::<S, 6, 1>(),
            }
        }
    }
}

impl Sweep<'_> {
    #[inline(always)]
    unsafe fn sweep<S: Simd, const R: usize, const N: usize>(&self) {
        for (index, rows) in self.rows[..self.real.next_multiple_of(R)].as_chunks::<R>().0.iter().enumerate() {
            // SAFETY: as in `run`; only real rows are stored.
            unsafe {
                let mut sum = [[S::zero(); N]; R];
                for &(from, to) in self.pixels {
                    let (source, gradient) = (self.source.add(from), self.gradient.add(to));
                    let mut g = [S::zero(); N];
                    for n in 0..N {
                        g[n] = S::load(gradient.add(n * S::LANES));
                    }
                    for r in 0..R {
                        let x = S::splat(*source.add(rows[r]));
                        for n in 0..N {
                            sum[r][n] = S::fma(x, g[n], sum[r][n]);
                        }
                    }
                }
                for r in 0..R {
                    if index * R + r < self.real {
                        for n in 0..N {
                            let to = self.target.add(((index * R + r) * N + n) * S::LANES);
                            S::store(to, S::add(S::load(to), sum[r][n]));
                        }
                    }
                }
            }
        }
    }
}
