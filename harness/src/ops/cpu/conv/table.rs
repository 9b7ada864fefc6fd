//! The forward of spikes by tables: the sums of all 16 subsets of four weight rows, so that four channels cost one
//! addition and no branch, whatever they hold. It beats lists where these are short or the layer fires much.

use super::super::super::{ConvShape, pad8};
use super::super::parallel::{Aligned, Shared, tiles};
use super::super::simd::{self, Kernel, Level, Simd};
use super::dense::{Pixel, Problem};
use super::exact::add;
use super::pack::Weights;
use super::padded::MapSize;
use super::{blocks, out_channels};

/// Output pixels that share one pass over a slice of the table.
const GROUP_PIXELS: usize = 512;
/// Pixel lists are padded to a multiple of every register tile.
const PIXELS_STEP: usize = 8;

/// Blocks of output channels.
fn out_blocks(s: &ConvShape) -> Vec<(usize, usize)> {
    blocks(out_channels(s), if simd::level() == Level::Avx512 { 64 } else { 32 })
}

/// The sums of bit-packed spikes over the weight whose [`table()`] is given, each times its channel's `scale` where that
/// is given.
pub(super) fn forward(s: &ConvShape, spikes: &[u8], table: &[f32], scale: Option<&[f32]>, target: Shared<f32>) {
    let blocks = out_blocks(s);
    let (height, width) = (s.out_height(), s.out_width());
    let rows = (GROUP_PIXELS / width).clamp(1, height);
    let images = if rows == height { (GROUP_PIXELS / (width * height)).clamp(1, s.images) } else { 1 };
    let (bands, groups) = (height.div_ceil(rows), s.images.div_ceil(images));
    let problem = Problem::forward(s);
    let bytes = pad8(s.c_in) / 8;
    tiles(bands * groups * blocks.len(), s.macs() / 4, |tile| {
        let (block, tile) = (tile / (bands * groups), tile % (bands * groups));
        let (start, block_width) = blocks[block];
        let (g, b) = (tile / bands, tile % bands);
        let band = problem.band(g * images..s.images.min((g + 1) * images), b * rows..height.min((b + 1) * rows));
        let mut padded = vec![0u8; band.images.len() * band.rows * band.columns * bytes];
        band.fill_bytes(spikes, MapSize { height: s.height, width: s.width, channels: bytes }, &mut padded);
        let mut pixels = Vec::with_capacity(GROUP_PIXELS + PIXELS_STEP);
        for (k, image) in band.images.clone().enumerate() {
            for (i, row) in (b * rows..height.min((b + 1) * rows)).enumerate() {
                let from = (k * band.rows + i * s.stride) * band.columns;
                let to = (image * height + row) * width;
                pixels.extend(
                    (0..width)
                        .map(|j| Pixel { from: (from + j * s.stride) * bytes, to: (to + j) * out_channels(s) + start }),
                );
            }
        }
        let real = pixels.len();
        pixels.resize(real.next_multiple_of(PIXELS_STEP), pixels[real - 1]);
        let taps = s.kernel * s.kernel;
        let reads: Vec<usize> = (0..taps)
            .flat_map(|t| (0..bytes).map(move |j| (t, j)))
            .map(|(t, j)| (t / s.kernel * band.columns + t % s.kernel) * bytes + j)
            .collect();
        let table = &table[start * reads.len() * 32..][..block_width * reads.len() * 32];
        let scale = scale.map(|scale| &scale[start..start + block_width]);
        simd::run(
            Lookup { spikes: &padded, pixels: &pixels, real, reads: &reads, table, scale, width: block_width, target },
            block_width,
        );
    });
}

