use super::current::{Neuron, Residual, ResidualVisitor, dispatch_residual};
use super::{Branch, ChannelSums, LifShape, Shortcut};
use crate::ops::cpu::parallel::{Shared, map_tiles, scratch};
use crate::ops::cpu::simd::{self, Simd, SimdKernel};
use methods::surrogate::{Kernel as SurrogateKernel, Surrogate, WithKernel};
use std::ops::Range;

/// Floats per chunk of currents. The currents, the slopes and the maps they come from stay in
/// the first-level cache.
const CHUNK_FLOATS: usize = 1 << 9;

/// Turns `grad`, the gradient of the spikes, into the gradient of the current, in place, and
/// returns its sums. If the main map is broadcast over t, the first `positions` rows become the
/// sum over t and the other rows are unspecified. The membrane is recomputed from the same
/// branches as in the forward pass.
///
/// # Panics
/// If a slice does not fit the shape.
pub fn backward(
    l: &LifShape,
    main: &Branch,
    shortcut: &Shortcut,
    grad: &mut [f32],
    surrogate: &Surrogate,
) -> ChannelSums {
    assert_eq!(grad.len(), l.len(), "a gradient for each neuron and time step: {l:?}");
    let broadcast = l.check_main(main, shortcut);
    surrogate.with_kernel(Backward { l, main, broadcast, shortcut, grad })
}

struct Backward<'a> {
    l: &'a LifShape,
    main: &'a Branch<'a>,
    broadcast: bool,
    shortcut: &'a Shortcut<'a>,
    grad: &'a mut [f32],
}

impl WithKernel for Backward<'_> {
    type Output = ChannelSums;
    fn call<K: SurrogateKernel>(self, kernel: K) -> ChannelSums {
        dispatch_residual(self.shortcut, Curved { all: self, kernel })
    }
}

struct Curved<'a, K> {
    all: Backward<'a>,
    kernel: K,
}

impl<K: SurrogateKernel> ResidualVisitor for Curved<'_, K> {
    type Output = ChannelSums;
    fn call<X: Residual>(self, residual: X) -> ChannelSums {
        let Backward { l, main, broadcast, grad, .. } = self.all;
        let (each, n) = l.tiles();
        let (grad, kernel) = (Shared::new(grad), self.kernel);
        let chunk = (CHUNK_FLOATS / (l.time_steps * l.channels)).max(1);
        let len = chunk * l.time_steps * l.channels;
        let sums = map_tiles(n, l.len() * 16, |tile| {
            let positions = tile * each..l.positions.min((tile + 1) * each);
            scratch(2 * len, |memory| {
                let (membrane, slopes) = memory.split_at_mut(len);
                let tile = Tile { l, main, broadcast, residual, kernel, grad };
                simd::run(Chunks { tile, positions, chunk, membrane, slopes }, l.channels)
            })
        });
        ChannelSums::total(l.channels, sums)
    }
}

#[derive(Clone, Copy)]
struct Tile<'a, X, K> {
    l: &'a LifShape,
    main: &'a Branch<'a>,
    broadcast: bool,
    residual: X,
    kernel: K,
    grad: Shared<f32>,
}

/// Computes a tile chunk by chunk. The planes of the T steps lie a power of two apart: if they
/// were read and written in turn, each store would delay the loads behind it. So the currents
/// of a chunk are loaded plane by plane, and its gradients are written back in the same way.
struct Chunks<'a, X, K> {
    tile: Tile<'a, X, K>,
    positions: Range<usize>,
    /// Positions per chunk.
    chunk: usize,
    /// `[T, positions of the chunk, channels]`.
    membrane: &'a mut [f32],
    /// `[T, positions of the chunk, channels]`.
    slopes: &'a mut [f32],
}

impl<X: Residual, K: SurrogateKernel> SimdKernel for Chunks<'_, X, K> {
    type Output = ChannelSums;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> ChannelSums {
        let Self { tile, positions: all, chunk, membrane, slopes } = self;
        let l = tile.l;
        let mut total = ChannelSums::zeros(l.channels);
        for start in all.clone().step_by(chunk) {
            let positions = start..all.end.min(start + chunk);
            let used = positions.len() * l.time_steps * l.channels;
            let (membrane, slopes) = (&mut membrane[..used], &mut slopes[..used]);
            // SAFETY: `check` has verified that all maps have the rows that positions and time
            // steps index, and channels are a multiple of the lanes. The buffers hold a chunk,
            // and the tile owns the gradient of its positions.
            unsafe {
                tile.currents::<S>(positions.clone(), membrane);
                tile.charge::<S>(membrane);
                for (slope, u) in slopes.iter_mut().zip(&*membrane) {
                    *slope = u - l.v_th;
                }
                tile.kernel.derivatives(slopes);
                tile.through_time::<S>(positions.clone(), membrane, slopes, &mut total);
                if !tile.broadcast {
                    tile.take_back::<S>(positions, slopes);
                }
            }
        }
        total
    }
}

