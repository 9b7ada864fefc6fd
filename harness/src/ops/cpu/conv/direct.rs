//! Register-tiled direct convolution. One kernel computes the forward pass for every kernel
//! size and stride. It also computes the gradient of the input, as a stride-1 convolution of
//! the output's gradient for each parity of the input pixel.

use super::pack::Weights;
use super::padded::{Band, MapSize};
use super::tiles::blocks;
use crate::ops::cpu::parallel::{Aligned, Shared, scratch, tiles};
use crate::ops::cpu::simd::{self, Level, Simd, SimdKernel};
use crate::ops::{ConvShape, Input, pad8};

/// Lists of pixels are padded to a multiple of this, which is a multiple of the height of every
/// register tile.
pub(super) const PIXELS_STEP: usize = 48;
/// Output pixels that share one pass over a slice of the weights.
const BAND_PIXELS: usize = 512;
/// Floats per weight slice. Its 24 KB stay in the first-level cache while the pixels stream
/// past.
const SLICE_FLOATS: usize = 6144;

/// Destination pixels that share a set of taps: all pixels, or those of one parity.
pub(super) struct Class {
    /// (padded row, padded column, tap of the kernel), relative to the pixel's corner.
    pub taps: Vec<(usize, usize, usize)>,
    /// The first destination row and column.
    pub first: (usize, usize),
    /// The rows and columns of the class's grid.
    pub grid: (usize, usize),
}

/// A convolution in canonical form: pixel (i, j) of a class reads padded pixel (i·step + dy,
/// j·step + dx) for each tap (dy, dx).
pub(super) struct Problem<'s> {
    s: &'s ConvShape,
    transposed: bool,
    pub(super) src: MapSize,
    src_channels: usize,
    dst: MapSize,
    dst_channels: usize,
    step: usize,
    /// The distance in destination pixels between two neighbours of a class.
    spread: usize,
    /// Padded rows above and padded columns to the left of the source.
    margin: isize,
    pub(super) classes: Vec<Class>,
}

impl<'s> Problem<'s> {
    /// The forward pass, from the input to the output.
    pub(super) fn forward(s: &'s ConvShape) -> Self {
        let k = s.kernel;
        let taps = (0..k * k).map(|t| (t / k, t % k, t)).collect();
        let grid = (s.out_height(), s.out_width());
        Self {
            s,
            transposed: false,
            src: MapSize { height: s.height, width: s.width, channels: pad8(s.c_in) },
            src_channels: s.c_in,
            dst: MapSize { height: grid.0, width: grid.1, channels: pad8(s.c_out) },
            dst_channels: s.c_out,
            step: s.stride,
            spread: 1,
            margin: s.padding as isize,
            classes: vec![Class { taps, first: (0, 0), grid }],
        }
    }

    /// From the gradient of the output to that of the input. Input row `stride·i + a` receives
    /// those taps `k` for which `a + padding - k` is divisible by the stride, from output row
    /// `i + (a + padding - k)/stride`.
    pub(super) fn grad_input(s: &'s ConvShape) -> Self {
        let axis = |a: usize| -> Vec<(isize, usize)> {
            let reach = |k: usize| (a + s.padding) as isize - k as isize;
            let stride = s.stride as isize;
            (0..s.kernel).filter(|&k| reach(k) % stride == 0).map(|k| (reach(k) / stride, k)).collect()
        };
        let margin = (0..s.stride).flat_map(axis).map(|(q, _)| -q).max().unwrap_or(0);
        let count = |size: usize, a: usize| (size + s.stride - 1 - a) / s.stride;
        let mut classes = Vec::new();
        for (a, b) in (0..s.stride).flat_map(|a| (0..s.stride).map(move |b| (a, b))) {
            let mut taps = Vec::new();
            for (dy, ky) in axis(a) {
                for (dx, kx) in axis(b) {
                    taps.push(((dy + margin) as usize, (dx + margin) as usize, ky * s.kernel + kx));
                }
            }
            classes.push(Class { taps, first: (a, b), grid: (count(s.height, a), count(s.width, b)) });
        }
        Self {
            s,
            transposed: true,
            src: MapSize { height: s.out_height(), width: s.out_width(), channels: pad8(s.c_out) },
            src_channels: s.c_out,
            dst: MapSize { height: s.height, width: s.width, channels: pad8(s.c_in) },
            dst_channels: s.c_in,
            step: 1,
            spread: s.stride,
            margin,
            classes,
        }
    }

    /// Removes the taps that only meet padding, which on a 1×1 map are all but one.
    pub(super) fn trimmed(mut self) -> Self {
        let (src, step, margin) = (self.src, self.step, self.margin);
        let meets = |d: usize, n: usize, size: usize| {
            (0..n).any(|i| (0..size as isize).contains(&((i * step + d) as isize - margin)))
        };
        for class in &mut self.classes {
            let (rows, columns) = class.grid;
            class.taps.retain(|t| meets(t.0, rows, src.height) && meets(t.1, columns, src.width));
        }
        self
    }

