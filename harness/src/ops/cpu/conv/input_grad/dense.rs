//! The input's gradient by direct convolution, for every kernel size and stride.

use crate::ops::cpu::conv::direct;
use crate::ops::cpu::parallel::Shared;
use crate::ops::{ConvShape, Input};

/// The gradient of the input, written to `out`, or added to it if `accumulate`.
pub(super) fn grad_input(s: &ConvShape, weight: &[f32], grad_out: &[f32], out: Shared<f32>, accumulate: bool) {
    let problem = direct::Problem::grad_input(s).trimmed();
    direct::run(&problem, Input::Map(grad_out), &direct::pack(&problem, weight), out, accumulate);
}
