//! CPU kernels on slices: no tensors, no autograd. Every result is the same on any number of threads: work is cut into
//! tiles by shape alone and sums are taken in a fixed order.
//!
//! Convolutions may differ in the last bits between instruction sets, which [`numerics`] names. The elementwise kernels
//! (norm, LIF, pooling, SGD) never fuse a multiply-add and keep one channel a lane: the same bits on every machine.

// Kernels index raw memory; each block says why it stays inside.
#![allow(unsafe_code)]
// Registers are arrays indexed by unrolled loops, several at a time.
#![allow(clippy::needless_range_loop)]

mod byte;
pub mod conv;
pub mod lif;
pub mod matmul;
pub mod norm;
mod parallel;
pub mod pool;
pub mod sgd;
mod simd;

pub use parallel::with_spinning_workers;
pub use simd::{Level, limit, limit_by_environment, numerics};

#[cfg(test)]
mod tests;
