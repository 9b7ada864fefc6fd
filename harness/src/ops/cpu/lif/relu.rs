//! The ANN twin: the same current through a ReLU.

use super::super::norm::chunks;
use super::super::parallel::{Shared, map_tiles, tiles};
use super::super::simd::{self, Kernel, Simd};
use super::backward::{accumulate, add};
use super::current::{Extra, WithExtra, read, with_extra};
use super::{Branch, ChannelSums, Shortcut, check};

/// `out = max(0, main + shortcut)`.
///
/// # Panics
/// If a slice does not fit the others.
pub fn relu_forward(main: &Branch, shortcut: &Shortcut, channels: usize, out: &mut [f32]) {
    check(main, shortcut, channels, main.map.len());
    assert_eq!(out.len(), main.map.len(), "the output has the main map's shape");
    with_extra(shortcut, Forward { main, channels, out });
}

/// The gradient of the current, to `grad_current`, with its sums.
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
    check(main, shortcut, channels, main.map.len());
    let len = main.map.len();
    assert!(grad_out.len() == len && grad_current.len() == len, "the gradients have the main map's shape");
    with_extra(shortcut, Backward { main, channels, grad_out, grad_current })
}

struct Forward<'a> {
    main: &'a Branch<'a>,
    channels: usize,
    out: &'a mut [f32],
}

impl WithExtra for Forward<'_> {
    type Output = ();
    fn call<X: Extra>(self, extra: X) {
        let Self { main, channels, out } = self;
        let rows = out.len() / channels;
        let (each, n) = chunks(rows, channels);
        let (len, target) = (out.len(), Shared::new(out));
        tiles(n, len, |tile| {
            let (start, end) = (tile * each * channels, rows.min((tile + 1) * each) * channels);
            // SAFETY: tiles are disjoint ranges of `out`.
            let out = unsafe { target.slice(start, end - start) };
            simd::run(ForwardTile { main, channels, extra, start, out }, 8);
        });
    }
}

struct ForwardTile<'a, X> {
    main: &'a Branch<'a>,
    channels: usize,
    extra: X,
    start: usize,
    out: &'a mut [f32],
}

impl<X: Extra> Kernel for ForwardTile<'_, X> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        for (row, out) in self.out.chunks_exact_mut(self.channels).enumerate() {
            for (j, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let (at, c) = (self.start + row * self.channels + 8 * j, 8 * j);
                let mut current = self.main.scaled(at, c);
                self.extra.add(at, c, &mut current);
                for k in 0..8 {
                    out[k] = if current[k] > 0.0 { current[k] } else { 0.0 };
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

impl WithExtra for Backward<'_> {
    type Output = ChannelSums;
    fn call<X: Extra>(self, extra: X) -> ChannelSums {
        let Self { main, channels, grad_out, grad_current } = self;
        let rows = grad_current.len() / channels;
        let (each, n) = chunks(rows, channels);
        let (len, target) = (grad_current.len(), Shared::new(grad_current));
        let sums = map_tiles(n, len * 4, |tile| {
            let (start, end) = (tile * each * channels, rows.min((tile + 1) * each) * channels);
            // SAFETY: tiles are disjoint ranges of `grad_current`.
            let grad_current = unsafe { target.slice(start, end - start) };
            simd::run(BackwardTile { main, channels, extra, start, grad_out, grad_current }, 8)
        });
        ChannelSums::total(channels, sums)
    }
}

struct BackwardTile<'a, X> {
    main: &'a Branch<'a>,
    channels: usize,
    extra: X,
    start: usize,
    grad_out: &'a [f32],
    grad_current: &'a mut [f32],
}

impl<X: Extra> Kernel for BackwardTile<'_, X> {
    type Output = ChannelSums;
    #[inline(always)]
    unsafe fn run<S: Simd>(self) -> ChannelSums {
        let mut sums = ChannelSums::zeros(self.channels);
        for (row, to) in self.grad_current.chunks_exact_mut(self.channels).enumerate() {
            for (j, to) in to.as_chunks_mut::<8>().0.iter_mut().enumerate() {
                let (at, c) = (self.start + row * self.channels + 8 * j, 8 * j);
                let mut current = self.main.scaled(at, c);
                self.extra.add(at, c, &mut current);
                let mut grad = read(self.grad_out, at);
                for k in 0..8 {
                    grad[k] = if current[k] > 0.0 { grad[k] } else { 0.0 };
                }
                let (mut with_main, mut with_shortcut) = ([0.0; 8], [0.0; 8]);
                accumulate(&mut with_main, &grad, &read(self.main.map, at));
                add(&mut sums.grad[c..c + 8], &grad);
                add(&mut sums.grad_main[c..c + 8], &with_main);
                if X::SUMMED {
                    accumulate(&mut with_shortcut, &grad, &self.extra.value(at));
                    add(&mut sums.grad_shortcut[c..c + 8], &with_shortcut);
                }
                *to = grad;
            }
        }
        sums
    }
}
