//! The network's operations on a CUDA card, one file an operation; the kernels are in `kernels/`.
//!
//! Compiled into every binary; only [`launch`] needs the feature `cuda`. In tests the same files run on the host, on the
//! kernels compiled by a C++ compiler, and are held against `ops/cpu`.

// A launch hands addresses to a kernel; each says why they fit.
#![allow(unsafe_code)]

pub mod arguments;
pub mod compare;
pub mod conv;
pub mod launch;
pub mod neuron;
pub mod norm;
pub mod pool;
pub mod train;

pub use launch::takes;

#[cfg(test)]
mod tests;
