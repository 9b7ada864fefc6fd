//! What is held equal: data, network, training, storage; and the `harness` binary.

pub mod data;
pub mod exit;
pub mod ops;
pub mod rng;
