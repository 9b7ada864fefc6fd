//! The deviation ledger, typed: `suites/deviations.toml`.

use anyhow::Result;
use serde::Deserialize;

use crate::local::{self, Local};

/// What the paper leaves open or what we do otherwise.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deviation {
    /// Short name, unique.
    pub id: String,
    /// What it is about.
    pub topic: String,
    /// What the paper says, or that it says nothing.
    pub paper: String,
    /// What this harness does.
    pub ours: String,
    /// Why.
    pub why: String,
    /// Two methods whose paired difference (first − second) measures the choice.
    pub arms: Option<[String; 2]>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ledger {
    deviation: Vec<Deviation>,
}

/// `./suites/deviations.toml` where that exists, else the copy compiled in.
pub fn load() -> Result<(Vec<Deviation>, Local)> {
    local::load("deviations.toml", include_str!("../../suites/deviations.toml"), |text| {
        Ok(toml::from_str::<Ledger>(text)?.deviation)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_ledger_parses_and_its_ids_are_unique() {
        let ledger: Ledger = toml::from_str(include_str!("../../suites/deviations.toml")).unwrap();
        let mut ids: Vec<&str> = ledger.deviation.iter().map(|deviation| deviation.id.as_str()).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
        assert!(count >= 15);
    }
}
