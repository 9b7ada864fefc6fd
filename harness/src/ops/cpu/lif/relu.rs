//! The neuron of the ANN twin: the same current through a ReLU.

use super::backward::add;
use super::current::{Residual, ResidualVisitor, dispatch_residual};
use super::{Branch, ChannelSums, Shortcut, check};
use crate::ops::cpu::norm::chunks;
use crate::ops::cpu::parallel::{Shared, map_tiles, tiles};
use crate::ops::cpu::simd::{self, Simd, SimdKernel};

/// `out = max(0, main + shortcut)`.
///
/// # Panics
/// If a slice does not fit the others.
pub fn relu_forward(main: &Branch, shortcut: &Shortcut, channels: usize, out: &mut [f32]) {
    check(&main.norm, shortcut, channels, main.map.len());
    assert_eq!(out.len(), main.map.len(), "the output has the main map's shape");
    dispatch_residual(shortcut, Forward { main, channels, out });
}

/// Writes the gradient of the current to `grad_current` and returns its sums.
///
/// # Panics
/// If a slice does not fit the others.
pub fn relu_backward(
    main: &Branch,
    shortcut: &Shortcut,
    channels: usize,
    grad_out: &[f32],
    grad_current: &mut [f32],
) -> ChannelSums {
    check(&main.norm, shortcut, channels, main.map.len());
    let len = main.map.len();
    assert!(grad_out.len() == len && grad_current.len() == len, "the gradients have the main map's shape");
    dispatch_residual(shortcut, Backward { main, channels, grad_out, grad_current })
}

struct Forward<'a> {
    main: &'a Branch<'a>,
    channels: usize,
    out: &'a mut [f32],
}

impl ResidualVisitor for Forward<'_> {
    type Output = ();
    fn call<X: Residual>(self, residual: X) {
        let Self { main, channels, out } = self;
        let rows = out.len() / channels;
        let (each, n) = chunks(rows, channels);
        let (len, target) = (out.len(), Shared::new(out));
        tiles(n, len, |tile| {
            let (start, end) = (tile * each * channels, rows.min((tile + 1) * each) * channels);
            // SAFETY: tiles are disjoint ranges of `out`.
            let out = unsafe { target.slice(start, end - start) };
            simd::run(ForwardTile { main, channels, residual, start, out }, channels);
        });
    }
}

struct ForwardTile<'a, X> {
    main: &'a Branch<'a>,
    channels: usize,
    residual: X,
    start: usize,
    out: &'a mut [f32],
}

impl<X: Residual> SimdKernel for ForwardTile<'_, X> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for row in (0..self.out.len()).step_by(self.channels) {
            for c in (0..self.channels).step_by(S::LANES) {
                let at = self.start + row + c;
                // SAFETY: `check` has verified that the maps are as long as `out`, and rows are
                // a multiple of the lanes.
                unsafe {
                    let current = self.residual.add::<S>(at, c, self.main.scaled::<S>(at, c));
                    let zero = S::zero();
                    S::store(self.out.as_mut_ptr().add(row + c), S::at_least(current, zero, current, zero));
                }
            }
        }
    }
}

struct Backward<'a> {
    main: &'a Branch<'a>,
    channels: usize,
    grad_out: &'a [f32],
    grad_current: &'a mut [f32],
}

impl ResidualVisitor for Backward<'_> {
    type Output = ChannelSums;
    fn call<X: Residual>(self, residual: X) -> ChannelSums {
        let Self { main, channels, grad_out, grad_current } = self;
        let rows = grad_current.len() / channels;
        let (each, n) = chunks(rows, channels);
        let (len, target) = (grad_current.len(), Shared::new(grad_current));
        let sums = map_tiles(n, len * 4, |tile| {
            let (start, end) = (tile * each * channels, rows.min((tile + 1) * each) * channels);
            // SAFETY: tiles are disjoint ranges of `grad_current`.
            let grad_current = unsafe { target.slice(start, end - start) };
            simd::run(BackwardTile { main, channels, residual, start, grad_out, grad_current }, channels)
        });
        ChannelSums::total(channels, sums)
    }
}

struct BackwardTile<'a, X> {
    main: &'a Branch<'a>,
    channels: usize,
    residual: X,
    start: usize,
    grad_out: &'a [f32],
    grad_current: &'a mut [f32],
}

impl<X: Residual> SimdKernel for BackwardTile<'_, X> {
    type Output = ChannelSums;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> ChannelSums {
        let mut sums = ChannelSums::zeros(self.channels);
        for row in (0..self.grad_current.len()).step_by(self.channels) {
            for c in (0..self.channels).step_by(S::LANES) {
                let at = self.start + row + c;
                // SAFETY: as in the forward.
                unsafe {
                    let current = self.residual.add::<S>(at, c, self.main.scaled::<S>(at, c));
                    let (zero, grad) = (S::zero(), S::load(self.grad_out.as_ptr().add(at)));
                    // The gradient at exactly 0 is 0, as in PyTorch.
                    let grad = S::at_least(zero, current, zero, grad);
                    S::store(self.grad_current.as_mut_ptr().add(row + c), grad);
                    add::<S>(&mut sums.grad[c..], grad);
                    add::<S>(&mut sums.grad_main[c..], S::mul(grad, S::load(self.main.map.as_ptr().add(at))));
                    if X::SUMMED {
                        add::<S>(&mut sums.grad_shortcut[c..], S::mul(grad, self.residual.value::<S>(at)));
                    }
                }
            }
        }
        sums
    }
}
