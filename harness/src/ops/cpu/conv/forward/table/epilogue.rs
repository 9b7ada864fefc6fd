//! Epilogues of the table algorithm: a pass either keeps its sums for the next pass, writes an
//! output map, or fires the spikes of the neurons behind it without a map.

use super::load;
use crate::ops::cpu::lif::{Folded, LifShape, Neuron, Residual, affine};
use crate::ops::cpu::parallel::Shared;
use crate::ops::cpu::simd::{self, Simd};

/// The distance in pixels by which stores to the map are prefetched.
const PREFETCH_PIXELS: usize = 32;

/// Receives the fixed-point sums of all pixels.
pub(in crate::ops::cpu::conv) trait Epilogue: Copy {
    type Tile<S: Simd, const N: usize>: EpilogueTile<S, N>;
    /// The number of time steps among which the images are divided; 1 if images are
    /// independent.
    #[inline(always)]
    fn time_steps(&self) -> usize {
        1
    }
    /// The position of pixel `pixel` of step `t` among all pixels.
    #[inline(always)]
    fn position(&self, _t: usize, pixel: usize) -> usize {
        pixel
    }
    /// The tile for `N` vectors of channels from `channel` on, with their coefficients in
    /// registers.
    ///
    /// # Safety
    /// As [`Simd`]; these channels exist.
    unsafe fn tile<S: Simd, const N: usize>(&self, channel: usize) -> Self::Tile<S, N>;
}

/// An [`Epilogue`] restricted to some channels, with their coefficients in registers.
pub(in crate::ops::cpu::conv) trait EpilogueTile<S: Simd, const N: usize>: Copy {
    /// Whether a time step leaves state for the next one.
    const STATE: bool = false;
    /// Processes the sums of the pixel at this position. `state` is the result of the previous
    /// time step at this pixel, zeros at t = 0.
    ///
    /// # Safety
    /// As [`Simd`]; the pixel exists, and no other tile has its channels.
    unsafe fn apply(self, state: [S::V; N], position: usize, sums: [S::V; N]) -> [S::V; N];
}

/// Loads the coefficients of `N` vectors of channels.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn coefficients<S: Simd, const N: usize>(from: &[f32], channel: usize) -> [S::V; N] {
    // SAFETY: passed on to the caller; the slice holds `N` vectors.
    unsafe { load::<S, N>(from[channel..][..N * S::LANES].as_ptr()) }
}

/// Keeps the sums of the group's pixels for the next pass.
#[derive(Clone, Copy)]
pub(super) struct KeepSums(pub *mut f32);

impl Epilogue for KeepSums {
    type Tile<S: Simd, const N: usize> = Self;

    #[inline(always)]
    unsafe fn tile<S: Simd, const N: usize>(&self, _channel: usize) -> Self {
        *self
    }
}

impl<S: Simd, const N: usize> EpilogueTile<S, N> for KeepSums {
    #[inline(always)]
    unsafe fn apply(self, state: [S::V; N], position: usize, sums: [S::V; N]) -> [S::V; N] {
        for n in 0..N {
            // SAFETY: passed on to the caller.
            unsafe { S::store(self.0.add((position * N + n) * S::LANES), sums[n]) };
        }
        state
    }
}

/// Writes the output map of a convolution: each output is `scale` times its sum, or the sum
/// itself if there is no scale.
#[derive(Clone, Copy)]
pub(in crate::ops::cpu::conv) struct WriteMap<'a> {
    pub(in crate::ops::cpu::conv) target: Shared<f32>,
    /// Floats per pixel of the map.
    pub(in crate::ops::cpu::conv) channels: usize,
    pub(in crate::ops::cpu::conv) scale: Option<&'a [f32]>,
}

#[derive(Clone, Copy)]
pub(in crate::ops::cpu::conv) struct WriteMapTile<S: Simd, const N: usize> {
    target: *mut f32,
    channels: usize,
    scale: Option<[S::V; N]>,
}

