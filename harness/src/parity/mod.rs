//! `harness parity`: recomputes a PyTorch reference dump and says how far apart the two are.

pub mod dump;
mod network;
mod neuron;

pub use network::{neuron_count, synops};

use crate::exit;
use anyhow::Result;
use candle_core::Device;
use dump::Dump;
use serde::Serialize;

/// One quantity held against the dump.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// The error, absolute or norm-wise relative as the tolerance is meant.
    pub error: f64,
    /// The largest error that passes.
    pub tolerance: f64,
}

impl Check {
    fn new(name: impl Into<String>, error: f64, tolerance: f64) -> Self {
        Self { name: name.into(), error, tolerance }
    }

    /// Whether the error is within the tolerance; NaN is not.
    pub fn passed(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// The verdict, as it is printed.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Parity {
    /// `pass` or `fail`.
    pub verdict: &'static str,
    /// Every check.
    pub checks: Vec<Check>,
}

/// Recomputes a dump on `device` (networks; surrogates and single neurons are the CPU's); what is in it decides how.
pub fn parity(dump: &Dump, device: &Device) -> Result<Parity> {
    let checks = if dump.has("grad_spikes") {
        neuron::lif(dump)?
    } else if dump.names().any(|name| name.starts_with("fdg_eps")) {
        network::fdg(dump, device)?
    } else if dump.has("input") {
        network::network(dump, device)?
    } else if dump.has("v") {
        neuron::surrogates(dump)?
    } else {
        return Err(exit::data(
            "not a dump of surrogates (`v`), a neuron (`grad_spikes`), a network (`input`) or an FDG (`fdg_eps…`)",
        ));
    };
    let passed = !checks.is_empty() && checks.iter().all(Check::passed);
    Ok(Parity { verdict: if passed { "pass" } else { "fail" }, checks })
}

/// ‖x − reference‖ / ‖reference‖; the absolute norm where the reference is 0.
fn relative(x: impl IntoIterator<Item = f64>, reference: &[f64]) -> f64 {
    let (mut difference, mut norm, mut count) = (0.0, 0.0, 0);
    for (x, r) in x.into_iter().zip(reference) {
        difference += (x - r) * (x - r);
        norm += r * r;
        count += 1;
    }
    if count != reference.len() {
        return f64::INFINITY;
    }
    if norm > 0.0 { (difference / norm).sqrt() } else { difference.sqrt() }
}

/// The largest |x − reference|.
fn absolute(x: impl IntoIterator<Item = f64>, reference: &[f64]) -> f64 {
    let mut count = 0;
    let mut worst = 0.0f64;
    for (x, r) in x.into_iter().zip(reference) {
        let error = (x - r).abs();
        worst = if error > worst || error.is_nan() { error } else { worst };
        count += 1;
    }
    if count == reference.len() { worst } else { f64::INFINITY }
}
