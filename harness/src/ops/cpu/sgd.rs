//! Stochastic gradient descent with momentum and weight decay, in one pass.

use super::parallel::{Shared, tiles};

const CHUNK: usize = 1 << 15;

/// The constants of a step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sgd {
    /// The learning rate.
    pub learning_rate: f32,
    /// The share of the old velocity that is kept.
    pub momentum: f32,
    /// The factor of the weight that is added to the gradient.
    pub weight_decay: f32,
}

/// `v = momentum·v + (g + weight_decay·w); w -= learning_rate·v`, like PyTorch's SGD. PyTorch's
/// first step, `v = g`, is this with v = 0.
///
/// # Panics
/// If the slices differ in length.
pub fn step(sgd: &Sgd, weight: &mut [f32], velocity: &mut [f32], grad: &[f32]) {
    let n = weight.len();
    assert!(velocity.len() == n && grad.len() == n, "weight, velocity and gradient have {n} elements each");
    let (weight, velocity) = (Shared::new(weight), Shared::new(velocity));
    tiles(n.div_ceil(CHUNK), n, |tile| {
        let start = tile * CHUNK;
        let len = CHUNK.min(n - start);
        // SAFETY: tiles are disjoint ranges of both slices.
        let (weight, velocity) = unsafe { (weight.slice(start, len), velocity.slice(start, len)) };
        for ((w, v), g) in weight.iter_mut().zip(velocity).zip(&grad[start..start + len]) {
            *v = sgd.momentum * *v + (g + sgd.weight_decay * *w);
            *w -= sgd.learning_rate * *v;
        }
    });
}
