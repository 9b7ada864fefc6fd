//! Which algorithm computes a pass: a cost model per kernel, fitted to measurements.

use super::{forward, weight_grad};
use crate::ops::ConvShape;
use crate::ops::cpu::{pool, simd};
use crate::ops::pad8;

/// Above this share of set bits the weight's gradient is faster as a dense one than by lists.
const DENSE_ABOVE: f64 = 0.7;

/// How a pass over spikes is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops::cpu) enum Path {
    /// The weight rows, or gradients, of each spike are added up.
    Lists,
    /// The sums of all subsets of eight weight rows, or of a few gradients, are looked up and added.
    Tables,
    /// Spikes are expanded to floats.
    Dense,
}

/// Vectors of a padded output pixel, and their lanes.
pub(super) fn vectors(s: &ConvShape) -> (f64, usize) {
    let lanes = if simd::level() == simd::Level::Avx512 { 16 } else { 8 };
    (pad8(s.c_out).div_ceil(lanes) as f64, lanes)
}

/// The path that [`forward`] takes for spikes of this density.
pub(in crate::ops::cpu) fn path(s: &ConvShape, density: f64) -> Path {
    fastest(s, density).0
}

/// The fastest path and its cycles an output pixel, by a model of each kernel's. The constants are fits to measurements of
/// the layers of ResNet-18 at widths 8 to 64 (`benches/kernels.rs`).
pub(super) fn fastest(s: &ConvShape, density: f64) -> (Path, f64) {
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
    let outputs = forward::table::cycles(s, vectors, lanes);
    let tables = outputs * forward::table::gain(s);
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
pub(super) fn inside(s: &ConvShape, size: usize, outs: usize) -> f64 {
    let rows = (0..outs).flat_map(|out| (0..s.kernel).map(move |k| out * s.stride + k));
    rows.filter(|row| (s.padding..s.padding + size).contains(row)).count() as f64 / (outs * s.kernel) as f64
}

/// Spikes that changed cost more each than spikes that are listed: from this share of the spikes on, all are summed anew, and
/// where that is fast, before.
const FEW_CHANGES: f64 = 0.25;

/// Whether it is faster to bring sums up to date than to sum all of so many spikes anew.
pub(super) fn few(s: &ConvShape, changes: u64, spikes: u64) -> bool {
    let pixels = (s.images * s.out_height() * s.out_width()) as f64;
    let cycles = forward::incremental::cycles(s, vectors(s).0, changes as f64 / pixels);
    (changes as f64) < FEW_CHANGES * spikes as f64 && cycles < fastest(s, share(s, spikes)).1
}

/// The path for these spikes, and how many there are.
pub(super) fn chosen(s: &ConvShape, spikes: &[u8]) -> (Path, u64) {
    let count = pool::count_spikes(spikes);
    let density = share(s, count);
    let path = path(s, density);
    tracing::trace!(shape = ?s, density, ?path, "spiking convolution");
    (path, count)
}

pub(super) fn fires_at_once(s: &ConvShape, path: Path, time_steps: usize) -> bool {
    path == Path::Tables && forward::table::fit(s, time_steps)
}

/// The path for the weight's gradient from an input of which `density` fires.
pub(super) fn weight_path(s: &ConvShape, density: f64) -> Path {
    if weight_grad::table::pays(s, density) {
        Path::Tables
    } else if s.width < 1 << 12 && density < DENSE_ABOVE {
        // Lists hold 16-bit pixels of a unit, which is at least a row.
        Path::Lists
    } else {
        Path::Dense
    }
}

/// The share of the input that `spikes` set bits are.
pub(super) fn share(s: &ConvShape, spikes: u64) -> f64 {
    spikes as f64 / (s.images * s.height * s.width * s.c_in).max(1) as f64
}
