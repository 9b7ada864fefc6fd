//! The network's operations on a CUDA device, one file per operation. The kernels are in
//! `kernels/`.
//!
//! These files are compiled into every binary; only [`launch`] needs the feature `cuda`. In
//! tests they run on the host, with the kernels compiled by a C++ compiler, and are compared
//! with `ops/cpu`.

// A launch passes addresses to a kernel; each unsafe block argues why they are valid.
#![allow(unsafe_code)]

pub mod arguments;
pub mod compare;
pub mod conv;
#[cfg(feature = "cudnn")]
pub mod cudnn;
pub mod feed;
pub mod launch;
pub mod neuron;
pub mod norm;
pub mod pool;
pub mod step;
pub mod train;

pub use launch::{device_runs_on_cuda, runs_on_cuda};

use serde::{Deserialize, Serialize};
use std::cell::Cell;

/// The number format in which convolutions multiply. Weights, sums, norms and neurons are f32
/// in every format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Precision {
    /// f32.
    #[default]
    F32,
    /// f32 whose mantissas are cut to 10 bits for products, by the device's tensor cores.
    Tf32,
    /// bf16 products, added up in f32.
    Bf16,
}

impl Precision {
    /// The name that files and flags use.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}

thread_local! {
    // Belongs to the thread that opened the device, which alone queues work.
    static PRECISION: Cell<Precision> = const { Cell::new(Precision::F32) };
}

/// The precision of this thread's convolutions.
pub fn precision() -> Precision {
    PRECISION.get()
}

/// Sets the precision of this thread's convolutions.
pub fn set_precision(precision: Precision) {
    PRECISION.set(precision);
    #[cfg(feature = "cuda")]
    candle_core::cuda::set_gemm_reduced_precision_f32(precision == Precision::Tf32);
}

/// The root cause of an error in one line. candle's errors may carry a backtrace.
pub fn reason(error: &anyhow::Error) -> String {
    error.root_cause().to_string().lines().next().unwrap_or_default().to_string()
}

/// Whether an error means that the device is out of memory.
pub fn is_out_of_memory(error: &anyhow::Error) -> bool {
    let text = format!("{error:?}");
    ["CUDA_ERROR_OUT_OF_MEMORY", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED"]
        .iter()
        .any(|code| text.contains(code))
}

#[cfg(test)]
mod tests;
