use super::super::parallel::{Shared, map_tiles};
use super::super::simd::{self, Kernel as Simded, Simd};
use super::current::{Extra, Neuron, WithExtra, with_extra};
use super::{Branch, ChannelSums, LifShape, Shortcut};
use methods::surrogate::{Kernel, Surrogate, WithKernel};
use std::ops::Range;

/// The gradient of the current, to `grad_current` (as many rows as `main.map`; summed over t when that is broadcast),
/// with its sums. The membrane is recomputed from the same branches as in the forward.
///
/// # Panics
/// If a slice does not fit the shape.
pub fn backward(
    l: &LifShape,
    main: &Branch,
    shortcut: &Shortcut,
    grad_spikes: &[f32],
    surrogate: &Surrogate,
    grad_current: &mut [f32],
) -> ChannelSums {
    let broadcast = l.check(main, shortcut, grad_spikes.len());
    assert_eq!(grad_current.len(), main.map.len(), "the current's gradient has the main map's rows");
    surrogate.with_kernel(Backward { l, main, broadcast, shortcut, grad_spikes, grad_current })
}

struct Backward<'a> {
    l: &'a LifShape,
    main: &'a Branch<'a>,
    broadcast: bool,
    shortcut: &'a Shortcut<'a>,
    grad_spikes: &'a [f32],
    grad_current: &'a mut [f32],
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
        let Backward { l, main, broadcast, grad_spikes, grad_current, .. } = self.all;
        let (each, n) = l.tiles();
        let (grad_current, kernel) = (Shared::new(grad_current), self.kernel);
        let sums = map_tiles(n, l.len() * 16, |tile| {
            let positions = tile * each..l.positions.min((tile + 1) * each);
            simd::run(Tile { l, main, broadcast, extra, kernel, positions, grad_spikes, grad_current }, l.channels)
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
    grad_spikes: &'a [f32],
    grad_current: Shared<f32>,
}

impl<X: Extra, K: Kernel> Simded for Tile<'_, X, K> {
    type Output = ChannelSums;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> ChannelSums {
        let l = self.l;
        let mut sums = ChannelSums::zeros(l.channels);
        let mut membrane = vec![0.0; l.time_steps * l.channels];
        let mut slopes = membrane.clone();
        for position in self.positions.clone() {
            // SAFETY: `check` has seen that all maps have the rows that positions and time steps index, and channels are
            // a multiple of the lanes; the buffers hold T rows; the tile owns the gradient of its positions.
            unsafe {
                self.recompute::<S>(position, &mut membrane);
                // One long loop: LLVM unrolls one over eight lanes and then keeps the surrogate's branch in each.
                for (slope, u) in slopes.iter_mut().zip(&membrane) {
                    *slope = self.kernel.derivative(u - l.v_th);
                }
                self.through_time::<S>(position, &membrane, &slopes, &mut sums);
            }
        }
        sums
    }
}

impl<X: Extra, K: Kernel> Tile<'_, X, K> {
    /// The membrane before the reset, `[T, channels]`.
    #[inline(always)]
    unsafe fn recompute<S: Simd>(&self, position: usize, membrane: &mut [f32]) {
        let l = self.l;
        let plane = l.positions * l.channels;
        // SAFETY: as in `run` (and below).
        unsafe {
            let neuron = Neuron::<S>::new(l);
            for c in (0..l.channels).step_by(S::LANES) {
                let start = position * l.channels + c;
                let mut u = neuron.zero;
                for t in 0..l.time_steps {
                    let at = start + t * plane;
                    let current = self.main.scaled::<S>(if self.broadcast { start } else { at }, c);
                    u = neuron.charge(u, self.extra.add::<S>(at, c, current));
                    S::store(membrane.as_mut_ptr().add(t * l.channels + c), u);
                    u = neuron.discharge(u);
                }
            }
        }
    }

    /// Backpropagation through time of one position. `grad` holds dL/du[t+1] and becomes dL/du[t]:
    /// `gs·σ' + tau·grad·(1 - s - u·σ')` for the hard reset, `gs·σ' + tau·grad·(1 - v_th·σ')` for the soft one; a
    /// detached reset drops the last term.
    #[inline(always)]
    unsafe fn through_time<S: Simd>(&self, position: usize, membrane: &[f32], slopes: &[f32], sums: &mut ChannelSums) {
        let l = self.l;
        let plane = l.positions * l.channels;
        unsafe {
            let neuron = Neuron::<S>::new(l);
            let one = S::splat(1.0);
            for c in (0..l.channels).step_by(S::LANES) {
                let start = position * l.channels + c;
                let [mut grad, mut total, mut with_main, mut with_shortcut] = [neuron.zero; 4];
                for t in (0..l.time_steps).rev() {
                    let at = start + t * plane;
                    let u = S::load(membrane.as_ptr().add(t * l.channels + c));
                    let slope = S::load(slopes.as_ptr().add(t * l.channels + c));
                    let mut through = if neuron.hard { S::at_least(u, neuron.v_th, neuron.zero, one) } else { one };
                    if !l.detach_reset {
                        let lost = if neuron.hard { u } else { neuron.v_th };
                        through = S::sub(through, S::mul(lost, slope));
                    }
                    let direct = S::mul(S::load(self.grad_spikes.as_ptr().add(at)), slope);
                    grad = S::add(direct, S::mul(S::mul(neuron.tau, grad), through));
                    total = S::add(total, grad);
                    if !self.broadcast {
                        with_main = S::add(with_main, S::mul(grad, S::load(self.main.map.as_ptr().add(at))));
                        S::store(self.grad_current.at(at), grad);
                    }
                    if X::SUMMED {
                        with_shortcut = S::add(with_shortcut, S::mul(grad, self.extra.value::<S>(at)));
                    }
                }
                if self.broadcast {
                    with_main = S::mul(total, S::load(self.main.map.as_ptr().add(start)));
                    S::store(self.grad_current.at(start), total);
                }
                add::<S>(&mut sums.grad[c..], total);
                add::<S>(&mut sums.grad_main[c..], with_main);
                if X::SUMMED {
                    add::<S>(&mut sums.grad_shortcut[c..], with_shortcut);
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
