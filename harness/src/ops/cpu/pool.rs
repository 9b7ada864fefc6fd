//! Average pooling of maps and spikes, global and windowed, their backward passes, and spike counts.

use super::super::{Input, pad8};
use super::parallel::{Shared, map_tiles, tiles};
use super::simd::{self, Kernel, Simd};

/// The number of set bits.
pub fn count_spikes(spikes: &[u8]) -> u64 {
    let chunks: Vec<&[u8]> = spikes.chunks(COUNTED).collect();
    map_tiles(chunks.len(), spikes.len(), |chunk| simd::run(Count(chunks[chunk]), 8)).iter().sum()
}

/// Bytes whose spikes one tile counts.
const COUNTED: usize = 1 << 15;

/// A kernel for the instruction that counts bits alone.
struct Count<'a>(&'a [u8]);

impl Kernel for Count<'_> {
    type Output = u64;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> u64 {
        let (words, rest) = self.0.as_chunks::<8>();
        let count = |word: &[u8; 8]| u64::from(u64::from_le_bytes(*word).count_ones());
        words.iter().map(count).sum::<u64>() + rest.iter().map(|b| u64::from(b.count_ones())).sum::<u64>()
    }
}

/// Outputs along an axis of `size` for a window of (kernel, stride, padding); 0 where none fits.
pub fn pooled(size: usize, (kernel, stride, padding): (usize, usize, usize), ceil_mode: bool) -> usize {
    let partial = if ceil_mode { stride - 1 } else { 0 };
    let n = (size + 2 * padding + partial).checked_sub(kernel).map_or(0, |room| room / stride + 1);
    // torch: the last window must start inside the map or its left padding.
    if ceil_mode && n > 0 && (n - 1) * stride >= size + padding { n - 1 } else { n }
}

/// A windowed average pooling; windows that leave the map average what lies inside
/// (torch's `AvgPool2d(kernel, stride, padding, ceil_mode, count_include_pad=False)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// T·B.
    pub images: usize,
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Real channels.
    pub channels: usize,
    /// Side of the window.
    pub kernel: usize,
    /// Step between windows.
    pub stride: usize,
    /// Rows and columns outside the map that windows may start in.
    pub padding: usize,
    /// Whether a last, partial window counts.
    pub ceil_mode: bool,
}

impl PoolShape {
    /// Rows of the output.
    pub fn out_height(&self) -> usize {
        self.out(self.height)
    }

    /// Columns of the output.
    pub fn out_width(&self) -> usize {
        self.out(self.width)
    }

    /// Floats of the padded input map.
    pub fn in_len(&self) -> usize {
        self.images * self.height * self.width * pad8(self.channels)
    }

    /// Floats of the padded output map.
    pub fn out_len(&self) -> usize {
        self.images * self.out_height() * self.out_width() * pad8(self.channels)
    }

    fn out(&self, size: usize) -> usize {
        pooled(size, (self.kernel, self.stride, self.padding), self.ceil_mode)
    }

    /// The inputs of output `o` along an axis of `size`.
    fn window(&self, o: usize, size: usize) -> std::ops::Range<usize> {
        let start = o * self.stride;
        start.saturating_sub(self.padding)..(start + self.kernel).saturating_sub(self.padding).min(size)
    }
}

/// Adds a pixel of `x` (floats from `at` on) to `sum`.
#[inline]
fn add_pixel(x: &Input, at: usize, sum: &mut [f32]) {
    match x {
        Input::Map(map) => sum.iter_mut().zip(&map[at..]).for_each(|(s, x)| *s += x),
        Input::Spikes(spikes) => {
            for (lanes, byte) in sum.as_chunks_mut::<8>().0.iter_mut().zip(&spikes[at / 8..]) {
                for (k, lane) in lanes.iter_mut().enumerate() {
                    *lane += f32::from((byte >> k) & 1);
                }
            }
        }
    }
}

