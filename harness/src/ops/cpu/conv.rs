//! Convolutions, by direction and then by algorithm: `forward`, `weight_grad` and `input_grad` each have a folder
//! with one file per algorithm. `select` holds the cost model that chooses between them; the helpers that several
//! algorithms share lie directly in this folder.

mod direct;
mod fixed_point;
mod forward;
mod input_grad;
mod lists;
mod pack;
mod padded;
mod select;
mod subset_tables;
mod tiles;
mod weight_cache;
mod weight_grad;

use crate::ops::{ConvShape, Input};

pub use forward::{fire, forward, forward_cached};
pub use input_grad::{grad_input, new_grad_input};
#[cfg(test)]
pub(super) use select::{ConvAlgorithm, forward_algorithm};
pub use weight_cache::ConvWeightCache;
pub use weight_grad::grad_weight;

/// Panics unless `s` has an output pixel and the input, the weight and the output have the lengths that `s` states.
fn check(s: &ConvShape, x: Option<&Input>, weight: usize, out: usize) {
    assert!(
        s.kernel > 0 && s.stride > 0 && s.kernel <= s.height.min(s.width) + 2 * s.padding,
        "no output pixel: {s:?}"
    );
    if let Some(x) = x {
        assert_eq!(x.len(), s.in_len(), "the input's length does not fit {s:?}");
    }
    assert_eq!(weight, s.weight_len(), "the weight's length does not fit {s:?}");
    assert_eq!(out, s.out_len(), "the output's length does not fit {s:?}");
}
