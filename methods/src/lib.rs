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
    /// A rule that moves the temperature without any gradient: the controls of FDG.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<Schedule>,
    /// The TIT chain, or each T from scratch.
    pub start: Start,
    /// From scratch: for how long.
    #[serde(default)]
    pub budget: Budget,
}

/// How a temperature moves from epoch to epoch without a gradient.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// Before each epoch, b moves up or down by the FDG's step, each with probability 1/2. The cosine that FDG maximises is
    /// nearly linear in b within one step, so FDG nearly always moves too: the walk is FDG with a random sign.
    RandomWalk,
    /// The temperature moves in equal steps from the stage's first epoch, which has the temperature at which the stage
    /// starts, to its last epoch, which has this one. It must lie within the floor and the cap of the experiment's FDG.
    ///
    /// A stage of one epoch has no second value: it keeps the temperature at which it starts. A later stage of a chain
    /// starts where its parent ended, so after a stage with a ramp all later stages stay at the ramp's end.
    Ramp(f64),
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
        let has_temperature = self.surrogate.with_temperature(1.0).is_some();
        if self.fdg && !has_temperature {
            bail!(
                "method `{name}`: fdg tunes a temperature, and {} has none; remove `fdg = true`",
                self.surrogate.name()
            );
        }
        if let Some(schedule) = self.temperature {
            ensure!(
                has_temperature,
                "method `{name}`: `temperature` moves a temperature, and {} has none; remove the key",
                self.surrogate.name()
            );
            ensure!(
                !self.fdg,
                "method `{name}`: either fdg or `temperature` moves the temperature; remove one of the two"
            );
            if let Schedule::Ramp(to) = schedule {
                ensure!((0.01..=100.0).contains(&to), "method `{name}`: ramp = {to}, but it must lie in [0.01, 100]");
            }
        }
        ensure!(
            self.start == Start::Scratch || self.budget == Budget::FirstStage,
            "method `{name}`: `budget` is for methods with start = \"scratch\"; a TIT chain has its own"
        );
        Ok(())
    }
}
