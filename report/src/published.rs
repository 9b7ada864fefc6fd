//! Published numbers, typed: `suites/published.toml`.

use std::fmt;

use anyhow::{Result, ensure};
use serde::Deserialize;

use crate::local::{self, Local};

/// All published numbers.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// The experiments they come from, one a data set.
    #[serde(rename = "setting")]
    pub settings: Vec<Setting>,
    /// The paper's own table.
    #[serde(rename = "claim")]
    pub claims: Vec<Claim>,
    /// Other papers; never ranked against anything.
    #[serde(default, rename = "context")]
    pub contexts: Vec<Context>,
}

/// A data set of the paper, and which of our protocols are the same experiment.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Setting {
    /// Our name.
    pub dataset: String,
    /// The name on paper.
    pub label: String,
    /// What the column `protocol_id` must have to count as the paper's protocol; see [`Setting::is_protocol`].
    pub protocols: Vec<String>,
    /// Half width of the band in which a mean counts as reproduced; a fraction.
    pub band: f64,
}

impl Setting {
    /// Whether a protocol id is the published experiment's: it has every part (separated by `;`) of one of
    /// `protocols`, and is neither limited to a part of the samples nor simulated.
    pub fn is_protocol(&self, id: &str) -> bool {
        let parts: Vec<&str> = id.split(';').collect();
        let whole = !parts.iter().any(|part| part.starts_with("limit=") || part.contains("simulated"));
        whole && self.protocols.iter().any(|wanted| wanted.split(';').all(|part| parts.contains(&part)))
    }
}

/// How far a published number may be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certainty {
    /// A text that reports it was read.
    Quoted,
    /// One doubtful text reports it.
    QuotedWeak,
    /// Recalled; nothing at hand confirms it.
    Unverified,
}

impl fmt::Display for Certainty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quoted => "quoted",
            Self::QuotedWeak => "quoted once, weakly",
            Self::Unverified => "UNVERIFIED",
        })
    }
}

/// A cell of the paper's table.
#[allow(missing_docs)] // suites/published.toml explains the fields.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    pub method: String,
    pub dataset: String,
    pub architecture: String,
    pub network: String,
    pub width: usize,
    pub time_steps: usize,
    /// Of the cell's own stage, where the paper says them.
    pub epochs: Option<usize>,
    pub top1: f64,
    /// Always unverified; see the file.
    pub std: Option<f64>,
    pub certainty: Certainty,
    pub source: String,
}

/// Another paper's number.
#[allow(missing_docs)]
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Context {
    pub label: String,
    pub surrogate: Option<String>,
    pub network: String,
    pub dataset: String,
    pub time_steps: Option<usize>,
    pub top1: f64,
    pub certainty: Certainty,
    pub source: String,
}

impl Published {
    /// `./suites/published.toml` where that exists, else the copy compiled in.
    pub fn load() -> Result<(Self, Local)> {
        local::load("published.toml", include_str!("../../suites/published.toml"), Self::parse)
    }

    /// Parses and checks the file's text.
    pub fn parse(text: &str) -> Result<Self> {
        let published: Self = toml::from_str(text)?;
        for claim in &published.claims {
            fraction(claim.top1, &claim.source)?;
            let known = published.settings.iter().any(|setting| setting.dataset == claim.dataset);
            ensure!(known, "a claim is about `{}`, which has no [[setting]]", claim.dataset);
        }
        published.contexts.iter().try_for_each(|context| fraction(context.top1, &context.source))?;
        Ok(published)
    }

    /// The published experiment of a data set.
    pub fn setting(&self, dataset: &str) -> Option<&Setting> {
        self.settings.iter().find(|setting| setting.dataset == dataset)
    }
}

fn fraction(top1: f64, source: &str) -> Result<()> {
    ensure!((0.0..=1.0).contains(&top1), "top1 = {top1} of \"{source}\" is not a fraction; write 0.9425 for 94.25 %");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_holds_the_papers_nine_cells() {
        let published = Published::parse(include_str!("../../suites/published.toml")).unwrap();
        assert_eq!(published.claims.len(), 9);
        let dvs = published.claims.iter().find(|claim| claim.dataset == "cifar10-dvs").unwrap();
        assert_eq!((dvs.top1, dvs.time_steps, dvs.certainty), (0.754, 10, Certainty::Quoted));
        let unverified = published.claims.iter().filter(|claim| claim.certainty == Certainty::Unverified);
        assert_eq!(unverified.map(|claim| claim.top1).collect::<Vec<_>>(), [0.7168, 0.6819]);
        assert_eq!(published.setting("cifar100").unwrap().band, 0.01);
        assert!(published.contexts.len() > 40);
    }

    #[test]
    fn a_protocol_is_the_papers_only_as_a_whole() {
        let published = Published::parse(include_str!("../../suites/published.toml")).unwrap();
        let cifar = published.setting("cifar10").unwrap();
        let id = "cifar10/official;md5:0;size=32;augment=crop4+flip+autoaugment+cutout16;selection=last";
        assert!(cifar.is_protocol(id));
        assert!(!cifar.is_protocol(&format!("{id};limit=5000")));
        assert!(!cifar.is_protocol(&id.replace("+cutout16", "")));
        assert!(!cifar.is_protocol("cifar10/official"));
        let dvs = published.setting("cifar10-dvs").unwrap();
        assert!(
            dvs.is_protocol("cifar10-dvs/last100;md5s:0;equal-number;size=48-nearest;per-frame-max;selection=last")
        );
        assert!(!dvs.is_protocol("cifar10-dvs/tebn;md5s:0;equal-number;size=48-nearest;per-frame-max;selection=last"));
    }

    #[test]
    fn a_percent_or_an_unknown_key_is_refused() {
        let text = include_str!("../../suites/published.toml");
        let error = Published::parse(&text.replacen("top1 = 0.9425", "top1 = 94.25", 1)).unwrap_err();
        assert!(error.to_string().contains("94.25 of \"POLARA"), "{error}");
        let error = Published::parse(&text.replacen("band =", "bnad =", 1)).unwrap_err();
        assert!(error.to_string().contains("unknown field `bnad`"), "{error}");
    }
}
