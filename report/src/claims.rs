//! The verdicts on all published numbers, as data: `claims.json` and `harness verify`.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use crate::local::Local;
use crate::matching::unsaid_parts;
use crate::published::{Certainty, Claim, Published};
use crate::record::Record;
use crate::results::Results;
use crate::rows::{column_values, is_setting};
use crate::section::cells::cell_command;
use crate::section::percent;
use crate::series;
use crate::stats::{clip_interval, detectable_difference, t_interval};
use crate::verdict::{self, Verdict};

pub use crate::matching::Difference;
pub use crate::verdict::Kind;

/// Name and version of the schema; results/README.md explains it.
pub const SCHEMA: &str = "harness-claims/1";

/// `claims.json`. Accuracies are fractions.
#[derive(Debug, Serialize)]
pub struct Claims {
    /// [`SCHEMA`].
    pub schema: &'static str,
    /// The suite, or the suites of a merged folder; empty where rows name none.
    pub suite: String,
    /// The command that makes or completes the folder.
    pub command: Option<String>,
    /// The file of published numbers, or `built-in`.
    pub published: String,
    /// The test, in words.
    pub test: &'static str,
    /// One per published number, in the file's order.
    pub claims: Vec<Judged>,
}

/// A published number and what can be said of it.
#[derive(Debug, Serialize)]
pub struct Judged {
    /// Stays as long as data set, network and T do.
    pub id: String,
    /// The data set's name on paper.
    pub label: String,
    /// The data set's name in `rows.csv`.
    pub dataset: String,
    /// The network as the paper calls it.
    pub network: String,
    /// T.
    pub time_steps: usize,
    /// The number.
    pub published: Number,
    /// The verdict.
    pub verdict: Kind,
    /// Why, in a sentence.
    pub reason: String,
    /// In what the nearest experiment here is another one; empty if it is judged, or if nothing was run.
    pub differences: Vec<Difference>,
    /// The test, in words; null without a judgement, as are the next five.
    pub test: Option<String>,
    /// Seeds.
    pub n: Option<usize>,
    /// Mean of the last-epoch test accuracy.
    pub mean: Option<f64>,
    /// 90 % t interval of the mean, within [0, 1]; null for one seed too.
    pub interval_90: Option<(f64, f64)>,
    /// Half width of the band around the published number.
    pub band: Option<f64>,
    /// The difference that so many seeds of this spread show four times in five; null for one seed too.
    pub detectable_difference: Option<f64>,
    /// The cells that were judged; without a judgement, those of the nearest experiment.
    pub per_seed: Vec<Seed>,
    /// What those cells used where the paper is silent, by column; of `protocol_id` the parts that it does not state.
    pub silent: BTreeMap<String, Value>,
}

/// A published number.
#[allow(missing_docs)] // suites/published.toml explains the fields.
#[derive(Debug, Serialize)]
pub struct Number {
    pub top1: f64,
    pub std: Option<f64>,
    pub certainty: Certainty,
    pub source: String,
}

/// One cell as evidence.
#[derive(Debug, Serialize)]
pub struct Seed {
    /// Its seed.
    pub seed: u64,
    /// Test accuracy after the last epoch.
    pub top1: Option<f64>,
    /// Its id in `rows.csv`.
    pub cell_id: String,
    /// What trains it again; null where the folder has no plan.
    pub command: Option<String>,
}

/// What all verdicts say together, to a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// At least one number could be judged, and every one that could is reproduced.
    Reproduced,
    /// A number is below or above.
    Contradicted,
    /// None is below or above, but the seeds cannot tell for some.
    Inconclusive,
    /// No number could be judged.
    NothingJudged,
}

/// Judges all published numbers by a result folder or a file of rows; `published` is another paper's file.
///
/// # Errors
/// No result folder, a damaged file (with its line), or a wrong file of published numbers.
pub fn claims(dir: &Path, published: Option<&Path>) -> Result<Claims> {
    let (published, from) = Published::load(published)?;
    let results = Results::load(dir)?;
    let panels = series::panels(&results);
    let judge = |claim| verdict::judge(claim, &published, &panels, &results);
    let verdicts: Vec<Verdict> = published.claims.iter().map(judge).collect();
    Ok(gather(&published, &from, &results, &verdicts))
}

/// As [`claims`], from verdicts in the order of `published.claims`.
pub(crate) fn gather(published: &Published, from: &Local, results: &Results, verdicts: &[Verdict]) -> Claims {
    let judged = published.claims.iter().zip(verdicts);
    Claims {
        schema: SCHEMA,
        suite: results.suite(),
        command: command(results).map(str::to_string),
        published: from.as_ref().map_or_else(|| "built-in".into(), |path| path.display().to_string()),
        test: verdict::TEST,
        claims: judged.map(|(claim, verdict)| judged_claim(claim, verdict, published, results)).collect(),
    }
}

/// What makes the folder again; no one command makes several.
fn command(results: &Results) -> Option<&str> {
    results.plan.as_ref().filter(|_| results.sources.len() == 1).map(|plan| plan.command.as_str())
}

