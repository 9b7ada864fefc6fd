//! CPU kernels on slices: no tensors, no autograd. Every result is the same on any number of threads: work is cut into
//! tiles by shape alone and sums are taken in a fixed order.
//!
//! SIMD lanes are always output elements, never a sum, so the vector width changes no bit; only fused
//! multiply-add does, which [`numerics`] names. The elementwise kernels never fuse: they agree on every machine.

// Kernels index raw memory; each block says why it stays inside.
#![allow(unsafe_code)]

pub mod conv;
pub mod lif;
pub mod norm;
mod parallel;
pub mod pool;
pub mod sgd;
mod simd;

pub use simd::{numerics, set_portable};

#[cfg(test)]
mod tests;
