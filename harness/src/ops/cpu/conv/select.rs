//! Chooses the algorithm of a pass, by a model of what each kernel costs.

use super::forward::{incremental, table};
use super::weight_grad;
use crate::ops::cpu::{pool, simd};
use crate::ops::{ConvShape, pad8};

/// From this density of spikes on, the weight's gradient is faster by the dense algorithm than by spike lists.
const DENSE_WEIGHT_GRAD_DENSITY: f64 = 0.7;
/// A changed spike costs more than a listed one. If more than this share of the spikes changed, the sums are computed
/// anew; if that is cheap for the layer, even earlier (see [`updating_is_faster`]).
const MAX_CHANGED_SHARE: f64 = 0.25;

/// How a pass over spikes is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops::cpu) enum ConvAlgorithm {
    /// Lists the spikes and adds the weight row (or the gradient) of each.
    SpikeList,
    /// Looks up the sums of all subsets of eight weight rows (or of a few pixels' gradients) and adds those.
    Table,
    /// Expands the spikes to floats.
    Dense,
}

/// The number of vectors in a padded output pixel, and the lanes of a vector.
fn vectors(s: &ConvShape) -> (f64, usize) {
    let lanes = if simd::level() == simd::Level::Avx512 { 16 } else { 8 };
    (pad8(s.c_out).div_ceil(lanes) as f64, lanes)
}

/// The algorithm of the forward pass for an input with this density of spikes.
pub(in crate::ops::cpu) fn forward_algorithm(s: &ConvShape, density: f64) -> ConvAlgorithm {
    fastest(s, density).0
}

/// The fastest algorithm and its cycles per output pixel. The constants are fits to measurements of the layers of
/// ResNet-18 at widths 8 to 64 (`benches/kernels.rs`).
fn fastest(s: &ConvShape, density: f64) -> (ConvAlgorithm, f64) {
    let (vectors, lanes) = vectors(s);
    let (k, inputs) = (s.kernel as f64, (s.kernel * s.kernel * s.c_in) as f64);
    let blocks = (vectors / 8.0).ceil();
    // Building a list costs some cycles per byte, each range of a list ends in a mispredicted branch, and a spike costs at
    // least two cycles.
    let listing = (s.height * s.width * s.c_in) as f64 / (2 * s.out_height() * s.out_width()) as f64;
    let ranges = k * (s.c_in as f64 / if vectors < 8.0 { 64.0 } else { 32.0 }).ceil() * blocks;
    let spikes = density * inputs * share_inside(s, s.height, s.out_height()) * share_inside(s, s.width, s.out_width());
    // The entries of a list are 16-bit: (column, channel within a block of at most 64).
    let fit = s.width * 64 <= 1 << 16;
    let lists = if fit { listing + 30.0 * ranges + spikes * (0.6 * vectors).max(2.0 * blocks) } else { f64::INFINITY };
    let table_by_outputs = table::cycles(s, vectors, lanes);
    let tables = table_by_outputs * table::column_factor(s);
    let dense = 0.53 * inputs * vectors;
    // Float sums are not bit-identical to fixed-point sums, so the border of the dense algorithm is part of the recipe. It
    // stays where it was before tables walked along columns, which made them cheaper.
    if dense <= lists.min(table_by_outputs) {
        (ConvAlgorithm::Dense, dense)
    } else if tables < lists {
        (ConvAlgorithm::Table, tables)
    } else {
        (ConvAlgorithm::SpikeList, lists)
    }
}

/// The share of a kernel's rows (or columns) that lie inside a map of `size` rather than in its padding, over all `outs`
/// output positions. Spike lists, and tables of many channels, only pay for these.
pub(super) fn share_inside(s: &ConvShape, size: usize, outs: usize) -> f64 {
    let rows = (0..outs).flat_map(|out| (0..s.kernel).map(move |k| out * s.stride + k));
    rows.filter(|row| (s.padding..s.padding + size).contains(row)).count() as f64 / (outs * s.kernel) as f64
}

/// Whether updating the sums of the previous pass for `changes` changed spikes is faster than summing all `spikes` anew.
pub(super) fn updating_is_faster(s: &ConvShape, changes: u64, spikes: u64) -> bool {
    let pixels = (s.images * s.out_height() * s.out_width()) as f64;
    let cycles = incremental::cycles(s, vectors(s).0, changes as f64 / pixels);
    (changes as f64) < MAX_CHANGED_SHARE * spikes as f64 && cycles < fastest(s, density(s, spikes)).1
}

/// The algorithm of the forward pass over `spikes`, and the number of set bits.
pub(super) fn forward_algorithm_for(s: &ConvShape, spikes: &[u8]) -> (ConvAlgorithm, u64) {
    let count = pool::count_spikes(spikes);
    let density = density(s, count);
    let algorithm = forward_algorithm(s, density);
    tracing::trace!(shape = ?s, density, ?algorithm, "spiking convolution");
    (algorithm, count)
}

/// Whether neurons fire as soon as their sums are complete, without an output map in memory.
pub(super) fn fires_from_tables(s: &ConvShape, algorithm: ConvAlgorithm, time_steps: usize) -> bool {
    algorithm == ConvAlgorithm::Table && table::sums_stay_in_cache(s, time_steps)
}

/// The algorithm of the weight's gradient for an input with this density of spikes.
pub(super) fn weight_grad_algorithm(s: &ConvShape, density: f64) -> ConvAlgorithm {
    if weight_grad::table::is_faster(s, density) {
        ConvAlgorithm::Table
    } else if s.width < 1 << 12 && density < DENSE_WEIGHT_GRAD_DENSITY {
        // Lists hold 16-bit positions within a unit, and a unit is at least one row.
        ConvAlgorithm::SpikeList
    } else {
        ConvAlgorithm::Dense
    }
}

/// The share of the input's bits that are set if it has `spikes` set bits.
pub(super) fn density(s: &ConvShape, spikes: u64) -> f64 {
    spikes as f64 / (s.images * s.height * s.width * s.c_in).max(1) as f64
}
