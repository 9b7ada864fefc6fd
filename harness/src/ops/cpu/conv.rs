//! Convolutions: over spikes by lists of them or by tables of their sums, register-tiled direct ones elsewhere.

mod change;
mod dense;
mod dense_weight;
mod event;
mod event_weight;
mod exact;
mod lists;
mod pack;
mod padded;
mod table;
mod table_weight;
mod winograd;

use super::super::{ConvShape, Input, pad8};
use super::lif::{self, Branch, Extra, Folded, LifShape, Shortcut, WithExtra, with_extra};
use super::parallel::{Aligned, Shared, written};
use super::{pool, simd};
use std::sync::OnceLock;

/// Above this share of set bits the weight's gradient is faster as a dense one than by lists.
const DENSE_ABOVE: f64 = 0.7;

/// How a pass over spikes is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The weight rows, or gradients, of each spike are added up.
    Lists,
    /// The sums of all subsets of eight weight rows, or of a few gradients, are looked up and added.
    Tables,
    /// Spikes are expanded to floats.
    Dense,
}

/// Vectors of a padded output pixel, and their lanes.
fn vectors(s: &ConvShape) -> (f64, usize) {
    let lanes = if simd::level() == simd::Level::Avx512 { 16 } else { 8 };
    (pad8(s.c_out).div_ceil(lanes) as f64, lanes)
}

/// The path that [`forward`] takes for spikes of this density.
pub fn path(s: &ConvShape, density: f64) -> Path {
    fastest(s, density).0
}

/// The fastest path and its cycles an output pixel, by a model of each kernel's. The constants are fits to measurements of
/// the layers of ResNet-18 at widths 8 to 64 (`benches/kernels.rs`).
fn fastest(s: &ConvShape, density: f64) -> (Path, f64) {
    let (vectors, lanes) = vectors(s);
    let (k, inputs) = (s.kernel as f64, (s.kernel * s.kernel * s.c_in) as f64);
    let blocks = (vectors / 8.0).ceil();
    // Listing costs some cycles a byte; a range of the list ends in a mispredicted branch; a spike costs two cycles at least.
    let listing = (s.height * s.width * s.c_in) as f64 / (2 * s.out_height() * s.out_width()) as f64;
    let ranges = k * (s.c_in as f64 / if vectors < 8.0 { 64.0 } else { 32.0 }).ceil() * blocks;
    let spikes = density * inputs * inside(s, s.height, s.out_height()) * inside(s, s.width, s.out_width());
    // Entries of a list are 16-bit: (column, channel of a block of at most 64).
    let fit = s.width * 64 <= 1 << 16;
    let lists = if fit { listing + 30.0 * ranges + spikes * (0.6 * vectors).max(2.0 * blocks) } else { f64::INFINITY };
    let outputs = table::cycles(s, vectors, lanes);
    let tables = outputs * table::gain(s);
    let dense = 0.53 * inputs * vectors;
    // Sums of floats have other bits than those of whole numbers: this border is part of the recipe, and stays where it was
    // before tables went by columns.
    if dense <= lists.min(outputs) {
        (Path::Dense, dense)
    } else if tables < lists {
        (Path::Tables, tables)
    } else {
        (Path::Lists, lists)
    }
}

/// The share of a kernel's rows (or columns) that meet a map of `size`, not its padding, over all its `outs` places: lists,
/// and tables of many channels, pay for those alone.
fn inside(s: &ConvShape, size: usize, outs: usize) -> f64 {
    let rows = (0..outs).flat_map(|out| (0..s.kernel).map(move |k| out * s.stride + k));
    rows.filter(|row| (s.padding..s.padding + size).contains(row)).count() as f64 / (outs * s.kernel) as f64
}

/// Spikes that changed cost more each than spikes that are listed: from this share of the spikes on, all are summed anew, and
/// where that is fast, before.
const FEW_CHANGES: f64 = 0.25;

/// A weight in the orders in which the forward's paths read it, each made when a pass first takes that path: for passes
/// that share the weight and the map's size.
#[derive(Default)]
pub struct Packed {
    /// Whether the first pass's sums are kept, for passes whose spikes differ little from its.
    keep: bool,
    before: OnceLock<change::Before>,
    whole: OnceLock<exact::Whole>,
    changes: OnceLock<Aligned>,
    lists: OnceLock<Aligned>,
    tables: OnceLock<Aligned>,
    dense: OnceLock<Vec<Aligned>>,
}

impl Packed {
    /// For passes whose spikes will differ little from those of the first, which must be alone.
    pub fn keeping() -> Self {
        Self { keep: true, ..Self::default() }
    }

    fn tables(&self, s: &ConvShape, whole: &exact::Whole) -> &[f32] {
        made::<Aligned>(&self.tables, || table::pack(s, &whole.weight))
    }
}

/// The cell's value, made by `make` if there is none.
fn made<T>(cell: &OnceLock<T>, make: impl Fn() -> T) -> &T {
    loop {
        if let Some(value) = cell.get() {
            return value;
        }
        // Not `get_or_init`: `make` runs on the pool, whose threads may come here again before it ends.
        let _ = cell.set(make());
    }
}

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
        Input::Map(_) => dense_to(s, x, weight, packed, out),
        Input::Spikes(spikes) => spikes_to(s, spikes, chosen(s, spikes), weight, packed, out),
    }
}

