//! A convolution's weight in every order in which a kernel reads it.

use super::fixed_point::FixedPointWeight;
use super::forward::incremental::PreviousPass;
use super::forward::{spike_list, table};
use crate::ops::ConvShape;
use crate::ops::cpu::parallel::Aligned;
use std::sync::OnceLock;

/// Caches every layout of one weight. Passes that share the weight and the size of the map share it; each layout is
/// made when a pass first needs it.
#[derive(Default)]
pub struct ConvWeightCache {
    /// Whether the sums of the first pass are kept for later passes over nearly the same spikes.
    pub(super) keep_first_pass: bool,
    pub(super) previous: OnceLock<PreviousPass>,
    pub(super) fixed_point: OnceLock<FixedPointWeight>,
    /// The layout of [`super::forward::incremental`].
    pub(super) incremental: OnceLock<Aligned>,
    spike_list: OnceLock<Aligned>,
    table: OnceLock<Aligned>,
    /// The layout of [`super::direct`], for each of its classes of pixels.
    pub(super) dense: OnceLock<Vec<Aligned>>,
}

impl ConvWeightCache {
    /// Keeps the sums of the first pass so that later passes with nearly the same spikes only add the differences. The
    /// first pass must finish before any other starts.
    pub fn keeping_first_pass() -> Self {
        Self { keep_first_pass: true, ..Self::default() }
    }

    pub(super) fn spike_list(&self, s: &ConvShape, fixed: &FixedPointWeight) -> &[f32] {
        get_or_make::<Aligned>(&self.spike_list, || spike_list::pack(s, &fixed.weight))
    }

    pub(super) fn table(&self, s: &ConvShape, fixed: &FixedPointWeight) -> &[f32] {
        get_or_make::<Aligned>(&self.table, || table::pack(s, &fixed.weight))
    }
}

/// The value of `cell`, made by `make` if it is empty.
pub(super) fn get_or_make<T>(cell: &OnceLock<T>, make: impl Fn() -> T) -> &T {
    loop {
        if let Some(value) = cell.get() {
            return value;
        }
        // `get_or_init` could deadlock: `make` runs on the pool, whose threads may enter here again before it ends.
        let _ = cell.set(make());
    }
}