fn judged_claim(claim: &Claim, verdict: &Verdict, published: &Published, results: &Results) -> Judged {
    let setting = published.setting(&claim.dataset);
    let measured = verdict.measured.as_ref();
    let rows = || verdict.rows.iter().map(|&row| &results.rows[row]);
    let values: Vec<f64> = rows().filter_map(|row| row.top1_last).collect();
    let band = measured.and(setting.map(|setting| setting.band));
    let within =
        |band: f64| format!("90 % t interval of the mean against {} ± {} %", percent(claim.top1), percent(band));
    let seed = |row: &Record| Seed {
        seed: row.seed,
        top1: row.top1_last,
        cell_id: row.cell_id.clone(),
        command: command(results).map(|command| cell_command(command, &row.cell_id)),
    };
    Judged {
        id: claim.id(),
        label: setting.map_or(&claim.dataset, |setting| &setting.label).clone(),
        dataset: claim.dataset.clone(),
        network: claim.network.clone(),
        time_steps: claim.time_steps,
        published: Number {
            top1: claim.top1,
            std: claim.std,
            certainty: claim.certainty,
            source: claim.source.clone(),
        },
        verdict: verdict.kind,
        reason: verdict.reason.clone(),
        differences: verdict.differences.clone(),
        test: band.map(within),
        n: measured.map(|measured| measured.n),
        mean: measured.map(|measured| measured.mean),
        interval_90: measured.and_then(|_| t_interval(&values, 0.9)).map(|interval| clip_interval(interval, 0.0, 1.0)),
        band,
        detectable_difference: measured
            .and_then(|measured| measured.std.and_then(|std| detectable_difference(measured.n, std))),
        per_seed: rows().map(seed).collect(),
        silent: rows().next().map(|row| silent(claim, published, row)).unwrap_or_default(),
    }
}

/// What a run used where the paper is silent.
fn silent(claim: &Claim, published: &Published, row: &Record) -> BTreeMap<String, Value> {
    const STATED: [&str; 4] = ["dataset", "method", "train_time_steps", "eval_time_steps"];
    let Some(setting) = published.setting(&claim.dataset) else { return BTreeMap::new() };
    let stage = setting.stage(claim.time_steps).map(|stage| &stage.expect);
    let stated = |column: &str| {
        let expected = [Some(&setting.expect), stage, Some(&claim.expect)].into_iter().flatten();
        STATED.contains(&column) || expected.into_iter().any(|expect| expect.has(column))
    };
    let values = column_values(row).into_iter().filter(|(column, _)| is_setting(row, column) && !stated(column));
    let mut silent: BTreeMap<String, Value> = values.collect();
    silent.insert("protocol_id".into(), unsaid_parts(setting, &row.protocol_id).join(";").into());
    silent
}

impl Claims {
    /// What all verdicts say together.
    pub fn outcome(&self) -> Outcome {
        let any = |kinds: &[Kind]| self.claims.iter().any(|claim| kinds.contains(&claim.verdict));
        if any(&[Kind::Below, Kind::Above]) {
            return Outcome::Contradicted;
        }
        match (any(&[Kind::Underpowered]), any(&[Kind::Reproduced])) {
            (true, _) => Outcome::Inconclusive,
            (false, true) => Outcome::Reproduced,
            (false, false) => Outcome::NothingJudged,
        }
    }

    /// One line of JSON.
    ///
    /// # Errors
    /// None that can be reached: every key is text.
    pub fn to_json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }
}

/// A list for a terminal: two lines per published number.
impl fmt::Display for Claims {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for claim in &self.claims {
            let Judged { label, network, time_steps, published, .. } = claim;
            let number = percent(published.top1);
            let doubt =
                if published.certainty == Certainty::Quoted { "" } else { &format!(", {}", published.certainty) };
            write!(
                f,
                "{:<16}  {label}, {network}, T = {time_steps}: published {number} %{doubt}",
                claim.verdict.to_string()
            )?;
            if let (Some(mean), Some(n)) = (claim.mean, claim.n) {
                write!(f, "; measured {} % (n = {n})", percent(mean))?;
            }
            let reason: String = claim.reason.chars().filter(|c| !c.is_control()).collect();
            writeln!(f, "\n{:<16}  {reason}", "")?;
        }
        let count = |kind: Kind| self.claims.iter().filter(|claim| claim.verdict == kind).count();
        let kinds = [
            Kind::Reproduced,
            Kind::Below,
            Kind::Above,
            Kind::Underpowered,
            Kind::ProtocolDiffers,
            Kind::ToyScale,
            Kind::NotRun,
        ];
        let counts = kinds.into_iter().filter(|kind| count(*kind) > 0).map(|kind| format!("{} {kind}", count(kind)));
        write!(f, "Of {} published numbers: {}.", self.claims.len(), counts.collect::<Vec<_>>().join(", "))
    }
}
