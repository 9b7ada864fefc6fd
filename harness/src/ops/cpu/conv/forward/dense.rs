//! The forward of maps, and of spikes so dense that expanding them to floats is fastest.

use crate::ops::cpu::conv::direct;
use crate::ops::cpu::conv::weight_cache::{Packed, made};
use crate::ops::cpu::parallel::Shared;
use crate::ops::{ConvShape, Input};

/// The convolution of `x` with the OIHW `weight`, written to `out`, which has room for the padded output.
pub(in crate::ops::cpu::conv) fn forward(s: &ConvShape, x: Input, weight: &[f32], packed: &Packed, out: Shared<f32>) {
    let problem = direct::Problem::forward(s).trimmed();
    direct::run(&problem, x, made::<Vec<_>>(&packed.dense, || direct::pack(&problem, weight)), out, false);
}
