//! The forward pass of a convolution.

mod dense;
pub(super) mod incremental;
pub(super) mod spike_list;
pub(super) mod table;

use super::check;
use super::fixed_point::FixedPointWeight;
use super::select::{ConvAlgorithm, fires_from_tables, forward_algorithm_for, updating_is_faster};
use super::tiles::out_channels;
use super::weight_cache::{ConvWeightCache, get_or_make};
use crate::ops::cpu::lif::{self, Branch, Folded, LifShape, Residual, ResidualVisitor, Shortcut, dispatch_residual};
use crate::ops::cpu::parallel::{Aligned, Shared, vec_from_uninit};
use crate::ops::{ConvShape, Input};
use incremental::PreviousPass;

/// The convolution of `x` with the OIHW `weight`, written to the padded map `out`.
///
/// # Panics
/// If a slice does not have the length that `s` states (here and below).
pub fn forward(s: &ConvShape, x: Input, weight: &[f32], out: &mut [f32]) {
    assert_eq!(out.len(), s.out_len(), "the output's length does not fit {s:?}");
    forward_to(s, x, weight, &ConvWeightCache::default(), Shared::new(out));
}

/// [`forward`] to a new map. Passes with the same weight may share `cache`; the result is bit-identical.
pub fn forward_cached(s: &ConvShape, x: Input, weight: &[f32], cache: &ConvWeightCache) -> Vec<f32> {
    // SAFETY: a convolution writes every channel of every pixel, padding included.
    unsafe { vec_from_uninit(s.out_len(), |out| forward_to(s, x, weight, cache, out)) }
}

/// `out` has room for the padded output (here and below).
fn forward_to(s: &ConvShape, x: Input, weight: &[f32], cache: &ConvWeightCache, out: Shared<f32>) {
    check(s, Some(&x), weight.len(), s.out_len());
    match x {
        Input::Map(_) => dense::forward(s, x, weight, cache, out),
        Input::Spikes(spikes) => spikes_to(s, spikes, forward_algorithm_for(s, spikes), weight, cache, out),
    }
}

/// `count` is the number of set bits of `spikes`.
fn spikes_to(
    s: &ConvShape,
    spikes: &[u8],
    (algorithm, count): (ConvAlgorithm, u64),
    weight: &[f32],
    cache: &ConvWeightCache,
    out: Shared<f32>,
) {
    if algorithm == ConvAlgorithm::Dense {
        return dense::forward(s, Input::Spikes(spikes), weight, cache, out);
    }
    let fixed = get_or_make(&cache.fixed_point, || FixedPointWeight::new(s, weight));
    let sum = |scale, target| match algorithm {
        ConvAlgorithm::Table => {
            let map = table::WriteMap { target, channels: out_channels(s), scale };
            table::forward(s, spikes, cache.table(s, fixed), map);
        }
        _ => spike_list::forward(s, spikes, cache.spike_list(s, fixed), scale, target),
    };
    match cache.previous.get() {
        Some(previous) if updating_is_faster(s, previous.changes(spikes), count) => {
            let weight = get_or_make::<Aligned>(&cache.incremental, || incremental::pack(s, &fixed.weight));
            incremental::forward(s, spikes, previous, weight, &fixed.scale, out);
        }
        None if cache.keep_first_pass => {
            // SAFETY: a convolution writes every channel of every pixel, padding included.
            let sums = unsafe { vec_from_uninit(s.out_len(), |out| sum(None, out)) };
            incremental::scale_sums(s, &sums, &fixed.scale, out);
            let _ = cache.previous.set(PreviousPass { spikes: spikes.to_vec(), sums });
        }
        _ => sum(Some(&fixed.scale), out),
    }
}

/// The spikes of LIF neurons whose main branch is [`forward_cached`] of `spikes` through `norm`, plus the shortcut.
///
/// With the table algorithm, neurons fire as soon as their sums are complete, without a map in memory, unless T is too
/// large for the sums to stay in the cache. The spikes are the same either way.
pub fn fire(
    s: &ConvShape,
    spikes: &[u8],
    (weight, cache): (&[f32], &ConvWeightCache),
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
    let choice = forward_algorithm_for(s, spikes);
    if !fires_from_tables(s, choice.0, l.time_steps) {
        // SAFETY: a convolution writes every channel of every pixel, padding included.
        let map = unsafe { vec_from_uninit(s.out_len(), |out| spikes_to(s, spikes, choice, weight, cache, out)) };
        return lif::forward(l, &Branch { map: &map, norm }, shortcut);
    }
    let fixed = get_or_make(&cache.fixed_point, || FixedPointWeight::new(s, weight));
    let weight = cache.table(s, fixed);
    // SAFETY: the groups cover all positions at all time steps, and the blocks cover all channels.
    unsafe {
        vec_from_uninit(l.len() / 8, |out| {
            dispatch_residual(shortcut, Firing { s, spikes, weight, scale: &fixed.scale, l, norm, out })
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

impl ResidualVisitor for Firing<'_> {
    type Output = ();
    fn call<X: Residual>(self, residual: X) {
        let Self { s, spikes, weight, scale, l, norm, out } = self;
        table::forward(s, spikes, weight, table::Fire { l: *l, scale, norm, residual, spikes: out });
    }
}
