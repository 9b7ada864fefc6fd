//! The current of a vector of neurons, compiled once for each kind of shortcut.

use super::{Branch, Folded, LifShape, Reset, Shortcut};
use crate::ops::cpu::simd::Simd;

/// A kind of shortcut. `at` is an offset in the map, `c` the channel.
///
/// # Safety
/// For every method: as [`Simd`]; `at + LANES` lies in the map and `c + LANES` in the
/// coefficients. [`super::check`] has verified that both are as long as the main branch's.
pub(in crate::ops::cpu) trait Residual: Copy + Send + Sync {
    /// Whether the sums need [`Residual::value`].
    const SUMMED: bool = false;
    /// Adds the shortcut's values to the current.
    unsafe fn add<S: Simd>(self, at: usize, c: usize, current: S::V) -> S::V;
    /// The map of a branch before its norm.
    #[inline(always)]
    unsafe fn value<S: Simd>(self, _at: usize) -> S::V {
        // SAFETY: passed on to the caller (in all blocks here).
        unsafe { S::zero() }
    }
}

impl Residual for () {
    #[inline(always)]
    unsafe fn add<S: Simd>(self, _at: usize, _c: usize, current: S::V) -> S::V {
        current
    }
}

/// Bit-packed spikes.
#[derive(Clone, Copy)]
pub(super) struct Spikes<'a>(&'a [u8]);

impl Residual for Spikes<'_> {
    #[inline(always)]
    unsafe fn add<S: Simd>(self, at: usize, _c: usize, current: S::V) -> S::V {
        unsafe { S::add(current, S::load_bits(self.0.as_ptr().add(at / 8))) }
    }
}

/// A map without a norm.
#[derive(Clone, Copy)]
pub(super) struct Map<'a>(&'a [f32]);

impl Residual for Map<'_> {
    #[inline(always)]
    unsafe fn add<S: Simd>(self, at: usize, _c: usize, current: S::V) -> S::V {
        unsafe { S::add(current, S::load(self.0.as_ptr().add(at))) }
    }
}

impl Residual for Branch<'_> {
    const SUMMED: bool = true;
    #[inline(always)]
    unsafe fn add<S: Simd>(self, at: usize, c: usize, current: S::V) -> S::V {
        unsafe { S::add(current, self.scaled::<S>(at, c)) }
    }
    #[inline(always)]
    unsafe fn value<S: Simd>(self, at: usize) -> S::V {
        unsafe { S::load(self.map.as_ptr().add(at)) }
    }
}

impl Branch<'_> {
    /// The map's values after the norm.
    ///
    /// # Safety
    /// As for [`Residual`].
    #[inline(always)]
    pub(super) unsafe fn scaled<S: Simd>(&self, at: usize, c: usize) -> S::V {
        unsafe { self.norm.of::<S>(S::load(self.map.as_ptr().add(at)), c) }
    }
}

impl Folded<'_> {
    /// The values `x` of the channels from `c` on after the norm.
    ///
    /// # Safety
    /// As for [`Residual`].
    #[inline(always)]
    unsafe fn of<S: Simd>(&self, x: S::V, c: usize) -> S::V {
        unsafe { affine::<S>(x, S::load(self.scale.as_ptr().add(c)), S::load(self.shift.as_ptr().add(c))) }
    }
}

/// `scale·x + shift`, never fused, so that the spikes are the same on every machine.
///
/// # Safety
/// As [`Simd`].
#[inline(always)]
pub(in crate::ops::cpu) unsafe fn affine<S: Simd>(x: S::V, scale: S::V, shift: S::V) -> S::V {
    unsafe { S::add(S::mul(scale, x), shift) }
}

/// The constants of the neurons, as vectors.
#[derive(Clone, Copy)]
pub(in crate::ops::cpu) struct Neuron<S: Simd> {
    pub tau: S::V,
    pub v_th: S::V,
    pub zero: S::V,
    pub hard: bool,
}

impl<S: Simd> Neuron<S> {
    /// # Safety
    /// As [`Simd`] (here and below).
    #[inline(always)]
    pub(in crate::ops::cpu) unsafe fn new(l: &LifShape) -> Self {
        let hard = l.reset == Reset::Hard;
        unsafe { Self { tau: S::splat(l.tau), v_th: S::splat(l.v_th), zero: S::zero(), hard } }
    }

    /// `tau·u + current`, rounded after each operation.
    #[inline(always)]
    pub(super) unsafe fn charge(&self, u: S::V, current: S::V) -> S::V {
        unsafe { S::add(S::mul(self.tau, u), current) }
    }

    /// One time step: writes the spikes and returns `tau·u` for the membrane after them.
    /// `decayed` is the result of the step before. The membranes are bit-identical to those of
    /// [`Neuron::charge`] and [`Neuron::discharge`], which the backward pass uses.
    ///
    /// # Safety
    /// As [`Simd`]; `spikes` is writable for `LANES / 8` bytes.
    #[inline(always)]
    pub(in crate::ops::cpu) unsafe fn step(&self, decayed: S::V, current: S::V, spikes: *mut u8) -> S::V {
        unsafe {
            let u = S::add(decayed, current);
            S::store_bits(spikes, u, self.v_th);
            if self.hard {
                // The membrane decays in the same pass as the threshold comparison, which keeps
                // the dependency chain between time steps as short as possible.
                S::at_least(u, self.v_th, self.zero, S::mul(self.tau, u))
            } else {
                S::mul(self.tau, self.discharge(u))
            }
        }
    }

    /// The membrane after the reset of the neurons that fire.
    #[inline(always)]
    pub(super) unsafe fn discharge(&self, u: S::V) -> S::V {
        unsafe {
            let after = if self.hard { self.zero } else { S::sub(u, self.v_th) };
            S::at_least(u, self.v_th, after, u)
        }
    }
}

/// A function that is compiled once for each kind of shortcut.
pub(in crate::ops::cpu) trait ResidualVisitor {
    type Output;
    fn call<X: Residual>(self, residual: X) -> Self::Output;
}

/// Calls `f` with the concrete kind of the shortcut.
pub(in crate::ops::cpu) fn dispatch_residual<F: ResidualVisitor>(shortcut: &Shortcut, f: F) -> F::Output {
    match *shortcut {
        Shortcut::None => f.call(()),
        Shortcut::Spikes(spikes) => f.call(Spikes(spikes)),
        Shortcut::Map(map) => f.call(Map(map)),
        Shortcut::Branch(branch) => f.call(branch),
    }
}
