use super::super::parallel::{Shared, tiles};
use super::super::simd::{self, Kernel, Simd};
use super::current::{Extra, Lanes, WithExtra, with_extra};
use super::{Branch, LifShape, Reset, Shortcut};
use std::ops::Range;

/// The spikes of the current `main + shortcut`, as bits. A `main.map` of `positions` rows is the current at every t.
///
/// # Panics
/// If a slice does not fit the shape.
pub fn forward(l: &LifShape, main: &Branch, shortcut: &Shortcut, spikes: &mut [u8]) {
    let broadcast = l.check(main, shortcut, spikes.len() * 8);
    with_extra(shortcut, Forward { l, main, broadcast, spikes });
}

struct Forward<'a> {
    l: &'a LifShape,
    main: &'a Branch<'a>,
    broadcast: bool,
    spikes: &'a mut [u8],
}

impl WithExtra for Forward<'_> {
    type Output = ();
    fn call<X: Extra>(self, extra: X) {
        let (each, n) = self.l.tiles();
        let spikes = Shared::new(self.spikes);
        let Self { l, main, broadcast, .. } = self;
        tiles(n, l.len() * 4, |tile| {
            let positions = tile * each..l.positions.min((tile + 1) * each);
            simd::run(Tile { l, main, broadcast, extra, positions, spikes }, 8);
        });
    }
}

struct Tile<'a, X> {
    l: &'a LifShape,
    main: &'a Branch<'a>,
    broadcast: bool,
    extra: X,
    positions: Range<usize>,
    spikes: Shared<u8>,
}

impl<X: Extra> Kernel for Tile<'_, X> {
    type Output = ();
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let l = self.l;
        for position in self.positions.clone() {
            for c in (0..l.channels).step_by(8) {
                let mut u = [0.0; 8];
                for t in 0..l.time_steps {
                    let at = (t * l.positions + position) * l.channels + c;
                    let mut current = self.main.scaled(if self.broadcast { position * l.channels + c } else { at }, c);
                    self.extra.add(at, c, &mut current);
                    charge(l, &mut u, &current);
                    let fired = fires::<S>(l, &u);
                    discharge(l, &mut u);
                    // SAFETY: the tile owns the bytes of its positions.
                    unsafe { *self.spikes.at(at / 8) = fired };
                }
            }
        }
    }
}

/// `u = tau·u + current`, rounded after each operation.
#[inline(always)]
pub(super) fn charge(l: &LifShape, u: &mut Lanes, current: &Lanes) {
    for k in 0..8 {
        u[k] = l.tau * u[k] + current[k];
    }
}

/// The reset of those that fired.
#[inline(always)]
pub(super) fn discharge(l: &LifShape, u: &mut Lanes) {
    let hard = l.reset == Reset::Hard;
    for k in 0..8 {
        let after = if hard { 0.0 } else { u[k] - l.v_th };
        u[k] = if u[k] >= l.v_th { after } else { u[k] };
    }
}

/// Bit k: whether lane k fires.
#[inline(always)]
fn fires<S: Simd>(l: &LifShape, u: &Lanes) -> u8 {
    // SAFETY: `run` is only called where the CPU has the instructions of `S`.
    unsafe { S::at_least(u, l.v_th) }
}
