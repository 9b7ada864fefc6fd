use super::current::{Neuron, Residual, ResidualVisitor, dispatch_residual};
use super::{Branch, LifShape, Shortcut};
use crate::ops::cpu::parallel::{Shared, tiles, vec_from_uninit};
use crate::ops::cpu::simd::{self, Simd, SimdKernel};
use std::ops::Range;

/// The spikes of the current `main + shortcut`, as bits. If `main.map` has `positions` rows, it
/// is the same at every t.
///
/// # Panics
/// If a slice does not fit the shape.
pub fn forward(l: &LifShape, main: &Branch, shortcut: &Shortcut) -> Vec<u8> {
    let broadcast = l.check_main(main, shortcut);
    // SAFETY: the tiles cover all positions, and each writes the spikes of its own positions at
    // every time step.
    unsafe {
        vec_from_uninit(l.len() / 8, |spikes| dispatch_residual(shortcut, Forward { l, main, broadcast, spikes }))
    }
}

struct Forward<'a> {
    l: &'a LifShape,
    main: &'a Branch<'a>,
    broadcast: bool,
    spikes: Shared<u8>,
}

impl ResidualVisitor for Forward<'_> {
    type Output = ();
    fn call<X: Residual>(self, residual: X) {
        let (each, n) = self.l.tiles();
        let Self { l, main, broadcast, spikes } = self;
        tiles(n, l.len() * 4, |tile| {
            let positions = tile * each..l.positions.min((tile + 1) * each);
            simd::run(Tile { l, main, broadcast, residual, positions, spikes }, l.channels);
        });
    }
}

/// The distance in floats by which the main map is prefetched, at each time step: the steps lie
/// too far apart for the hardware prefetcher.
const PREFETCH_FLOATS: usize = 512;

struct Tile<'a, X> {
    l: &'a LifShape,
    main: &'a Branch<'a>,
    broadcast: bool,
    residual: X,
    positions: Range<usize>,
    spikes: Shared<u8>,
}

impl<X: Residual> SimdKernel for Tile<'_, X> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let l = self.l;
        let plane = l.positions * l.channels;
        // SAFETY: `check` has verified that all maps have the rows that positions and time
        // steps index, and channels are a multiple of the lanes. The tile owns the spikes of
        // its positions.
        unsafe {
            let neuron = Neuron::<S>::new(l);
            for position in self.positions.clone() {
                for c in (0..l.channels).step_by(S::LANES) {
                    let start = position * l.channels + c;
                    let (mut decayed, mut at) = (neuron.zero, start);
                    for _ in 0..l.time_steps {
                        let from = if self.broadcast { start } else { at };
                        simd::prefetch(self.main.map.as_ptr().wrapping_add(from + PREFETCH_FLOATS), S::LANES);
                        let current = self.main.scaled::<S>(from, c);
                        decayed = neuron.step(decayed, self.residual.add::<S>(at, c, current), self.spikes.at(at / 8));
                        at += plane;
                    }
                }
            }
        }
    }
}
