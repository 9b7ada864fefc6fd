use super::super::parallel::{Shared, map_tiles, scratch};
use super::super::simd::{self, Kernel as Simded, Simd};
use super::current::{Extra, Neuron, WithExtra, with_extra};
use super::{Branch, ChannelSums, LifShape, Shortcut};
use methods::surrogate::{Kernel, Surrogate, WithKernel};
use std::ops::Range;

/// Vectors of membranes whose slopes are computed together: membranes, slopes and maps of a chunk stay in the first-level cache.
const CHUNK: usize = 16;

/// Turns `grad`, the gradient of the spikes, into that of the current, in place, and returns its sums. Where the main
/// map is broadcast over t, the gradient's first `positions` rows are the sum over t and the rest is used up. The
/// membrane is recomputed from the same branches as in the forward.
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
    let broadcast = l.check(main, shortcut, grad.len());
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
    fn call<K: Kernel>(self, kernel: K) -> ChannelSums {
        with_extra(self.shortcut, Curved { all: self, kernel })
    }
}

struct Curved<'a, K> {
    all: Backward<'a>,
    kernel: K,
}

impl<K: Kernel> WithExtra for Curved<'_, K> {
    type Output = ChannelSums;
    fn call<X: Extra>(self, extra: X) -> ChannelSums {
        let Backward { l, main, broadcast, grad, .. } = self.all;
        let (each, n) = l.tiles();
        let (grad, kernel) = (Shared::new(grad), self.kernel);
        let chunk = (CHUNK / l.time_steps).max(1);
        // Room for the membranes and the slopes of the widest vector.
        let half = chunk * l.time_steps * 16;
        let sums = map_tiles(n, l.len() * 16, |tile| {
            let positions = tile * each..l.positions.min((tile + 1) * each);
            scratch(2 * half, |memory| {
                let (membrane, slopes) = memory.split_at_mut(half);
                let tile = Tile { l, main, broadcast, extra, kernel, positions, grad };
                simd::run(Chunks { tile, chunk, membrane, slopes }, l.channels)
            })
        });
        ChannelSums::total(l.channels, sums)
    }
}

struct Tile<'a, X, K> {
    l: &'a LifShape,
    main: &'a Branch<'a>,
    broadcast: bool,
    extra: X,
    kernel: K,
    positions: Range<usize>,
    grad: Shared<f32>,
}

struct Chunks<'a, X, K> {
    tile: Tile<'a, X, K>,
    /// Positions of a chunk.
    chunk: usize,
    membrane: &'a mut [f32],
    slopes: &'a mut [f32],
}

impl<X: Extra, K: Kernel> Simded for Chunks<'_, X, K> {
    type Output = ChannelSums;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> ChannelSums {
        let Self { tile, chunk, membrane, slopes } = self;
        let (l, end) = (tile.l, tile.positions.end);
        let mut sums = ChannelSums::zeros(l.channels);
        for start in tile.positions.clone().step_by(chunk) {
            let positions = start..end.min(start + chunk);
            let used = positions.len() * l.time_steps * S::LANES;
            // SAFETY: only addresses.
            unsafe { tile.prefetch::<S>(positions.end..l.positions.min(positions.end + chunk)) };
            for c in (0..l.channels).step_by(S::LANES) {
                // SAFETY: `check` has seen that all maps have the rows that positions and time steps index, and channels
                // are a multiple of the lanes; the buffers hold a chunk's vectors; the tile owns the gradient of its
                // positions.
                unsafe {
                    tile.recompute::<S>(positions.clone(), c, membrane);
                    // One long loop: LLVM unrolls one over eight lanes and then keeps the surrogate's branch in each.
                    for (slope, u) in slopes[..used].iter_mut().zip(&membrane[..used]) {
                        *slope = tile.kernel.derivative(u - l.v_th);
                    }
                    tile.through_time::<S>(positions.clone(), c, membrane, slopes, &mut sums);
                }
            }
        }
        sums
    }
}

impl<X: Extra, K: Kernel> Tile<'_, X, K> {
    /// Asks for the maps of the next chunk: as many streams as planes are more than the hardware foresees.
    #[inline(always)]
    unsafe fn prefetch<S: Simd>(&self, positions: Range<usize>) {
        let l = self.l;
        let plane = l.positions * l.channels;
        for t in 0..l.time_steps {
            let row = t * plane + positions.start * l.channels;
            for at in (row..row + positions.len() * l.channels).step_by(16) {
                // SAFETY: as in `run`; addresses that are never read through.
                unsafe {
                    S::prefetch(self.grad.at(at));
                    if !self.broadcast {
                        S::prefetch(self.main.map.as_ptr().wrapping_add(at));
                    }
                }
            }
        }
    }

    /// The membranes before the reset of the lanes from channel `c` on, `[positions, T, lanes]`.
    #[inline(always)]
    unsafe fn recompute<S: Simd>(&self, positions: Range<usize>, c: usize, membrane: &mut [f32]) {
        let l = self.l;
        let plane = l.positions * l.channels;
        let mut to = membrane.as_mut_ptr();
        // SAFETY: as in `run` (and below).
        unsafe {
            let neuron = Neuron::<S>::new(l);
            for position in positions {
                let start = position * l.channels + c;
                let mut u = neuron.zero;
                for t in 0..l.time_steps {
                    let at = start + t * plane;
                    let current = self.main.scaled::<S>(if self.broadcast { start } else { at }, c);
                    u = neuron.charge(u, self.extra.add::<S>(at, c, current));
                    S::store(to, u);
                    to = to.add(S::LANES);
                    u = neuron.discharge(u);
                }
            }
        }
    }

    /// Backpropagation through time. `grad` holds dL/du[t+1] and becomes dL/du[t]:
    /// `gs·σ' + tau·grad·(1 - s - u·σ')` for the hard reset, `gs·σ' + tau·grad·(1 - v_th·σ')` for the soft one; a
    /// detached reset drops the last term.
    #[inline(always)]
    unsafe fn through_time<S: Simd>(
        &self,
        positions: Range<usize>,
        c: usize,
        membrane: &[f32],
        slopes: &[f32],
        sums: &mut ChannelSums,
    ) {
        let l = self.l;
        let plane = l.positions * l.channels;
        unsafe {
            let neuron = Neuron::<S>::new(l);
            let one = S::splat(1.0);
            let [mut all, mut with_main, mut with_shortcut] = [neuron.zero; 3];
            for (k, position) in positions.enumerate() {
                let start = position * l.channels + c;
                let [mut grad, mut total] = [neuron.zero; 2];
                for t in (0..l.time_steps).rev() {
                    let at = start + t * plane;
                    let lanes = (k * l.time_steps + t) * S::LANES;
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
                        S::store(self.grad.at(at), grad);
                    }
                    if X::SUMMED {
                        with_shortcut = S::add(with_shortcut, S::mul(grad, self.extra.value::<S>(at)));
                    }
                }
                if self.broadcast {
                    with_main = S::add(with_main, S::mul(total, S::load(self.main.map.as_ptr().add(start))));
                    S::store(self.grad.at(start), total);
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
