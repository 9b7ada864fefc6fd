//! CPU kernels on slices, without tensors or autograd. Results do not depend on the number of
//! threads: work is divided into tiles by shape alone, and sums are taken in a fixed order.
//!
//! Convolutions may differ in the last bits between instruction sets; [`numerics`] names the
//! set in use. The elementwise kernels (norm, LIF, pooling, SGD) never fuse a multiply-add and
//! keep one channel per lane, so they are bit-identical on every machine.

// Kernels index raw memory; each unsafe block argues why it stays in bounds.
#![allow(unsafe_code)]
// Arrays of registers are indexed by unrolled loops, several arrays per loop.
#![allow(clippy::needless_range_loop)]

mod byte;
pub mod conv;
pub mod lif;
pub(crate) mod matmul;
pub mod norm;
mod parallel;
pub mod pool;
pub mod sgd;
mod simd;

pub use parallel::with_spinning_workers;
pub use simd::{Level, limit, limit_by_environment, numerics};

#[cfg(test)]
mod tests;
