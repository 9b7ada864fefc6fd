//! The forward pass over maps, and over spikes so dense that expanding them to floats is fastest.

use crate::ops::cpu::conv::direct;
use crate::ops::cpu::conv::weight_cache::{ConvWeightCache, get_or_make};
use crate::ops::cpu::parallel::Shared;
use crate::ops::{ConvShape, Input};

/// The convolution of `x` with the OIHW `weight`, written to `out`, which has room for the padded output.
pub(super) fn forward(s: &ConvShape, x: Input, weight: &[f32], cache: &ConvWeightCache, out: Shared<f32>) {
    let problem = direct::Problem::forward(s).trimmed();
    let packed = get_or_make::<Vec<_>>(&cache.dense, || direct::pack(&problem, weight));
    direct::run(&problem, x, packed, out, false);
}