/// The averages of all windows.
///
/// # Panics
/// If a slice has not the length that `p` asks for (here and below).
pub fn forward(p: &PoolShape, x: Input, out: &mut [f32]) {
    assert_eq!((x.len(), out.len()), (p.in_len(), p.out_len()), "input and output fit {p:?}");
    let (c, width) = (pad8(p.channels), p.out_width());
    let (len, target) = (p.in_len(), Shared::new(out));
    let rows = p.out_height();
    tiles(p.images * rows, len, |tile| {
        let (image, oy) = (tile / rows, tile % rows);
        // SAFETY: each tile is one row of the output.
        let out = unsafe { target.slice(tile * width * c, width * c) };
        out.fill(0.0);
        let ys = p.window(oy, p.height);
        for (ox, sum) in out.chunks_exact_mut(c).enumerate() {
            let xs = p.window(ox, p.width);
            for y in ys.clone() {
                for column in xs.clone() {
                    add_pixel(&x, ((image * p.height + y) * p.width + column) * c, sum);
                }
            }
            let share = 1.0 / (ys.len() * xs.len()) as f32;
            sum.iter_mut().for_each(|s| *s *= share);
        }
    });
}

/// The gradient of the input, written to `out`, or added to it if `accumulate`.
pub fn backward(p: &PoolShape, grad_out: &[f32], out: &mut [f32], accumulate: bool) {
    assert_eq!((out.len(), grad_out.len()), (p.in_len(), p.out_len()), "the gradients fit {p:?}");
    let c = pad8(p.channels);
    let (each, target) = (p.height * p.width * c, Shared::new(out));
    tiles(p.images, p.in_len(), |image| {
        // SAFETY: each tile is one image.
        let out = unsafe { target.slice(image * each, each) };
        if !accumulate {
            out.fill(0.0);
        }
        for oy in 0..p.out_height() {
            for ox in 0..p.out_width() {
                let grad = &grad_out[((image * p.out_height() + oy) * p.out_width() + ox) * c..][..c];
                let (ys, xs) = (p.window(oy, p.height), p.window(ox, p.width));
                let share = 1.0 / (ys.len() * xs.len()) as f32;
                for y in ys {
                    for x in xs.clone() {
                        let to = &mut out[(y * p.width + x) * c..][..c];
                        to.iter_mut().zip(grad).for_each(|(t, g)| *t += share * g);
                    }
                }
            }
        }
    });
}

/// The average over all `pixels` of each image: `[images, pad8(channels)]`.
pub fn global_forward(images: usize, pixels: usize, channels: usize, x: Input, out: &mut [f32]) {
    let c = pad8(channels);
    assert_eq!((x.len(), out.len()), (images * pixels * c, images * c), "input and output fit the images");
    let (len, target) = (x.len(), Shared::new(out));
    tiles(images, len, |image| {
        // SAFETY: each tile is one image.
        let sum = unsafe { target.slice(image * c, c) };
        sum.fill(0.0);
        for pixel in 0..pixels {
            add_pixel(&x, (image * pixels + pixel) * c, sum);
        }
        sum.iter_mut().for_each(|s| *s /= pixels as f32);
    });
}

/// The gradient of the global average's input.
pub fn global_backward(images: usize, pixels: usize, channels: usize, grad_out: &[f32], out: &mut [f32]) {
    let c = pad8(channels);
    assert_eq!((out.len(), grad_out.len()), (images * pixels * c, images * c), "the gradients fit the images");
    let (len, target) = (out.len(), Shared::new(out));
    tiles(images, len, |image| {
        // SAFETY: each tile is one image.
        let out = unsafe { target.slice(image * pixels * c, pixels * c) };
        for to in out.chunks_exact_mut(c) {
            for (t, g) in to.iter_mut().zip(&grad_out[image * c..]) {
                *t = g / pixels as f32;
            }
        }
    });
}
