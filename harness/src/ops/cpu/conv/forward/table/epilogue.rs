//! What becomes of the tables' sums: sums for the next pass, a map, or at once the spikes of the neurons behind it.

use super::load;
use crate::ops::cpu::lif::{Folded, LifShape, Neuron, Residual, affine};
use crate::ops::cpu::parallel::Shared;
use crate::ops::cpu::simd::{self, Simd};

/// Pixels of the map that are asked for ahead of their turn.
const PREFETCH_PIXELS: usize = 32;

/// Takes the sums, in whole numbers.
pub(in crate::ops::cpu::conv) trait Epilogue: Copy {
    type Tile<S: Simd, const N: usize>: EpilogueTile<S, N>;
    /// Steps of which each takes its part of the images; one where images have nothing to do with each other.
    #[inline(always)]
    fn time_steps(&self) -> usize {
        1
    }
    /// Where pixel `pixel` of step `t` is among all.
    #[inline(always)]
    fn position(&self, _t: usize, pixel: usize) -> usize {
        pixel
    }
    /// For `N` vectors of channels from `channel` on.
    ///
    /// # Safety
    /// As [`Simd`]; there are these channels.
    unsafe fn tile<S: Simd, const N: usize>(&self, channel: usize) -> Self::Tile<S, N>;
}

/// A [`Epilogue`] for some channels, with their coefficients in registers.
pub(in crate::ops::cpu::conv) trait EpilogueTile<S: Simd, const N: usize>: Copy {
    /// Whether one step leaves something for the next.
    const STATE: bool = false;
    /// Takes the sums of the pixel at this position. `state`: what its last step returned, zeros at t = 0.
    ///
    /// # Safety
    /// As [`Simd`]; there is this pixel, and no other tile has its channels.
    unsafe fn apply(self, state: [S::V; N], position: usize, sums: [S::V; N]) -> [S::V; N];
}

/// The values of `N` vectors of channels.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn coefficients<S: Simd, const N: usize>(from: &[f32], channel: usize) -> [S::V; N] {
    // SAFETY: the caller's, and the slice holds `N` vectors.
    unsafe { load::<S, N>(from[channel..][..N * S::LANES].as_ptr()) }
}

/// The sums of the group's pixels.
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
            // SAFETY: the caller's.
            unsafe { S::store(self.0.add((position * N + n) * S::LANES), sums[n]) };
        }
        state
    }
}

/// The map of a convolution's outputs, each `scale` times its sum, or the sums where there is none.
#[derive(Clone, Copy)]
pub(in crate::ops::cpu::conv) struct WriteMap<'a> {
    pub(in crate::ops::cpu::conv) target: Shared<f32>,
    /// Floats of a pixel.
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
        // SAFETY: the caller's.
        let scale = self.scale.map(|scale| unsafe { coefficients::<S, N>(scale, channel) });
        WriteMapTile { target: self.target.at(channel), channels: self.channels, scale }
    }
}

impl<S: Simd, const N: usize> EpilogueTile<S, N> for WriteMapTile<S, N> {
    #[inline(always)]
    unsafe fn apply(self, state: [S::V; N], position: usize, mut sums: [S::V; N]) -> [S::V; N] {
        let to = self.target.wrapping_add(position * self.channels);
        // The map is seldom in a cache.
        simd::prefetch(to.wrapping_add(PREFETCH_PIXELS * self.channels), N * S::LANES);
        for n in 0..N {
            // SAFETY: the caller's.
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

/// The spikes of the neurons whose main branch the convolution is.
#[derive(Clone, Copy)]
pub(in crate::ops::cpu::conv) struct Fire<'a, X> {
    pub(in crate::ops::cpu::conv) l: LifShape,
    /// What an output is of its sum.
    pub(in crate::ops::cpu::conv) scale: &'a [f32],
    pub(in crate::ops::cpu::conv) norm: Folded<'a>,
    /// The shortcut.
    pub(in crate::ops::cpu::conv) residual: X,
    pub(in crate::ops::cpu::conv) spikes: Shared<u8>,
}

#[derive(Clone, Copy)]
pub(in crate::ops::cpu::conv) struct FireTile<S: Simd, const N: usize, X> {
    neuron: Neuron<S>,
    /// Of a pixel's spikes.
    bytes: usize,
    channel: usize,
    /// Of the sums, and of the norm.
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
        // SAFETY: the caller's.
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
            // SAFETY: the caller's; the shortcut has the neurons' shape, so that its floats have numbers.
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
