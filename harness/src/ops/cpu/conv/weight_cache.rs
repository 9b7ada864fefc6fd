//! A convolution's weight in every order in which a kernel reads it.

use super::fixed_point;
use super::forward::{incremental, table};
use crate::ops::ConvShape;
use crate::ops::cpu::parallel::Aligned;
use std::sync::OnceLock;

/// A weight in the orders in which the forward's paths read it, each made when a pass first takes that path: for passes
/// that share the weight and the map's size.
#[derive(Default)]
pub struct Packed {
    /// Whether the first pass's sums are kept, for passes whose spikes differ little from its.
    pub(super) keep: bool,
    pub(super) before: OnceLock<incremental::Before>,
    pub(super) whole: OnceLock<fixed_point::Whole>,
    pub(super) changes: OnceLock<Aligned>,
    pub(super) lists: OnceLock<Aligned>,
    tables: OnceLock<Aligned>,
    pub(super) dense: OnceLock<Vec<Aligned>>,
}

impl Packed {
    /// For passes whose spikes will differ little from those of the first, which must be alone.
    pub fn keeping() -> Self {
        Self { keep: true, ..Self::default() }
    }

    pub(super) fn tables(&self, s: &ConvShape, whole: &fixed_point::Whole) -> &[f32] {
        made::<Aligned>(&self.tables, || table::pack(s, &whole.weight))
    }
}

/// The cell's value, made by `make` if there is none.
pub(super) fn made<T>(cell: &OnceLock<T>, make: impl Fn() -> T) -> &T {
    loop {
        if let Some(value) = cell.get() {
            return value;
        }
        // Not `get_or_init`: `make` runs on the pool, whose threads may come here again before it ends.
        let _ = cell.set(make());
    }
}
