//! The current of eight neurons, compiled once for each kind of shortcut.

use super::{Branch, Shortcut};

/// Eight channels.
pub(super) type Lanes = [f32; 8];

/// The eight floats at `at`.
#[inline(always)]
pub(super) fn read(map: &[f32], at: usize) -> Lanes {
    *map[at..].first_chunk().expect("maps are padded to 8 channels")
}

/// A kind of shortcut: adds its eight values at `at` (channel `c`) to the current.
pub(super) trait Extra: Copy + Send + Sync {
    /// Whether [`Extra::value`] is wanted for the sums.
    const SUMMED: bool = false;
    fn add(self, at: usize, c: usize, current: &mut Lanes);
    /// The raw map of a branch.
    #[inline(always)]
    fn value(self, _at: usize) -> Lanes {
        [0.0; 8]
    }
}

impl Extra for () {
    #[inline(always)]
    fn add(self, _at: usize, _c: usize, _current: &mut Lanes) {}
}

/// Bit-packed spikes.
#[derive(Clone, Copy)]
pub(super) struct Spikes<'a>(pub &'a [u8]);

impl Extra for Spikes<'_> {
    #[inline(always)]
    fn add(self, at: usize, _c: usize, current: &mut Lanes) {
        let byte = u32::from(self.0[at / 8]);
        for k in 0..8 {
            current[k] += ((byte >> k) & 1) as f32;
        }
    }
}

/// A map as it is.
#[derive(Clone, Copy)]
pub(super) struct Map<'a>(pub &'a [f32]);

impl Extra for Map<'_> {
    #[inline(always)]
    fn add(self, at: usize, _c: usize, current: &mut Lanes) {
        let x = read(self.0, at);
        for k in 0..8 {
            current[k] += x[k];
        }
    }
}

impl Extra for Branch<'_> {
    const SUMMED: bool = true;
    #[inline(always)]
    fn add(self, at: usize, c: usize, current: &mut Lanes) {
        let x = self.scaled(at, c);
        for k in 0..8 {
            current[k] += x[k];
        }
    }
    #[inline(always)]
    fn value(self, at: usize) -> Lanes {
        read(self.map, at)
    }
}

impl Branch<'_> {
    /// `scale·map + shift`, never fused: the same spikes on every machine.
    #[inline(always)]
    pub(super) fn scaled(&self, at: usize, c: usize) -> Lanes {
        let (mut x, scale, shift) = (read(self.map, at), read(self.scale, c), read(self.shift, c));
        for k in 0..8 {
            x[k] = scale[k] * x[k] + shift[k];
        }
        x
    }
}

/// A function to compile for each kind of shortcut.
pub(super) trait WithExtra {
    type Output;
    fn call<X: Extra>(self, extra: X) -> Self::Output;
}

/// Calls `f` with the concrete shortcut.
pub(super) fn with_extra<F: WithExtra>(shortcut: &Shortcut, f: F) -> F::Output {
    match *shortcut {
        Shortcut::None => f.call(()),
        Shortcut::Spikes(spikes) => f.call(Spikes(spikes)),
        Shortcut::Map(map) => f.call(Map(map)),
        Shortcut::Branch(branch) => f.call(branch),
    }
}