    /// Blocks of destination channels.
    fn blocks(&self) -> Vec<(usize, usize)> {
        blocks(self.dst.channels, if simd::level() == Level::Avx512 { 32 } else { 16 })
    }

    /// The largest grid of any class.
    pub(super) fn grid(&self) -> (usize, usize) {
        self.classes[0].grid
    }

    /// The band of the source that rows `rows` of the grids of `images` read.
    pub(super) fn band(&self, images: std::ops::Range<usize>, rows: std::ops::Range<usize>) -> Band {
        let reach = |f: fn(&(usize, usize, usize)) -> usize| {
            self.classes.iter().flat_map(|c| c.taps.iter().map(f)).max().unwrap_or(0)
        };
        Band {
            images,
            row: (rows.start * self.step) as isize - self.margin,
            rows: (rows.len() - 1) * self.step + reach(|t| t.0) + 1,
            column: -self.margin,
            columns: (self.grid().1 - 1) * self.step + reach(|t| t.1) + 1,
        }
    }
}

/// A run of weight rows: taps `taps.0..taps.1` of source channels `channels.0..channels.1`.
#[derive(Clone, Copy)]
pub(super) struct Slice {
    taps: (usize, usize),
    channels: (usize, usize),
}

pub(super) fn slices(taps: usize, channels: usize, width: usize) -> Vec<Slice> {
    let rows = (SLICE_FLOATS / width).max(1);
    let chunk = channels.min(64);
    let taps_each = (rows / chunk).clamp(1, taps);
    let mut slices = Vec::new();
    for c in (0..channels).step_by(chunk) {
        for t in (0..taps).step_by(taps_each) {
            slices.push(Slice { taps: (t, taps.min(t + taps_each)), channels: (c, channels.min(c + chunk)) });
        }
    }
    slices
}

/// The weight as `[block][channel chunk of 64][tap][channel][width]`, for every class.
pub(super) fn pack(p: &Problem, weight: &[f32]) -> Vec<Aligned> {
    let blocks = p.blocks();
    let weights = if p.transposed { Weights::transposed(p.s, weight) } else { Weights::forward(p.s, weight) };
    let pack_class = |class: &Class| {
        let taps: Vec<usize> = class.taps.iter().map(|t| t.2).collect();
        let rows = taps.len() * p.src_channels;
        let fill = |packed: Shared<f32>| {
            tiles(blocks.len(), rows * p.dst.channels * 4, |b| {
                let (start, width) = blocks[b];
                // SAFETY: blocks are disjoint ranges of `packed`.
                let out = unsafe { packed.zeroed(start * rows, rows * width) };
                let dst = start..p.dst_channels.min(start + width).max(start);
                for c in (0..p.src_channels).step_by(64) {
                    let src = c..p.src_channels.min(c + 64);
                    weights.pack(&taps, src, dst.clone(), width, &mut out[c * taps.len() * width..]);
                }
            });
        };
        // SAFETY: the blocks cover all channels, and all rows of each block are written.
        unsafe { Aligned::from_uninit(rows * p.dst.channels, fill) }
    };
    p.classes.iter().map(pack_class).collect()
}

/// Runs the convolution with its packed weight. If `accumulate`, it adds to `out`.
pub(super) fn run(p: &Problem, x: Input, packed: &[Aligned], target: Shared<f32>, accumulate: bool) {
    let blocks = p.blocks();
    let (height, width) = p.grid();
    let rows = (BAND_PIXELS / width).clamp(1, height);
    let images = if rows == height { (BAND_PIXELS / (width * height)).clamp(1, p.s.images) } else { 1 };
    let (bands, groups) = (height.div_ceil(rows), p.s.images.div_ceil(images));
    // If there are few tiles, the channels are divided too.
    let parts = (16 / (bands * groups)).clamp(1, blocks.len());
    let per_part = blocks.len().div_ceil(parts);
    tiles(bands * groups * parts, p.s.macs(), |tile| {
        let (tile, part) = (tile / parts, tile % parts);
        let (g, b) = (tile / bands, tile % bands);
        let image = g * images..p.s.images.min((g + 1) * images);
        let row = b * rows..height.min((b + 1) * rows);
        let mine = &blocks[(part * per_part).min(blocks.len())..((part + 1) * per_part).min(blocks.len())];
        let band = p.band(image.clone(), row.clone());
        scratch(band.len(p.src), |buffer| {
            band.fill(x, p.src, buffer);
            for (class, packed) in p.classes.iter().zip(packed) {
                run_class(p, class, packed, (&band, buffer), row.clone(), mine, target, accumulate);
            }
        });
    });
}

