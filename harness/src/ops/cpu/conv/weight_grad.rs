//! The gradient of a convolution's weight.

mod dense;
mod spike_list;
pub(super) mod table;

use super::check;
use super::select::{ConvAlgorithm, density, weight_grad_algorithm};
use crate::ops::cpu::pool;
use crate::ops::{ConvShape, Input};

/// The OIHW gradient of the weight, from the input `x` and the gradient of the output.
pub fn grad_weight(s: &ConvShape, x: Input, grad_out: &[f32], out: &mut [f32]) {
    check(s, Some(&x), out.len(), grad_out.len());
    let Input::Spikes(spikes) = x else { return dense::grad_weight(s, x, grad_out, out) };
    let density = density(s, pool::count_spikes(spikes));
    let algorithm = weight_grad_algorithm(s, density);
    tracing::trace!(shape = ?s, density, ?algorithm, "weight gradient of spikes");
    match algorithm {
        ConvAlgorithm::Table => table::grad_weight(s, spikes, grad_out, out),
        ConvAlgorithm::SpikeList => spike_list::grad_weight(s, spikes, grad_out, out),
        ConvAlgorithm::Dense => dense::grad_weight(s, x, grad_out, out),
    }
}
