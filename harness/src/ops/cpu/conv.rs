//! Convolutions: gather-add over spike lists where the input is sparse spikes, register-tiled direct ones elsewhere.

mod dense;
mod dense_weight;
mod event;
mod event_weight;
mod lists;
mod pack;
mod padded;
mod winograd;

use super::super::{ConvShape, Input, pad8};
use super::pool;

/// Above this share of set bits the dense kernels win.
const DENSE_ABOVE: f64 = 0.7;

/// The convolution of `x` with the OIHW `weight`, into the padded map `out`.
///
/// # Panics
/// If a slice has not the length that `s` asks for (here and below).
pub fn forward(s: &ConvShape, x: Input, weight: &[f32], out: &mut [f32]) {
    check(s, Some(&x), weight.len(), out.len());
    match x {
        Input::Spikes(spikes) if events_pay(s, spikes) => event::forward(s, spikes, weight, out),
        _ => dense::run(&dense::Problem::forward(s), x, weight, out, false),
    }
}

/// The gradient of the OIHW weight, from the input and the gradient of the output.
pub fn grad_weight(s: &ConvShape, x: Input, grad_out: &[f32], out: &mut [f32]) {
    check(s, Some(&x), out.len(), grad_out.len());
    match x {
        Input::Spikes(spikes) if events_pay(s, spikes) => event_weight::grad_weight(s, spikes, grad_out, out),
        _ => dense_weight::grad_weight(s, x, grad_out, out),
    }
}

/// The gradient of the input map, written to `out`, or added to it if `accumulate`.
pub fn grad_input(s: &ConvShape, weight: &[f32], grad_out: &[f32], out: &mut [f32], accumulate: bool) {
    check(s, None, weight.len(), grad_out.len());
    assert_eq!(out.len(), s.in_len(), "the input's gradient has the input's shape {s:?}");
    if winograd::pays(s) {
        return winograd::grad_input(s, weight, grad_out, out, accumulate);
    }
    dense::run(&dense::Problem::grad_input(s), Input::Map(grad_out), weight, out, accumulate);
}

/// Whether gathering over spikes beats the dense kernels for this shape and density.
fn events_pay(s: &ConvShape, spikes: &[u8]) -> bool {
    let bits = s.images * s.height * s.width * s.c_in;
    // Lists hold 16-bit positions: (column, channel of a block) and (pixel of a block).
    s.width * 64 <= 1 << 16 && (pool::count_spikes(spikes) as f64) < DENSE_ABOVE * bits as f64
}

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

/// Splits `channels` (a multiple of 8) into blocks of `widest`, then halves of it down to 8: (first channel, width).
fn blocks(channels: usize, widest: usize) -> Vec<(usize, usize)> {
    let (mut start, mut width, mut blocks) = (0, widest, Vec::new());
    while start < channels {
        while start + width > channels {
            width /= 2;
        }
        blocks.push((start, width));
        start += width;
    }
    blocks
}

/// Floats of a padded output pixel.
fn out_channels(s: &ConvShape) -> usize {
    pad8(s.c_out)
}
