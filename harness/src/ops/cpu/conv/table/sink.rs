//! What becomes of the tables' sums: a map, or at once the spikes of the neurons behind it.

use super::super::super::lif::{Extra, Folded, LifShape, Neuron, affine};
use super::super::super::parallel::Shared;
use super::super::super::simd::{self, Simd};

/// Pixels of the map that are asked for ahead of their turn.
const AHEAD: usize = 32;

/// Takes the sums, in whole numbers.
pub(in super::super) trait Sink: Copy + Send + Sync {
    type Ready<S: Simd, const N: usize>: Take<S, N>;
    /// Steps of which each takes its part of the images; one where images have nothing to do with each other.
    fn time_steps(&self) -> usize;
    /// For `N` vectors of channels from `channel` on.
    ///
    /// # Safety
    /// As [`Simd`]; there are these channels.
    unsafe fn ready<S: Simd, const N: usize>(&self, channel: usize) -> Self::Ready<S, N>;
}

/// A [`Sink`] for some channels, with their coefficients in registers.
pub(in super::super) trait Take<S: Simd, const N: usize>: Copy {
    /// Takes the sums of a pixel at time step `t`. `state`: what its last step returned, zeros at t = 0.
    ///
    /// # Safety
    /// As [`Simd`]; there are this step and this pixel, and no other tile has the channels of the pixel.
    unsafe fn take(self, state: [S::V; N], t: usize, pixel: usize, sums: [S::V; N]) -> [S::V; N];
}

/// The values of `N` vectors of channels.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
unsafe fn load<S: Simd, const N: usize>(from: &[f32], channel: usize) -> [S::V; N] {
    let from = &from[channel..][..N * S::LANES];
    // SAFETY: the caller's, and the slice holds `N` vectors.
    unsafe {
        let mut values = [S::zero(); N];
        for n in 0..N {
            values[n] = S::load(from.as_ptr().add(n * S::LANES));
        }
        values
    }
}

/// The map of a convolution's outputs, each `scale` times its sum, or the sums where there is none.
#[derive(Clone, Copy)]
pub(in super::super) struct Map<'a> {
    pub(in super::super) target: Shared<f32>,
    /// Floats of a pixel.
    pub(in super::super) channels: usize,
    pub(in super::super) scale: Option<&'a [f32]>,
}

#[derive(Clone, Copy)]
pub(in super::super) struct MapAt<S: Simd, const N: usize> {
    target: *mut f32,
    channels: usize,
    scale: Option<[S::V; N]>,
}

impl Sink for Map<'_> {
    type Ready<S: Simd, const N: usize> = MapAt<S, N>;

    #[inline(always)]
    fn time_steps(&self) -> usize {
        1
    }

    #[inline(always)]
    unsafe fn ready<S: Simd, const N: usize>(&self, channel: usize) -> MapAt<S, N> {
        // SAFETY: the caller's.
        let scale = self.scale.map(|scale| unsafe { load::<S, N>(scale, channel) });
        MapAt { target: self.target.at(channel), channels: self.channels, scale }
    }
}

impl<S: Simd, const N: usize> Take<S, N> for MapAt<S, N> {
    #[inline(always)]
    unsafe fn take(self, state: [S::V; N], _t: usize, pixel: usize, mut sums: [S::V; N]) -> [S::V; N] {
        let to = self.target.wrapping_add(pixel * self.channels);
        // The map is seldom in a cache.
        simd::prefetch(to.wrapping_add(AHEAD * self.channels), N * S::LANES);
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
pub(in super::super) struct Fire<'a, X> {
    pub(in super::super) l: LifShape,
    /// What an output is of its sum.
    pub(in super::super) scale: &'a [f32],
    pub(in super::super) norm: Folded<'a>,
    /// The shortcut.
    pub(in super::super) extra: X,
    pub(in super::super) spikes: Shared<u8>,
}

#[derive(Clone, Copy)]
pub(in super::super) struct FireAt<S: Simd, const N: usize, X> {
    neuron: Neuron<S>,
    positions: usize,
    channels: usize,
    channel: usize,
    /// Of the sums, and of the norm.
    scales: [[S::V; N]; 2],
    shift: [S::V; N],
    extra: X,
    spikes: Shared<u8>,
}

impl<X: Extra> Sink for Fire<'_, X> {
    type Ready<S: Simd, const N: usize> = FireAt<S, N, X>;

    #[inline(always)]
    fn time_steps(&self) -> usize {
        self.l.time_steps
    }

    #[inline(always)]
    unsafe fn ready<S: Simd, const N: usize>(&self, channel: usize) -> FireAt<S, N, X> {
        let LifShape { positions, channels, .. } = self.l;
        // SAFETY: the caller's.
        unsafe {
            let scales = [load::<S, N>(self.scale, channel), load::<S, N>(self.norm.scale, channel)];
            let (neuron, shift) = (Neuron::new(&self.l), load::<S, N>(self.norm.shift, channel));
            let (extra, spikes) = (self.extra, self.spikes);
            FireAt { neuron, positions, channels, channel, scales, shift, extra, spikes }
        }
    }
}

impl<S: Simd, const N: usize, X: Extra> Take<S, N> for FireAt<S, N, X> {
    #[inline(always)]
    unsafe fn take(self, mut state: [S::V; N], t: usize, pixel: usize, sums: [S::V; N]) -> [S::V; N] {
        let first = (t * self.positions + pixel) * self.channels + self.channel;
        for n in 0..N {
            let lanes = n * S::LANES;
            // SAFETY: the caller's; the shortcut has the neurons' shape.
            unsafe {
                let output = S::mul(S::from_ints(sums[n]), self.scales[0][n]);
                let main = affine::<S>(output, self.scales[1][n], self.shift[n]);
                let current = self.extra.add::<S>(first + lanes, self.channel + lanes, main);
                state[n] = self.neuron.step(state[n], current, self.spikes.at((first + lanes) / 8));
            }
        }
        state
    }
}