/// The sums of the OIHW `weight`, in whole numbers, `[block][tap][byte of channels][low, high four][subset of 16][width]`.
pub(super) fn table(s: &ConvShape, weight: &[f32]) -> Aligned {
    let blocks = out_blocks(s);
    let weights = Weights::forward(s, weight);
    let (taps, channels) = (s.kernel * s.kernel, pad8(s.c_in));
    let mut table = Aligned::zeros(taps * channels * 4 * out_channels(s));
    let shared = Shared::new(&mut table);
    tiles(blocks.len() * taps, taps * channels * 4 * out_channels(s), |tile| {
        let ((start, width), tap) = (blocks[tile / taps], tile % taps);
        let each = channels * 4 * width;
        // SAFETY: each pair of block and tap has its own range of `table`.
        let table = unsafe { shared.slice(start * taps * channels * 4 + tap * each, each) };
        let mut rows = vec![0.0; channels * width];
        let outs = start..s.c_out.min(start + width).max(start);
        weights.pack(&[tap], 0..s.c_in, outs, width, &mut rows[..s.c_in * width]);
        for (sums, rows) in table.chunks_exact_mut(16 * width).zip(rows.chunks_exact(4 * width)) {
            for subset in 1..16usize {
                let last = subset.ilog2() as usize;
                let (known, new) = sums.split_at_mut(subset * width);
                let rest = &known[(subset - (1 << last)) * width..][..width];
                for ((sum, a), b) in new[..width].iter_mut().zip(rest).zip(&rows[last * width..]) {
                    *sum = add(*a, *b);
                }
            }
        }
    });
    table
}

/// All pixels of a band for one block of output channels.
struct Lookup<'a> {
    spikes: &'a [u8],
    pixels: &'a [Pixel],
    real: usize,
    /// For each 32 rows of the table: the byte it is indexed by, from a pixel's first.
    reads: &'a [usize],
    table: &'a [f32],
    scale: Option<&'a [f32]>,
    width: usize,
    target: Shared<f32>,
}

impl Kernel for Lookup<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: `forward` made all pixels and reads lie in the padded spikes, the table has 32 rows a read, and the
        // tile owns its pixels' channels.
        unsafe {
            match (self.width / S::LANES, S::REGISTERS) {
                (4, 32) => self.slices::<S, 4, 4>(),
                (4, _) => self.slices::<S, 2, 4>(),
                (2, _) => self.slices::<S, 4, 2>(),
                _ => self.slices::<S, 8, 1>(),
            }
        }
    }
}

impl Lookup<'_> {
    #[inline(always)]
    unsafe fn slices<S: Simd, const P: usize, const N: usize>(&self) {
        // Floats of the table under which all pixels pass: the first-level cache of the machines that have such vectors.
        let slice = if S::REGISTERS == 32 { 12288 } else { 6144 };
        let each = (slice / (32 * N * S::LANES)).max(1);
        let slices = self.reads.len().div_ceil(each);
        for (index, reads) in self.reads.chunks(each).enumerate() {
            let scale = self.scale.filter(|_| index + 1 == slices);
            let table = self.table[index * each * 32 * N * S::LANES..].as_ptr();
            for pixels in self.pixels[..self.real.next_multiple_of(P)].as_chunks::<P>().0 {
                // SAFETY: as in `run`.
                unsafe { self.tile::<S, P, N>(pixels, reads, table, index == 0, scale) };
            }
        }
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const P: usize, const N: usize>(
        &self,
        pixels: &[Pixel; P],
        reads: &[usize],
        mut table: *const f32,
        fresh: bool,
        scale: Option<&[f32]>,
    ) {
        // SAFETY: as in `run`.
        unsafe {
            let mut sum = [[S::zero(); N]; P];
            let mut from = [self.spikes.as_ptr(); P];
            for p in 0..P {
                from[p] = from[p].add(pixels[p].from);
                if !fresh {
                    for n in 0..N {
                        sum[p][n] = S::load(self.target.at(pixels[p].to + n * S::LANES));
                    }
                }
            }
            for &read in reads {
                for p in 0..P {
                    let byte = usize::from(*from[p].add(read));
                    let low = table.add((byte & 15) * (N * S::LANES));
                    let high = table.add((16 + (byte >> 4)) * (N * S::LANES));
                    for n in 0..N {
                        sum[p][n] = S::add_ints(sum[p][n], S::load(low.add(n * S::LANES)));
                    }
                    for n in 0..N {
                        sum[p][n] = S::add_ints(sum[p][n], S::load(high.add(n * S::LANES)));
                    }
                }
                table = table.add(32 * N * S::LANES);
            }
            if let Some(scale) = scale {
                for n in 0..N {
                    let scale = S::load(scale.as_ptr().add(n * S::LANES));
                    for p in 0..P {
                        sum[p][n] = S::mul(S::from_ints(sum[p][n]), scale);
                    }
                }
            }
            for p in 0..P {
                for n in 0..N {
                    S::store(self.target.at(pixels[p].to + n * S::LANES), sum[p][n]);
                }
            }
        }
    }
}