fn dense_to(s: &ConvShape, x: Input, weight: &[f32], packed: &Packed, out: Shared<f32>) {
    let problem = dense::Problem::forward(s).trimmed();
    dense::run(&problem, x, made::<Vec<_>>(&packed.dense, || dense::pack(&problem, weight)), out, false);
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
        return dense_to(s, Input::Spikes(spikes), weight, packed, out);
    }
    let whole = made(&packed.whole, || exact::whole(s, weight));
    let sum = |scale, target| match path {
        Path::Tables => {
            let map = table::Map { target, channels: out_channels(s), scale };
            table::forward(s, spikes, packed.tables(s, whole), map);
        }
        _ => event::forward(s, spikes, made::<Aligned>(&packed.lists, || event::pack(s, &whole.weight)), scale, target),
    };
    match packed.before.get() {
        Some(before) if few(s, before.changes(spikes), count) => {
            let weight = made::<Aligned>(&packed.changes, || change::pack(s, &whole.weight));
            change::forward(s, spikes, before, weight, &whole.scale, out);
        }
        None if packed.keep => {
            // SAFETY: a convolution writes each channel of each pixel, padding included.
            let sums = unsafe { written(s.out_len(), |out| sum(None, out)) };
            change::scale(s, &sums, &whole.scale, out);
            let _ = packed.before.set(change::Before { spikes: spikes.to_vec(), sums });
        }
        _ => sum(Some(&whole.scale), out),
    }
}

/// Whether it is faster to bring sums up to date than to sum all of so many spikes anew.
fn few(s: &ConvShape, changes: u64, spikes: u64) -> bool {
    let pixels = (s.images * s.out_height() * s.out_width()) as f64;
    let cycles = change::cycles(s, vectors(s).0, changes as f64 / pixels);
    (changes as f64) < FEW_CHANGES * spikes as f64 && cycles < fastest(s, share(s, spikes)).1
}

/// The path for these spikes, and how many there are.
fn chosen(s: &ConvShape, spikes: &[u8]) -> (Path, u64) {
    let count = pool::count_spikes(spikes);
    let density = share(s, count);
    let path = path(s, density);
    tracing::trace!(shape = ?s, density, ?path, "spiking convolution");
    (path, count)
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
    let chosen = chosen(s, spikes);
    if !fires_at_once(s, chosen.0, l.time_steps) {
        // SAFETY: a convolution writes each channel of each pixel, padding included.
        let map = unsafe { written(s.out_len(), |out| spikes_to(s, spikes, chosen, weight, packed, out)) };
        return lif::forward(l, &Branch { map: &map, norm }, shortcut);
    }
    let whole = made(&packed.whole, || exact::whole(s, weight));
    let weight = packed.tables(s, whole);
    // SAFETY: the groups are all positions at all time steps, and the blocks all channels.
    unsafe {
        written(l.len() / 8, |out| {
            with_extra(shortcut, Firing { s, spikes, weight, scale: &whole.scale, l, norm, out })
        })
    }
}

fn fires_at_once(s: &ConvShape, path: Path, time_steps: usize) -> bool {
    path == Path::Tables && table::fit(s, time_steps)
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

/// The gradient of the OIHW weight, from the input and the gradient of the output.
pub fn grad_weight(s: &ConvShape, x: Input, grad_out: &[f32], out: &mut [f32]) {
    check(s, Some(&x), out.len(), grad_out.len());
    let Input::Spikes(spikes) = x else { return dense_weight::grad_weight(s, x, grad_out, out) };
    let density = share(s, pool::count_spikes(spikes));
    let path = if table_weight::pays(s, density) {
        Path::Tables
    } else if s.width < 1 << 12 && density < DENSE_ABOVE {
        // Lists hold 16-bit pixels of a unit, which is at least a row.
        Path::Lists
    } else {
        Path::Dense
    };
    tracing::trace!(shape = ?s, density, ?path, "weight gradient of spikes");
    match path {
        Path::Tables => table_weight::grad_weight(s, spikes, grad_out, out),
        Path::Lists => event_weight::grad_weight(s, spikes, grad_out, out),
        Path::Dense => dense_weight::grad_weight(s, x, grad_out, out),
    }
}

/// The gradient of the input map, written to `out`, or added to it if `accumulate`.
pub fn grad_input(s: &ConvShape, weight: &[f32], grad_out: &[f32], out: &mut [f32], accumulate: bool) {
    assert_eq!(out.len(), s.in_len(), "the input's gradient has the input's shape {s:?}");
    grad_input_to(s, weight, grad_out, Shared::new(out), accumulate);
}

/// [`grad_input`] as a new map.
pub fn new_grad_input(s: &ConvShape, weight: &[f32], grad_out: &[f32]) -> Vec<f32> {
    // SAFETY: every pixel of the input belongs to a tile or a class, and each of these writes all its channels.
    unsafe { written(s.in_len(), |out| grad_input_to(s, weight, grad_out, out, false)) }
}

fn grad_input_to(s: &ConvShape, weight: &[f32], grad_out: &[f32], out: Shared<f32>, accumulate: bool) {
    check(s, None, weight.len(), grad_out.len());
    if winograd::pays(s) {
        return winograd::grad_input(s, weight, grad_out, out, accumulate);
    }
    let problem = dense::Problem::grad_input(s).trimmed();
    dense::run(&problem, Input::Map(grad_out), &dense::pack(&problem, weight), out, accumulate);
}

/// The share of the input that `spikes` set bits are.
fn share(s: &ConvShape, spikes: u64) -> f64 {
    spikes as f64 / (s.images * s.height * s.width * s.c_in).max(1) as f64
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
