//! Batch norm, shortcut and LIF neurons in one pass over the maps. The backward pass recomputes
//! the membrane.

mod backward;
mod current;
mod forward;
mod relu;

pub use crate::ops::Reset;
pub use backward::backward;
pub(super) use current::{Neuron, Residual, ResidualVisitor, affine, dispatch_residual};
pub use forward::forward;
pub use relu::{relu_backward, relu_forward};

/// A batch norm as an affine function: `scale[c]·x + shift[c]`.
#[derive(Clone, Copy, Debug)]
pub struct Folded<'a> {
    /// One per padded channel, 0 in the padding.
    pub scale: &'a [f32],
    /// One per padded channel, 0 in the padding.
    pub shift: &'a [f32],
}

/// A map with its batch norm.
#[derive(Clone, Copy, Debug)]
pub struct Branch<'a> {
    /// Channel-last rows of padded channels.
    pub map: &'a [f32],
    /// The norm of its values.
    pub norm: Folded<'a>,
}

/// The values that are added to the current of the main branch.
#[derive(Clone, Copy, Debug)]
pub enum Shortcut<'a> {
    /// Nothing.
    None,
    /// Bit-packed spikes.
    Spikes(&'a [u8]),
    /// A map without a norm.
    Map(&'a [f32]),
    /// A map with its own norm.
    Branch(Branch<'a>),
}

/// The neurons: `T·positions` rows, with t as the slowest index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LifShape {
    /// T.
    pub time_steps: usize,
    /// B·H·W.
    pub positions: usize,
    /// Padded channels.
    pub channels: usize,
    /// The decay: `u[t] = tau·u[t-1]·… + I[t]`.
    pub tau: f32,
    /// The threshold: a neuron fires if `u >= v_th`.
    pub v_th: f32,
    /// The effect of a spike on the membrane.
    pub reset: Reset,
    /// Whether the gradient stops at the reset.
    pub detach_reset: bool,
}

impl LifShape {
    /// Floats of a map with all time steps.
    pub(super) fn len(&self) -> usize {
        self.time_steps * self.positions * self.channels
    }

    /// The positions per tile and the number of tiles. A tile has about 64 KB of current; its
    /// size depends on the shape alone.
    fn tiles(&self) -> (usize, usize) {
        let each = ((1 << 14) / (self.channels * self.time_steps)).clamp(1, self.positions.max(1));
        (each, self.positions.div_ceil(each))
    }

    /// Panics unless the norm and the shortcut have this shape.
    pub(super) fn check(&self, norm: &Folded, shortcut: &Shortcut) {
        assert!(self.channels > 0 && self.channels.is_multiple_of(8), "channels are padded to 8: {self:?}");
        check(norm, shortcut, self.channels, self.len());
    }

    /// Panics unless the main branch has this shape too. Returns whether its map is broadcast
    /// over t.
    fn check_main(&self, main: &Branch, shortcut: &Shortcut) -> bool {
        self.check(&main.norm, shortcut);
        let broadcast = main.map.len() != self.len();
        assert!(
            !broadcast || main.map.len() == self.positions * self.channels,
            "the main map has T·positions or positions rows: {self:?}"
        );
        broadcast
    }
}

/// Panics unless the coefficients have `channels` elements and the shortcut `len` values.
fn check(main: &Folded, shortcut: &Shortcut, channels: usize, len: usize) {
    let norm = |n: &Folded| assert!(n.scale.len() == channels && n.shift.len() == channels, "{channels} coefficients");
    norm(main);
    let values = match shortcut {
        Shortcut::None => len,
        Shortcut::Spikes(spikes) => spikes.len() * 8,
        Shortcut::Map(map) => map.len(),
        Shortcut::Branch(b) => {
            norm(&b.norm);
            b.map.len()
        }
    };
    assert_eq!(values, len, "the shortcut has a value for each current");
}

/// Sums over all rows, one per padded channel, from which the gradients of norms and affine
/// parameters follow.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelSums {
    /// Σ gradient of the current.
    pub grad: Vec<f64>,
    /// Σ gradient · main map.
    pub grad_main: Vec<f64>,
    /// Σ gradient · shortcut map; zeros unless the shortcut is a [`Shortcut::Branch`].
    pub grad_shortcut: Vec<f64>,
}

impl ChannelSums {
    fn zeros(channels: usize) -> Self {
        Self { grad: vec![0.0; channels], grad_main: vec![0.0; channels], grad_shortcut: vec![0.0; channels] }
    }

    /// Adds up the tiles' sums in order.
    fn total(channels: usize, tiles: Vec<Self>) -> Self {
        let mut total = Self::zeros(channels);
        for tile in tiles {
            for (to, from) in [
                (&mut total.grad, tile.grad),
                (&mut total.grad_main, tile.grad_main),
                (&mut total.grad_shortcut, tile.grad_shortcut),
            ] {
                for (t, f) in to.iter_mut().zip(from) {
                    *t += f;
                }
            }
        }
        total
    }
}
