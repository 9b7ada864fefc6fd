use super::super::parallel::{Shared, map_tiles};
use super::super::simd::{self, Kernel as Simded, Simd};
use super::current::{Extra, Lanes, WithExtra, read, with_extra};
use super::forward::{charge, discharge};
use super::{Branch, ChannelSums, LifShape, Reset, Shortcut};
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
            simd::run(Tile { l, main, broadcast, extra, kernel, positions, grad_spikes, grad_current }, 8)
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
        let mut membrane = vec![[0.0; 8]; l.time_steps * l.channels / 8];
        let mut slopes = membrane.clone();
        for position in self.positions.clone() {
            for (j, membrane) in membrane.chunks_exact_mut(l.time_steps).enumerate() {
                self.recompute(position, 8 * j, membrane);
            }
            // One long loop: LLVM unrolls one over eight lanes and then keeps the surrogate's branch in each.
            for (slope, u) in slopes.as_flattened_mut().iter_mut().zip(membrane.as_flattened()) {
                *slope = self.kernel.derivative(u - l.v_th);
            }
            let rows = membrane.chunks_exact(l.time_steps).zip(slopes.chunks_exact(l.time_steps));
            for (j, (membrane, slopes)) in rows.enumerate() {
                self.eight(position, 8 * j, membrane, slopes, &mut sums);
            }
        }
        sums
    }
}

impl<X: Extra, K: Kernel> Tile<'_, X, K> {
    /// The membrane before the reset, at every t.
    #[inline(always)]
    fn recompute(&self, position: usize, c: usize, membrane: &mut [Lanes]) {
        let l = self.l;
        let mut u = [0.0; 8];
        for (t, kept) in membrane.iter_mut().enumerate() {
            let at = (t * l.positions + position) * l.channels + c;
            let mut current = self.main.scaled(if self.broadcast { position * l.channels + c } else { at }, c);
            self.extra.add(at, c, &mut current);
            charge(l, &mut u, &current);
            *kept = u;
            discharge(l, &mut u);
        }
    }

    /// Backpropagation through time of eight channels of one position.
    #[inline(always)]
    fn eight(&self, position: usize, c: usize, membrane: &[Lanes], slopes: &[Lanes], sums: &mut ChannelSums) {
        let l = self.l;
        let (mut grad, mut total) = ([0.0; 8], [0.0; 8]);
        let (mut with_main, mut with_shortcut) = ([0.0; 8], [0.0; 8]);
        for (t, (u, slope)) in membrane.iter().zip(slopes).enumerate().rev() {
            let at = (t * l.positions + position) * l.channels + c;
            self.step(u, slope, &read(self.grad_spikes, at), &mut grad);
            for k in 0..8 {
                total[k] += grad[k];
            }
            if !self.broadcast {
                accumulate(&mut with_main, &grad, &read(self.main.map, at));
                self.write(at, &grad);
            }
            if X::SUMMED {
                accumulate(&mut with_shortcut, &grad, &self.extra.value(at));
            }
        }
        if self.broadcast {
            let at = position * l.channels + c;
            accumulate(&mut with_main, &total, &read(self.main.map, at));
            self.write(at, &total);
        }
        add(&mut sums.grad[c..c + 8], &total);
        add(&mut sums.grad_main[c..c + 8], &with_main);
        if X::SUMMED {
            add(&mut sums.grad_shortcut[c..c + 8], &with_shortcut);
        }
    }

    /// `grad` holds dL/du[t+1] and becomes dL/du[t]: `gs·σ' + tau·grad·(1 - s - u·σ')` for the hard reset,
    /// `gs·σ' + tau·grad·(1 - v_th·σ')` for the soft one; a detached reset drops the last term.
    #[inline(always)]
    fn step(&self, u: &Lanes, slope: &Lanes, grad_spikes: &Lanes, grad: &mut Lanes) {
        let l = self.l;
        let hard = l.reset == Reset::Hard;
        let attached = if l.detach_reset { 0.0 } else { 1.0 };
        for k in 0..8 {
            let keep = if hard && u[k] >= l.v_th { 0.0 } else { 1.0 };
            let lost = attached * if hard { u[k] } else { l.v_th };
            grad[k] = grad_spikes[k] * slope[k] + l.tau * grad[k] * (keep - lost * slope[k]);
        }
    }

    #[inline(always)]
    fn write(&self, at: usize, grad: &Lanes) {
        // SAFETY: the tile owns the rows of its positions, and `at + 8` is inside the map: channels are padded to 8.
        unsafe { self.grad_current.at(at).cast::<Lanes>().write(*grad) };
    }
}

/// `to += a·b`, lane by lane.
#[inline(always)]
pub(super) fn accumulate(to: &mut Lanes, a: &Lanes, b: &Lanes) {
    for k in 0..8 {
        to[k] += a[k] * b[k];
    }
}

/// Adds eight lanes to eight f64 sums.
#[inline(always)]
pub(super) fn add(to: &mut [f64], lanes: &Lanes) {
    for (to, x) in to.iter_mut().zip(lanes) {
        *to += f64::from(*x);
    }
}
