//! `harness parity`: recomputes a PyTorch reference dump and says how far apart the two are.

pub mod dump;
mod network;
mod neuron;

pub use network::{neuron_count, synops};

use crate::exit;
use anyhow::{Result, bail};
use candle_core::Device;
use dump::Dump;
use serde::Serialize;

/// One quantity held against the dump.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// What.
    pub name: String,
    /// The error, absolute or norm-wise relative as the tolerance is meant; `null` in JSON where it is not finite.
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
///
/// An error means a dump that is incomplete or contradicts itself: exit 3.
pub fn parity(dump: &Dump, device: &Device) -> Result<Parity> {
    let checks = checks(dump, device).map_err(|error| exit::data(format!("{error:#}")))?;
    let passed = !checks.is_empty() && checks.iter().all(Check::passed);
    Ok(Parity { verdict: if passed { "pass" } else { "fail" }, checks })
}

fn checks(dump: &Dump, device: &Device) -> Result<Vec<Check>> {
    if dump.has("grad_spikes") {
        neuron::lif(dump)
    } else if dump.names().any(|name| name.starts_with("fdg_eps")) {
        network::fdg(dump, device)
    } else if dump.has("input") {
        network::network(dump, device)
    } else if dump.has("v") {
        neuron::surrogates(dump)
    } else {
        bail!("not a dump of surrogates (`v`), a neuron (`grad_spikes`), a network (`input`) or an FDG (`fdg_eps…`)")
    }
}

/// ‖x − reference‖ / ‖reference‖; the absolute norm where the reference is 0, infinite where their lengths differ.
fn relative(x: impl IntoIterator<Item = f64>, reference: &[f64]) -> f64 {
    let Some(pairs) = paired(x, reference) else { return f64::INFINITY };
    let (difference, norm) = pairs.fold((0.0, 0.0), |(d, n), (x, r)| (d + (x - r) * (x - r), n + r * r));
    if norm > 0.0 { (difference / norm).sqrt() } else { difference.sqrt() }
}

/// The largest |x − reference|; infinite where their lengths differ, NaN where a value is.
fn absolute(x: impl IntoIterator<Item = f64>, reference: &[f64]) -> f64 {
    paired(x, reference).map_or(f64::INFINITY, |pairs| pairs.map(|(x, r)| (x - r).abs()).fold(0.0, worse))
}

/// How many values differ; infinite where their numbers do.
fn flipped(x: impl IntoIterator<Item = f64>, reference: &[f64]) -> f64 {
    paired(x, reference).map_or(f64::INFINITY, |pairs| pairs.filter(|(x, r)| x != r).count() as f64)
}

fn paired(x: impl IntoIterator<Item = f64>, reference: &[f64]) -> Option<impl Iterator<Item = (f64, f64)>> {
    let x: Vec<f64> = x.into_iter().collect();
    (x.len() == reference.len()).then(|| x.into_iter().zip(reference.iter().copied()))
}

/// The larger error; NaN is the largest (`f64::max` would pass over it).
fn worse(a: f64, b: f64) -> f64 {
    if b > a || b.is_nan() { b } else { a }
}