/// # Safety
/// For every method: as in [`Chunks::run`].
impl<X: Residual, K: SurrogateKernel> Tile<'_, X, K> {
    /// The range of the chunk in the map of step `t`.
    #[inline(always)]
    fn rows(&self, positions: &Range<usize>, t: usize) -> Range<usize> {
        let row = |position: usize| (t * self.l.positions + position) * self.l.channels;
        row(positions.start)..row(positions.end)
    }

    /// Writes the currents of a chunk to `to`.
    #[inline(always)]
    unsafe fn currents<S: Simd>(&self, positions: Range<usize>, to: &mut [f32]) {
        let mut to = to.as_mut_ptr();
        for t in 0..self.l.time_steps {
            let rows = self.rows(&positions, t);
            let back = if self.broadcast { rows.start - self.rows(&positions, 0).start } else { 0 };
            for row in rows.step_by(self.l.channels) {
                for c in (0..self.l.channels).step_by(S::LANES) {
                    // SAFETY: passed on to the caller.
                    unsafe {
                        let current = self.main.scaled::<S>(row - back + c, c);
                        S::store(to, self.residual.add::<S>(row + c, c, current));
                        to = to.add(S::LANES);
                    }
                }
            }
        }
    }

    /// Turns currents into membranes before the reset.
    #[inline(always)]
    unsafe fn charge<S: Simd>(&self, membrane: &mut [f32]) {
        let plane = membrane.len() / self.l.time_steps;
        for v in (0..plane).step_by(S::LANES) {
            // SAFETY: passed on to the caller.
            unsafe {
                let neuron = Neuron::<S>::new(self.l);
                let mut u = neuron.zero;
                for t in 0..self.l.time_steps {
                    let at = membrane.as_mut_ptr().add(t * plane + v);
                    u = neuron.charge(u, S::load(at));
                    S::store(at, u);
                    u = neuron.discharge(u);
                }
            }
        }
    }

    /// Backpropagation through time. `grad` holds dL/du[t+1] and becomes dL/du[t]:
    /// `gs·σ' + tau·grad·(1 - s - u·σ')` for the hard reset, `gs·σ' + tau·grad·(1 - v_th·σ')` for
    /// the soft reset. With a detached reset the last term is omitted. The slopes become the
    /// gradients unless the main map is broadcast.
    #[inline(always)]
    unsafe fn through_time<S: Simd>(
        &self,
        positions: Range<usize>,
        membrane: &[f32],
        slopes: &mut [f32],
        sums: &mut ChannelSums,
    ) {
        let l = self.l;
        let (chunk, plane) = (membrane.len() / l.time_steps, l.positions * l.channels);
        for c in (0..l.channels).step_by(S::LANES) {
            // SAFETY: passed on to the caller.
            unsafe {
                let neuron = Neuron::<S>::new(l);
                let one = S::splat(1.0);
                let [mut all, mut with_main, mut with_shortcut] = [neuron.zero; 3];
                for (k, row) in self.rows(&positions, 0).step_by(l.channels).enumerate() {
                    let [mut grad, mut total] = [neuron.zero; 2];
                    for t in (0..l.time_steps).rev() {
                        let at = row + c + t * plane;
                        let lanes = t * chunk + k * l.channels + c;
                        let u = S::load(membrane.as_ptr().add(lanes));
                        let slope = S::load(slopes.as_ptr().add(lanes));
                        let mut through = if neuron.hard { S::at_least(u, neuron.v_th, neuron.zero, one) } else { one };
                        if !l.detach_reset {
                            let lost = if neuron.hard { u } else { neuron.v_th };
                            through = S::sub(through, S::mul(lost, slope));
                        }
                        let direct = S::mul(S::load(self.grad.at(at)), slope);
                        grad = S::add(direct, S::mul(S::mul(neuron.tau, grad), through));
                        total = S::add(total, grad);
                        if !self.broadcast {
                            with_main = S::add(with_main, S::mul(grad, S::load(self.main.map.as_ptr().add(at))));
                            S::store(slopes.as_mut_ptr().add(lanes), grad);
                        }
                        if X::SUMMED {
                            with_shortcut = S::add(with_shortcut, S::mul(grad, self.residual.value::<S>(at)));
                        }
                    }
                    if self.broadcast {
                        with_main = S::add(with_main, S::mul(total, S::load(self.main.map.as_ptr().add(row + c))));
                        S::store(self.grad.at(row + c), total);
                    }
                    all = S::add(all, total);
                }
                add::<S>(&mut sums.grad[c..], all);
                add::<S>(&mut sums.grad_main[c..], with_main);
                if X::SUMMED {
                    add::<S>(&mut sums.grad_shortcut[c..], with_shortcut);
                }
            }
        }
    }

    /// Writes a chunk's gradients to the map.
    #[inline(always)]
    unsafe fn take_back<S: Simd>(&self, positions: Range<usize>, grad: &[f32]) {
        let mut from = grad.as_ptr();
        for t in 0..self.l.time_steps {
            for at in self.rows(&positions, t).step_by(S::LANES) {
                // SAFETY: passed on to the caller.
                unsafe {
                    S::store(self.grad.at(at), S::load(from));
                    from = from.add(S::LANES);
                }
            }
        }
    }
}

/// Adds the lanes of `x` to f64 sums.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(super) unsafe fn add<S: Simd>(to: &mut [f64], x: S::V) {
    let mut lanes = [0.0; 16];
    // SAFETY: no vector has more than 16 lanes.
    unsafe { S::store(lanes.as_mut_ptr(), x) };
    for (to, x) in to[..S::LANES].iter_mut().zip(lanes) {
        *to += f64::from(x);
    }
}
