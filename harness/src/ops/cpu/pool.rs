//! Average pooling of maps and spikes, global and windowed, the backward passes, and spike
//! counts.

use super::parallel::{Shared, map_tiles, tiles, vec_from_uninit};
use super::simd::{self, Simd, SimdKernel};
use crate::ops::{Input, pad8};

/// The number of set bits.
pub fn count_spikes(spikes: &[u8]) -> u64 {
    let chunks: Vec<&[u8]> = spikes.chunks(COUNT_CHUNK).collect();
    map_tiles(chunks.len(), spikes.len(), |chunk| simd::run(CountBits(chunks[chunk]), 8)).iter().sum()
}

/// Bytes whose spikes one tile counts.
const COUNT_CHUNK: usize = 1 << 15;

/// A kernel only so that the compiler may use the popcount instruction.
struct CountBits<'a>(&'a [u8]);

impl SimdKernel for CountBits<'_> {
    type Output = u64;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> u64 {
        let (words, rest) = self.0.as_chunks::<8>();
        let count = |word: &[u8; 8]| u64::from(u64::from_le_bytes(*word).count_ones());
        words.iter().map(count).sum::<u64>() + rest.iter().map(|b| u64::from(b.count_ones())).sum::<u64>()
    }
}

/// The number of outputs along an axis of `size` for a window of (kernel, stride, padding); 0
/// if no window fits.
pub fn pooled(size: usize, (kernel, stride, padding): (usize, usize, usize), ceil_mode: bool) -> usize {
    let partial = if ceil_mode { stride - 1 } else { 0 };
    let n = (size + 2 * padding + partial).checked_sub(kernel).map_or(0, |room| room / stride + 1);
    // As in PyTorch, the last window must start inside the map or its left padding.
    if ceil_mode && n > 0 && (n - 1) * stride >= size + padding { n - 1 } else { n }
}

/// A windowed average pooling. Windows that leave the map average the pixels inside (PyTorch's
/// `AvgPool2d(kernel, stride, padding, ceil_mode, count_include_pad=False)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolShape {
    /// T·B.
    pub images: usize,
    /// Rows of the input.
    pub height: usize,
    /// Columns of the input.
    pub width: usize,
    /// Channels without padding.
    pub channels: usize,
    /// The side of the window.
    pub kernel: usize,
    /// The distance between windows.
    pub stride: usize,
    /// Rows and columns outside the map in which windows may start.
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

/// The pixels of an input, as floats or as spikes.
///
/// # Safety
/// As [`Simd`]; the `LANES` values from `at` on lie in the input.
trait Pixels: Copy {
    unsafe fn load<S: Simd>(self, at: usize) -> S::V;
}

impl Pixels for &[f32] {
    #[inline(always)]
    unsafe fn load<S: Simd>(self, at: usize) -> S::V {
        // SAFETY: passed on to the caller (here and below).
        unsafe { S::load(self.as_ptr().add(at)) }
    }
}

impl Pixels for &[u8] {
    #[inline(always)]
    unsafe fn load<S: Simd>(self, at: usize) -> S::V {
        unsafe { S::load_bits(self.as_ptr().add(at / 8)) }
    }
}

/// Averages a window: the sums of its pixels, in order, times `share`.
struct Window<'a, X> {
    x: X,
    /// The offset of the first pixel in floats, and the floats per line.
    first: usize,
    line: usize,
    /// Lines and columns of the window.
    size: (usize, usize),
    share: f32,
    /// The averages, one per channel.
    out: &'a mut [f32],
}

impl<X: Pixels> SimdKernel for Window<'_, X> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        // SAFETY: the caller guarantees that the CPU has the instructions of S and that the
        // window lies in the input.
        unsafe {
            match self.size {
                // Most windows are 2×2; this arm is compiled for that size.
                (2, 2) => self.average::<S>(2, 2),
                (lines, columns) => self.average::<S>(lines, columns),
            }
        }
    }
}

impl<X: Pixels> Window<'_, X> {
    #[inline(always)]
    unsafe fn average<S: Simd>(self, lines: usize, columns: usize) {
        let c = self.out.len();
        for channel in (0..c).step_by(S::LANES) {
            // SAFETY: the window lies in the input, and all pixels have `c` channels, a
            // multiple of the lanes.
            unsafe {
                let mut sum = S::zero();
                for y in 0..lines {
                    for x in 0..columns {
                        sum = S::add(sum, self.x.load::<S>(self.first + y * self.line + x * c + channel));
                    }
                }
                S::store(self.out.as_mut_ptr().add(channel), S::mul(sum, S::splat(self.share)));
            }
        }
    }
}

/// The averages of a line of windows.
struct ForwardLine<'a, X> {
    p: &'a PoolShape,
    x: X,
    /// The line of the output, counted over all images.
    line: usize,
    out: &'a mut [f32],
}

impl<X: Pixels> SimdKernel for ForwardLine<'_, X> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let Self { p, x, .. } = self;
        let c = pad8(p.channels);
        let (image, line) = (self.line / p.out_height() * p.height, p.width * c);
        let ys = p.window(self.line % p.out_height(), p.height);
        let whole = pixel_weight(ys.len(), p.kernel);
        for (ox, out) in self.out.chunks_exact_mut(c).enumerate() {
            let xs = p.window(ox, p.width);
            let first = (image + ys.start) * line + xs.start * c;
            let share = if xs.len() == p.kernel { whole } else { pixel_weight(ys.len(), xs.len()) };
            // SAFETY: windows lie in their image, and the caller guarantees that the CPU has
            // the instructions of S.
            unsafe { Window { x, first, line, size: (ys.len(), xs.len()), share, out }.run::<S>() };
        }
    }
}

