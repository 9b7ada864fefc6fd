//! What is held equal: data, network, training, storage; and the `harness` binary.

pub mod budget;
pub mod cell;
pub mod cli;
pub mod commands;
pub mod data;
pub mod device;
pub mod durable;
pub mod environment;
pub mod exit;
#[doc(hidden)]
pub mod fuzzing;
pub mod gpu_specs;
pub mod lock;
pub mod model;
pub mod ops;
pub mod parity;
pub mod plan;
pub mod predictions;
pub mod progress;
pub mod queue;
pub mod ranks;
pub mod rng;
pub mod row;
pub mod run;
pub mod selection;
pub mod slurm;
pub mod store;
pub mod suite;
pub mod train;
