//! The gradient of a convolution's input.

mod dense;
mod winograd;

use super::check;
use crate::ops::ConvShape;
use crate::ops::cpu::parallel::{Shared, vec_from_uninit};

/// The gradient of the input map, written to `out`, or added to it if `accumulate`.
pub fn grad_input(s: &ConvShape, weight: &[f32], grad_out: &[f32], out: &mut [f32], accumulate: bool) {
    assert_eq!(out.len(), s.in_len(), "the input's gradient has the input's shape {s:?}");
    grad_input_to(s, weight, grad_out, Shared::new(out), accumulate);
}

/// [`grad_input`] to a new map.
pub fn new_grad_input(s: &ConvShape, weight: &[f32], grad_out: &[f32]) -> Vec<f32> {
    // SAFETY: every pixel of the input belongs to a Winograd tile or to a class of pixels, and all channels are written.
    unsafe { vec_from_uninit(s.in_len(), |out| grad_input_to(s, weight, grad_out, out, false)) }
}

fn grad_input_to(s: &ConvShape, weight: &[f32], grad_out: &[f32], out: Shared<f32>, accumulate: bool) {
    check(s, None, weight.len(), grad_out.len());
    if winograd::is_faster(s) {
        return winograd::grad_input(s, weight, grad_out, out, accumulate);
    }
    dense::grad_input(s, weight, grad_out, out, accumulate);
}