/// The weight of one input pixel in the average over a window of `lines × columns`.
fn pixel_weight(lines: usize, columns: usize) -> f32 {
    1.0 / (lines * columns) as f32
}

/// The averages of all windows, as a new map.
///
/// # Panics
/// If a slice does not have the length that `p` states (here and below).
pub fn forward(p: &PoolShape, x: Input) -> Vec<f32> {
    assert_eq!(x.len(), p.in_len(), "the input fits {p:?}");
    let (c, each) = (pad8(p.channels), p.out_width() * pad8(p.channels));
    let fill = |target: Shared<f32>| {
        tiles(p.images * p.out_height(), p.in_len(), |line| {
            // SAFETY: each tile is one line of the output.
            let out = unsafe { target.zeroed(line * each, each) };
            match x {
                Input::Map(x) => simd::run(ForwardLine { p, x, line, out }, c),
                Input::Spikes(x) => simd::run(ForwardLine { p, x, line, out }, c),
            }
        });
    };
    // SAFETY: the lines cover the whole output.
    unsafe { vec_from_uninit(p.out_len(), fill) }
}

/// For each input along an axis: the outputs whose windows contain it, and the lengths of those
/// windows.
fn reached(p: &PoolShape, size: usize) -> Vec<Vec<(usize, usize)>> {
    let mut reached = vec![Vec::new(); size];
    for out in 0..p.out(size) {
        let window = p.window(out, size);
        reached[window.clone()].iter_mut().for_each(|outs| outs.push((out, window.len())));
    }
    reached
}

/// The gradient of a line of the input.
struct BackwardLine<'a> {
    /// The gradient of the image's outputs.
    grad: &'a [f32],
    width: usize,
    ys: &'a [(usize, usize)],
    xs: &'a [Vec<(usize, usize)>],
    /// The weight of a pixel in a window of `i` pixels, at index `i`.
    pixel_weights: &'a [f32],
    out: &'a mut [f32],
}

impl SimdKernel for BackwardLine<'_> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let c = self.out.len() / self.xs.len();
        for (xs, out) in self.xs.iter().zip(self.out.chunks_exact_mut(c)) {
            for channel in (0..c).step_by(S::LANES) {
                // SAFETY: the outputs that an input reaches belong to the image, and all pixels
                // have `c` channels, a multiple of the lanes.
                unsafe {
                    let mut sum = S::zero();
                    for (oy, lines) in self.ys {
                        for (ox, columns) in xs {
                            let grad = self.grad.as_ptr().add((oy * self.width + ox) * c + channel);
                            sum = S::add(sum, S::mul(S::splat(self.pixel_weights[lines * columns]), S::load(grad)));
                        }
                    }
                    S::store(out.as_mut_ptr().add(channel), sum);
                }
            }
        }
    }
}

/// The gradient of the input, as a new map.
pub fn backward(p: &PoolShape, grad_out: &[f32]) -> Vec<f32> {
    assert_eq!(grad_out.len(), p.out_len(), "the gradient fits {p:?}");
    let (c, width) = (pad8(p.channels), p.out_width());
    let (ys, xs) = (reached(p, p.height), reached(p, p.width));
    let pixel_weights: Vec<f32> = (0..=p.kernel * p.kernel).map(|pixels| pixel_weight(pixels, 1)).collect();
    let fill = |target: Shared<f32>| {
        tiles(p.images * p.height, p.in_len(), |line| {
            // SAFETY: each tile is one line of the input.
            let out = unsafe { target.zeroed(line * p.width * c, p.width * c) };
            let each = p.out_height() * width * c;
            let grad = &grad_out[line / p.height * each..][..each];
            simd::run(
                BackwardLine { grad, width, ys: &ys[line % p.height], xs: &xs, pixel_weights: &pixel_weights, out },
                c,
            );
        });
    };
    // SAFETY: the lines cover the whole input.
    unsafe { vec_from_uninit(p.in_len(), fill) }
}

/// The average over all `pixels` of each image: `[images, pad8(channels)]`.
pub fn global_forward(images: usize, pixels: usize, channels: usize, x: Input, out: &mut [f32]) {
    let c = pad8(channels);
    assert_eq!((x.len(), out.len()), (images * pixels * c, images * c), "input and output fit the images");
    let (len, target) = (x.len(), Shared::new(out));
    tiles(images, len, |image| {
        // SAFETY: each tile is one image.
        let sums = unsafe { target.slice(image * c, c) };
        let (first, line, size, out) = (image * pixels * c, pixels * c, (1, pixels), &mut *sums);
        match x {
            Input::Map(x) => simd::run(Window { x, first, line, size, share: 1.0, out }, c),
            Input::Spikes(x) => simd::run(Window { x, first, line, size, share: 1.0, out }, c),
        }
        sums.iter_mut().for_each(|sum| *sum /= pixels as f32);
    });
}

/// The gradient of the input of [`global_forward`].
pub fn global_backward(images: usize, pixels: usize, channels: usize, grad_out: &[f32], out: &mut [f32]) {
    let c = pad8(channels);
    assert_eq!((out.len(), grad_out.len()), (images * pixels * c, images * c), "the gradients fit the images");
    let (len, target) = (out.len(), Shared::new(out));
    tiles(images, len, |image| {
        // SAFETY: each tile is one image.
        let out = unsafe { target.slice(image * pixels * c, pixels * c) };
        let share: Vec<f32> = grad_out[image * c..][..c].iter().map(|g| g / pixels as f32).collect();
        out.chunks_exact_mut(c).for_each(|to| to.copy_from_slice(&share));
    });
}
