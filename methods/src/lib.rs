//! What is compared: surrogates, the LIF neuron, FDG, TIT. Scalar formulas and plain f64 references; no tensors, no files.

pub mod fdg;
pub mod lif;
pub mod surrogate;
pub mod tit;

use anyhow::{Context, Result, bail, ensure};
use serde::{Deserialize, Serialize};
use surrogate::Surrogate;
use tit::{Budget, Start};

/// One `[[method]]` of a suite: an arm of the comparison, as data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Method {
    /// The arm's name in files and legends.
    pub name: String,
    /// The surrogate, with the temperature at which it starts.
    pub surrogate: Surrogate,
    /// Whether the temperature is chosen by the finite-difference gradient.
    #[serde(default)]
    pub fdg: bool,
    /// The TIT chain, or each T from scratch.
    pub start: Start,
    /// From scratch: for how long.
    #[serde(default)]
    pub budget: Budget,
}

impl Method {
    /// Refuses what would surface only in training.
    pub fn validate(&self) -> Result<()> {
        let name = &self.name;
        ensure!(
            !name.is_empty() && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'),
            "method `{name}`: a name is made of a-z, 0-9 and -"
        );
        self.surrogate.validate().with_context(|| format!("method `{name}`"))?;
        if self.fdg && self.surrogate.with_temperature(1.0).is_none() {
            bail!(
                "method `{name}`: fdg tunes a temperature, and {} has none; remove `fdg = true`",
                self.surrogate.name()
            );
        }
        ensure!(
            self.start == Start::Scratch || self.budget == Budget::FirstStage,
            "method `{name}`: `budget` is for methods with start = \"scratch\"; a TIT chain has its own"
        );
        Ok(())
    }
}
