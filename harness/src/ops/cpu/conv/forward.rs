//! The forward pass of a convolution.

pub(super) mod dense;
pub(super) mod incremental;
pub(super) mod spike_list;
pub(super) mod table;

use super::select::{self, Path};
use super::tiles::out_channels;
use super::weight_cache::{Packed, made};
use super::{check, fixed_point};
use crate::ops::cpu::lif::{self, Branch, Extra, Folded, LifShape, Shortcut, WithExtra, with_extra};
use crate::ops::cpu::parallel::{Aligned, Shared, written};
use crate::ops::{ConvShape, Input};

/// The convolution of `x` with the OIHW `weight`, into the padded map `out`.
///
/// # Panics
/// If a slice has not the length that `s` asks for (here and below).
pub fn forward(s: &ConvShape, x: Input, weight: &[f32], out: &mut [f32]) {
    assert_eq!(out.len(), s.out_len(), "the output's length does not fit {s:?}");
    forward_to(s, x, weight, &Packed::default(), Shared::new(out));
}

/// [`forward`] to a new map, with a weight that other passes may use too. The same bits.
pub fn forward_packed(s: &ConvShape, x: Input, weight: &[f32], packed: &Packed) -> Vec<f32> {
    // SAFETY: a convolution writes each channel of each pixel, padding included.
    unsafe { written(s.out_len(), |out| forward_to(s, x, weight, packed, out)) }
}

/// `out` has room for the output (here and below).
fn forward_to(s: &ConvShape, x: Input, weight: &[f32], packed: &Packed, out: Shared<f32>) {
    check(s, Some(&x), weight.len(), s.out_len());
    match x {
        Input::Map(_) => dense::forward(s, x, weight, packed, out),
        Input::Spikes(spikes) => spikes_to(s, spikes, select::chosen(s, spikes), weight, packed, out),
    }
}

/// `chosen`: the path, and how many spikes there are.
fn spikes_to(
    s: &ConvShape,
    spikes: &[u8],
    (path, count): (Path, u64),
    weight: &[f32],
    packed: &Packed,
    out: Shared<f32>,
) {
    if path == Path::Dense {
        return dense::forward(s, Input::Spikes(spikes), weight, packed, out);
    }
    let whole = made(&packed.whole, || fixed_point::whole(s, weight));
    let sum = |scale, target| match path {
        Path::Tables => {
            let map = table::Map { target, channels: out_channels(s), scale };
            table::forward(s, spikes, packed.tables(s, whole), map);
        }
        _ => spike_list::forward(
            s,
            spikes,
            made::<Aligned>(&packed.lists, || spike_list::pack(s, &whole.weight)),
            scale,
            target,
        ),
    };
    match packed.before.get() {
        Some(before) if select::few(s, before.changes(spikes), count) => {
            let weight = made::<Aligned>(&packed.changes, || incremental::pack(s, &whole.weight));
            incremental::forward(s, spikes, before, weight, &whole.scale, out);
        }
        None if packed.keep => {
            // SAFETY: a convolution writes each channel of each pixel, padding included.
            let sums = unsafe { written(s.out_len(), |out| sum(None, out)) };
            incremental::scale(s, &sums, &whole.scale, out);
            let _ = packed.before.set(incremental::Before { spikes: spikes.to_vec(), sums });
        }
        _ => sum(Some(&whole.scale), out),
    }
}

/// The spikes of the neurons behind [`forward_packed`] of spikes; `norm` comes before the shortcut. By tables, neurons fire
/// where their sums end, without a map in between, if T is not too large for that: the same spikes.
pub fn fire(
    s: &ConvShape,
    spikes: &[u8],
    (weight, packed): (&[f32], &Packed),
    l: &LifShape,
    norm: Folded<'_>,
    shortcut: &Shortcut<'_>,
) -> Vec<u8> {
    check(s, Some(&Input::Spikes(spikes)), weight.len(), s.out_len());
    l.check(&norm, shortcut);
    assert!(
        l.channels == out_channels(s) && l.len() == s.out_len() && s.images.is_multiple_of(l.time_steps),
        "a neuron for each output: {s:?}, {l:?}"
    );
    let chosen = select::chosen(s, spikes);
    if !select::fires_at_once(s, chosen.0, l.time_steps) {
        // SAFETY: a convolution writes each channel of each pixel, padding included.
        let map = unsafe { written(s.out_len(), |out| spikes_to(s, spikes, chosen, weight, packed, out)) };
        return lif::forward(l, &Branch { map: &map, norm }, shortcut);
    }
    let whole = made(&packed.whole, || fixed_point::whole(s, weight));
    let weight = packed.tables(s, whole);
    // SAFETY: the groups are all positions at all time steps, and the blocks all channels.
    unsafe {
        written(l.len() / 8, |out| {
            with_extra(shortcut, Firing { s, spikes, weight, scale: &whole.scale, l, norm, out })
        })
    }
}

struct Firing<'a> {
    s: &'a ConvShape,
    spikes: &'a [u8],
    weight: &'a [f32],
    scale: &'a [f32],
    l: &'a LifShape,
    norm: Folded<'a>,
    out: Shared<u8>,
}

impl WithExtra for Firing<'_> {
    type Output = ();
    fn call<X: Extra>(self, extra: X) {
        let Self { s, spikes, weight, scale, l, norm, out } = self;
        table::forward(s, spikes, weight, table::Fire { l: *l, scale, norm, extra, spikes: out });
    }
}