impl Epilogue for WriteMap<'_> {
    type Tile<S: Simd, const N: usize> = WriteMapTile<S, N>;

    #[inline(always)]
    unsafe fn tile<S: Simd, const N: usize>(&self, channel: usize) -> WriteMapTile<S, N> {
        // SAFETY: passed on to the caller.
        let scale = self.scale.map(|scale| unsafe { coefficients::<S, N>(scale, channel) });
        WriteMapTile { target: self.target.at(channel), channels: self.channels, scale }
    }
}

impl<S: Simd, const N: usize> EpilogueTile<S, N> for WriteMapTile<S, N> {
    #[inline(always)]
    unsafe fn apply(self, state: [S::V; N], position: usize, mut sums: [S::V; N]) -> [S::V; N] {
        let to = self.target.wrapping_add(position * self.channels);
        // The map is rarely in a cache.
        simd::prefetch(to.wrapping_add(PREFETCH_PIXELS * self.channels), N * S::LANES);
        for n in 0..N {
            // SAFETY: passed on to the caller.
            unsafe {
                if let Some(scale) = self.scale {
                    sums[n] = S::mul(S::from_ints(sums[n]), scale[n]);
                }
                S::store(to.add(n * S::LANES), sums[n]);
            }
        }
        state
    }
}

/// Fires the spikes of the neurons whose main branch is the convolution.
#[derive(Clone, Copy)]
pub(in crate::ops::cpu::conv) struct Fire<'a, X> {
    pub(in crate::ops::cpu::conv) l: LifShape,
    /// The factor from a sum to an output.
    pub(in crate::ops::cpu::conv) scale: &'a [f32],
    pub(in crate::ops::cpu::conv) norm: Folded<'a>,
    pub(in crate::ops::cpu::conv) residual: X,
    pub(in crate::ops::cpu::conv) spikes: Shared<u8>,
}

#[derive(Clone, Copy)]
pub(in crate::ops::cpu::conv) struct FireTile<S: Simd, const N: usize, X> {
    neuron: Neuron<S>,
    /// Bytes of spikes per pixel.
    bytes: usize,
    channel: usize,
    /// The factors of the fixed-point sums, and the scale of the norm.
    scales: [[S::V; N]; 2],
    shift: [S::V; N],
    residual: X,
    spikes: Shared<u8>,
}

impl<X: Residual> Epilogue for Fire<'_, X> {
    type Tile<S: Simd, const N: usize> = FireTile<S, N, X>;

    #[inline(always)]
    fn time_steps(&self) -> usize {
        self.l.time_steps
    }

    #[inline(always)]
    fn position(&self, t: usize, pixel: usize) -> usize {
        t * self.l.positions + pixel
    }

    #[inline(always)]
    unsafe fn tile<S: Simd, const N: usize>(&self, channel: usize) -> FireTile<S, N, X> {
        // SAFETY: passed on to the caller.
        unsafe {
            let scales = [coefficients::<S, N>(self.scale, channel), coefficients::<S, N>(self.norm.scale, channel)];
            let (neuron, shift) = (Neuron::new(&self.l), coefficients::<S, N>(self.norm.shift, channel));
            let (residual, spikes) = (self.residual, self.spikes);
            FireTile { neuron, bytes: self.l.channels / 8, channel, scales, shift, residual, spikes }
        }
    }
}

impl<S: Simd, const N: usize, X: Residual> EpilogueTile<S, N> for FireTile<S, N, X> {
    const STATE: bool = true;
    #[inline(always)]
    unsafe fn apply(self, mut state: [S::V; N], position: usize, sums: [S::V; N]) -> [S::V; N] {
        let first = position * self.bytes + self.channel / 8;
        for n in 0..N {
            let (byte, channel) = (first + n * S::LANES / 8, self.channel + n * S::LANES);
            // SAFETY: passed on to the caller; the shortcut has the neurons' shape, so an index
            // of its floats fits `usize`.
            unsafe {
                let output = S::mul(S::from_ints(sums[n]), self.scales[0][n]);
                let main = affine::<S>(output, self.scales[1][n], self.shift[n]);
                let current = self.residual.add::<S>(byte.unchecked_mul(8), channel, main);
                state[n] = self.neuron.step(state[n], current, self.spikes.at(byte));
            }
        }
        state
    }
}
