//! The gradient of a convolution's weight.

mod dense;
mod spike_list;
pub(super) mod table;

use super::check;
use super::select::{self, Path, share};
use crate::ops::cpu::pool;
use crate::ops::{ConvShape, Input};

/// The gradient of the OIHW weight, from the input and the gradient of the output.
pub fn grad_weight(s: &ConvShape, x: Input, grad_out: &[f32], out: &mut [f32]) {
    check(s, Some(&x), out.len(), grad_out.len());
    let Input::Spikes(spikes) = x else { return dense::grad_weight(s, x, grad_out, out) };
    let density = share(s, pool::count_spikes(spikes));
    let path = select::weight_path(s, density);
    tracing::trace!(shape = ?s, density, ?path, "weight gradient of spikes");
    match path {
        Path::Tables => table::grad_weight(s, spikes, grad_out, out),
        Path::Lists => spike_list::grad_weight(s, spikes, grad_out, out),
        Path::Dense => dense::grad_weight(s, x, grad_out, out),
    }
}