/// Computes one class of one band, for some blocks of channels.
#[allow(clippy::too_many_arguments)]
fn run_class(
    p: &Problem,
    class: &Class,
    packed: &[f32],
    (band, buffer): (&Band, &[f32]),
    rows: std::ops::Range<usize>,
    blocks: &[(usize, usize)],
    target: Shared<f32>,
    accumulate: bool,
) {
    let mut pixels = Vec::new();
    for (k, image) in band.images.clone().enumerate() {
        for i in rows.start..rows.end.min(class.grid.0) {
            let from = (k * band.rows + (i - rows.start) * p.step) * band.columns;
            let to = (image * p.dst.height + i * p.spread + class.first.0) * p.dst.width + class.first.1;
            pixels.extend((0..class.grid.1).map(|j| Pixel {
                from: (from + j * p.step) * p.src.channels,
                to: (to + j * p.spread) * p.dst.channels,
            }));
        }
    }
    let Some(&last) = pixels.last() else { return };
    if class.taps.is_empty() {
        if !accumulate {
            for pixel in &pixels {
                for &(start, width) in blocks {
                    // SAFETY: this tile owns these channels of this pixel.
                    unsafe { target.at(pixel.to + start).write_bytes(0, width) };
                }
            }
        }
        return;
    }
    let real = pixels.len();
    // The padding repeats the last pixel, so a tile may compute it several times and store the
    // same value again.
    pixels.resize(real.next_multiple_of(PIXELS_STEP), last);
    let taps: Vec<usize> = class.taps.iter().map(|t| (t.0 * band.columns + t.1) * p.src.channels).collect();
    for &(start, width) in blocks {
        let sweep = Sweep {
            source: buffer.as_ptr(),
            pixels: &pixels,
            real,
            taps: &taps,
            slices: &slices(taps.len(), p.src_channels, width),
            weight: packed[start * taps.len() * p.src_channels..].as_ptr(),
            width,
            target: target.at(start),
            accumulate,
        };
        simd::run(sweep, width);
    }
}

/// The offsets of a pixel in the padded source and in the output map.
#[derive(Clone, Copy)]
pub(super) struct Pixel {
    pub from: usize,
    pub to: usize,
}

/// Computes all pixels of a band for one block of output channels.
pub(super) struct Sweep<'a> {
    pub source: *const f32,
    pub pixels: &'a [Pixel],
    pub real: usize,
    pub taps: &'a [usize],
    pub slices: &'a [Slice],
    pub weight: *const f32,
    pub width: usize,
    pub target: *mut f32,
    pub accumulate: bool,
}

impl SimdKernel for Sweep<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: `run_class` made every pixel's offsets, taps and weights lie in their buffers.
        unsafe {
            match (self.width / S::LANES, S::REGISTERS) {
                (2, 32) => self.sweep::<S, 12, 2>(),
                (1, 32) => self.sweep::<S, 24, 1>(),
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
    unsafe fn sweep<S: Simd, const P: usize, const N: usize>(&self) {
        let mut weight = self.weight;
        for (index, slice) in self.slices.iter().enumerate() {
            let fresh = index == 0 && !self.accumulate;
            for pixels in self.pixels[..self.real.next_multiple_of(P)].as_chunks::<P>().0 {
                // SAFETY: as in `run`.
                unsafe { self.tile::<S, P, N>(slice, weight, pixels, fresh) };
            }
            let rows = (slice.taps.1 - slice.taps.0) * (slice.channels.1 - slice.channels.0);
            weight = weight.wrapping_add(rows * N * S::LANES);
        }
    }

    /// Accumulates `P` pixels by `N` vectors of channels in registers, over one slice of the
    /// weights.
    #[inline(always)]
    unsafe fn tile<S: Simd, const P: usize, const N: usize>(
        &self,
        slice: &Slice,
        mut weight: *const f32,
        pixels: &[Pixel; P],
        fresh: bool,
    ) {
        // SAFETY: as in `run`.
        unsafe {
            let mut sum = [[S::zero(); N]; P];
            if !fresh {
                for p in 0..P {
                    for n in 0..N {
                        sum[p][n] = S::load(self.target.add(pixels[p].to + n * S::LANES));
                    }
                }
            }
            let channels = slice.channels.1 - slice.channels.0;
            for &tap in &self.taps[slice.taps.0..slice.taps.1] {
                let base = self.source.add(tap + slice.channels.0);
                let mut from = [base; P];
                for p in 0..P {
                    from[p] = base.add(pixels[p].from);
                }
                for c in 0..channels {
                    let mut w = [S::zero(); N];
                    for n in 0..N {
                        w[n] = S::load(weight.add((c * N + n) * S::LANES));
                    }
                    for p in 0..P {
                        let x = S::splat(*from[p].add(c));
                        for n in 0..N {
                            sum[p][n] = S::fma(x, w[n], sum[p][n]);
                        }
                    }
                }
                weight = weight.add(channels * N * S::LANES);
            }
            for p in 0..P {
                for n in 0..N {
                    S::store(self.target.add(pixels[p].to + n * S::LANES), sum[p][n]);
                }
            }
        }
    }
}
