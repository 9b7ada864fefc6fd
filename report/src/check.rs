//! The gate for continuous integration: a result folder against a baseline's rows.

use std::fmt::{self, Write as _};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::markdown;
use crate::pairing::{self, Group};
use crate::plot::escape as escape_xml;
use crate::record::Record;
use crate::results::Results;
use crate::rows::Rows;
use crate::stats::{CONFIDENCE, mean, t_interval};

/// Version of [`Gate::json`]; it changes when a field is removed or changes its meaning, not when one is added.
const CHECK_SCHEMA: &str = "harness-check/1";

/// How far each metric may move from the baseline before it counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Tolerance {
    /// Drop of last-epoch accuracy, a fraction: 0.02 is two points.
    pub top1: f64,
    /// Rise of the test loss, relative.
    pub loss: f64,
    /// Change of the firing rate either way, relative.
    pub firing_rate: f64,
    /// Change of the accumulates either way, relative.
    pub synops: f64,
}

impl Default for Tolerance {
    fn default() -> Self {
        Self { top1: 0.02, loss: 0.1, firing_rate: 0.1, synops: 0.1 }
    }
}

impl Tolerance {
    /// Changes one tolerance by `name=value`, e.g. `top1=0.01`.
    pub fn set(&mut self, text: &str) -> Result<()> {
        let names = "top1, loss, firing_rate, synops";
        let Some((name, value)) = text.split_once('=') else {
            bail!("tolerance `{text}`: expected name=value, with a name of {names}");
        };
        let value: f64 = value.trim().parse().with_context(|| format!("tolerance `{text}`: `{value}` is no number"))?;
        if !(value >= 0.0 && value.is_finite()) {
            bail!("tolerance `{text}`: must be finite and not negative");
        }
        match name.trim() {
            "top1" => self.top1 = value,
            "loss" => self.loss = value,
            "firing_rate" => self.firing_rate = value,
            "synops" => self.synops = value,
            name => bail!("tolerance `{text}`: unknown metric `{name}`; known: {names}"),
        }
        Ok(())
    }
}

/// What the gate says to a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Everything was compared and nothing got worse.
    Pass,
    /// Something got worse. Wins over missing cells.
    Regression,
    /// A cell is missing from either side or failed, or nothing was measured.
    Missing,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "pass",
            Self::Regression => "regression",
            Self::Missing => "missing",
        })
    }
}

/// The gate's result: one case per method and T.
#[derive(Debug)]
pub struct Gate {
    /// The verdict.
    pub outcome: Outcome,
    /// Every comparison.
    pub cases: Vec<Case>,
    /// Sentences on the whole.
    pub notes: Vec<String>,
}

/// One method at one T.
#[derive(Debug, Serialize)]
pub struct Case {
    /// Data set, protocol, network, method and T.
    pub name: String,
    /// Seeds compared.
    pub pairs: usize,
    /// Every metric that both sides have.
    pub comparisons: Vec<Change>,
    /// The names of the metrics that got worse.
    pub regressions: Vec<&'static str>,
    /// Cells or metrics that could not be compared.
    pub gaps: Vec<String>,
}

/// How one metric moved from the baseline, as means over the seeds that both sides have. It displays as a sentence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// Column of `rows.csv`.
    pub metric: &'static str,
    /// Seeds with a value on both sides.
    pub seeds: usize,
    /// Mean of the baseline.
    pub baseline: f64,
    /// Mean of the folder.
    pub new: f64,
    /// Mean of new − baseline.
    pub difference: f64,
    /// The largest difference that does not count.
    pub allowed: f64,
    /// 95 % t interval of the difference; `None` for one seed, and where all moved equally.
    pub interval: Option<(f64, f64)>,
    /// Whether the metric got worse.
    pub regressed: bool,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seeds = match self.interval {
            Some((low, high)) => format!("95 % [{low:+.4}, {high:+.4}] over {} seeds", self.seeds),
            None if self.seeds == 1 => "one seed: the tolerance alone decides".into(),
            None => format!("{} seeds moved equally: the tolerance alone decides", self.seeds),
        };
        write!(
            f,
            "{}: {:.4} → {:.4} ({:+.4}, allowed {:.4}; {seeds})",
            self.metric, self.baseline, self.new, self.difference, self.allowed
        )
    }
}

/// Which way is worse.
#[derive(Clone, Copy)]
enum Worse {
    Lower,
    Higher,
    Either,
}

struct Metric {
    name: &'static str,
    of: fn(&Record) -> Option<f64>,
    worse: Worse,
    tolerance: f64,
    relative: bool,
}

fn metrics(tolerance: &Tolerance) -> [Metric; 7] {
    let metric = |name, of, worse, tolerance, relative| Metric { name, of, worse, tolerance, relative };
    [
        metric("top1_last", |row| row.top1_last, Worse::Lower, tolerance.top1, false),
        metric("loss_last", |row| row.loss_last, Worse::Higher, tolerance.loss, true),
        metric("firing_rate", |row| row.firing_rate, Worse::Either, tolerance.firing_rate, true),
        metric("synops_ac", |row| row.synops_ac, Worse::Either, tolerance.synops, true),
        metric("macs", |row| row.macs, Worse::Either, 0.0, false),
        metric("parameters", |row| row.parameters.map(|count| count as f64), Worse::Either, 0.0, false),
        metric("state_bytes", |row| row.state_bytes.map(|bytes| bytes as f64), Worse::Either, 0.0, false),
    ]
}

/// Holds a result folder against a baseline (a `rows.csv`, or a folder that has one).
///
/// A metric regresses when the mean over the common seeds moved the wrong way by more than its tolerance and, with two
/// seeds or more, the 95 % interval of the paired differences excludes zero. Cells that are missing from either side,
/// planned but not run, failed, or without a metric that the baseline has, are no pass; nor is an empty comparison.
pub fn check(dir: &Path, baseline: &Path, tolerance: &Tolerance) -> Result<Gate> {
    let expected = Rows::read(baseline)?;
    let found = Rows::read(dir)?;
    // A file of rows alone has no plan, so nothing in it can be known to be missing.
    let plan = if dir.is_dir() { Some(Results::load(dir)?) } else { None };
    let pairing::Pairing { groups, notes: more } = pairing::pair(&expected, &found, ["the baseline", "the folder"]);
    let mut notes: Vec<String> = [&expected.notes[..], &found.notes, &more].concat();
    let mut cases: Vec<Case> = groups.iter().map(|group| judge(group, tolerance)).collect();
    cases.extend(plan.as_ref().and_then(unrun));
    let compared = cases.iter().any(|case| !case.comparisons.is_empty());
    if !compared {
        notes.push("Nothing was measured on both sides, which is no pass.".into());
    }
    let outcome = match () {
        () if cases.iter().any(|case| !case.regressions.is_empty()) => Outcome::Regression,
        () if !compared || cases.iter().any(|case| !case.gaps.is_empty()) => Outcome::Missing,
        () => Outcome::Pass,
    };
    Ok(Gate { outcome, cases, notes })
}

/// Planned cells that have no row: as missing as those the baseline has.
fn unrun(results: &Results) -> Option<Case> {
    let planned = results.plan.iter().flat_map(|plan| &plan.cells);
    let gaps: Vec<String> = planned
        .filter(|cell| !results.by_id.contains_key(&cell.cell_id))
        .map(|cell| format!("{}: {}", cell.cell_id, cell.missing.as_deref().unwrap_or("planned, but not run")))
        .collect();
    let name = "planned cells".to_string();
    (!gaps.is_empty()).then_some(Case { name, pairs: 0, comparisons: Vec::new(), regressions: Vec::new(), gaps })
}

fn judge(group: &Group, tolerance: &Tolerance) -> Case {
    let mut case = Case {
        name: group.name.clone(),
        pairs: group.pairs.len(),
        comparisons: Vec::new(),
        regressions: Vec::new(),
        gaps: group.gaps.clone(),
    };
    for metric in metrics(tolerance) {
        let expected = group.pairs.iter().filter(|(baseline, _)| (metric.of)(baseline).is_some()).count();
        let both: Vec<(f64, f64)> = group
            .pairs
            .iter()
            .filter_map(|(baseline, new)| Some(((metric.of)(baseline)?, (metric.of)(new)?)))
            .collect();
        if both.len() < expected {
            case.gaps.push(format!("{}: measured in the baseline, blank in the folder", metric.name));
        }
        case.comparisons.extend(judge_metric(&metric, &both));
    }
    case.regressions = case.regressed().map(|change| change.metric).collect();
    case
}

fn judge_metric(metric: &Metric, both: &[(f64, f64)]) -> Option<Change> {
    let baseline = mean(&both.iter().map(|(baseline, _)| *baseline).collect::<Vec<_>>())?;
    let differences: Vec<f64> = both.iter().map(|(baseline, new)| new - baseline).collect();
    let difference = mean(&differences)?;
    let allowed = if metric.relative { metric.tolerance * baseline.abs() } else { metric.tolerance };
    let interval = t_interval(&differences, CONFIDENCE);
    let (lower, higher) = interval.unwrap_or((difference, difference));
    let fell = difference < -allowed && higher < 0.0;
    let rose = difference > allowed && lower > 0.0;
    // NaN compares false with everything: it must not pass for "within".
    let regressed = !difference.is_finite()
        || match metric.worse {
            Worse::Lower => fell,
            Worse::Higher => rose,
            Worse::Either => fell || rose,
        };
    Some(Change {
        metric: metric.name,
        seeds: both.len(),
        baseline,
        new: baseline + difference,
        difference,
        allowed,
        interval,
        regressed,
    })
}

impl Case {
    /// The metrics that got worse.
    fn regressed(&self) -> impl Iterator<Item = &Change> {
        self.comparisons.iter().filter(|change| change.regressed)
    }

    /// One sentence per metric that got worse.
    fn regression_sentences(&self) -> Vec<String> {
        self.regressed().map(Change::to_string).collect()
    }
}

/// The JSON form of a [`Gate`]; its fields are documented in results/README.md.
#[derive(Serialize)]
struct GateJson<'a> {
    schema: &'static str,
    outcome: Outcome,
    exit_code: u8,
    notes: &'a [String],
    cases: &'a [Case],
}

impl Gate {
    /// 0 pass, 10 regression, 11 missing.
    pub fn exit_code(&self) -> u8 {
        match self.outcome {
            Outcome::Pass => 0,
            Outcome::Regression => 10,
            Outcome::Missing => 11,
        }
    }

    /// One JSON object on one line, for scripts. A number that is not finite is `null`.
    ///
    /// # Errors
    /// None in practice: every key is a string.
    pub fn json(&self) -> Result<String> {
        let (outcome, exit_code) = (self.outcome, self.exit_code());
        let json = GateJson { schema: CHECK_SCHEMA, outcome, exit_code, notes: &self.notes, cases: &self.cases };
        Ok(serde_json::to_string(&json)?)
    }

    /// A summary for a job's page: regressions and gaps first, then every comparison.
    pub fn markdown(&self) -> String {
        let pairs: usize = self.cases.iter().map(|case| case.pairs).sum();
        let mut out = format!("## Gate: {}\n\n{pairs} cells compared with the baseline.\n", self.outcome);
        out.extend(self.notes.iter().map(|note| format!("\n> {}\n", markdown::escape(note))));
        let sentences = |of: fn(&Case) -> Vec<String>| {
            let cases = self.cases.iter().flat_map(move |case| of(case).into_iter().map(move |line| (case, line)));
            cases.map(|(case, line)| format!("- {}: {}\n", markdown::escape(&case.name), markdown::escape(&line)))
        };
        let worse = sentences(Case::regression_sentences).collect::<String>();
        let missing = sentences(|case| case.gaps.clone()).collect::<String>();
        for (title, list) in [("Worse", worse), ("Missing or failed", missing)] {
            if !list.is_empty() {
                let _ = write!(out, "\n### {title}\n\n{list}");
            }
        }
        out += "\n<details><summary>Every comparison</summary>\n\n";
        for case in &self.cases {
            let _ = writeln!(out, "- {}", markdown::escape(&case.name));
            out.extend(
                case.comparisons.iter().map(|change| format!("  - {}\n", markdown::escape(&change.to_string()))),
            );
        }
        out + "\n</details>\n"
    }

    /// JUnit XML: one test case a method and T.
    pub fn junit(&self) -> String {
        let bad = |case: &&Case| !case.regressions.is_empty() || !case.gaps.is_empty();
        // An empty comparison must fail in a job that reads this file alone.
        let empty = self.outcome == Outcome::Missing && !self.cases.iter().any(|case| bad(&case));
        let failures = self.cases.iter().filter(bad).count() + usize::from(empty);
        let tests = self.cases.len() + usize::from(empty);
        let mut out = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"harness check\" \
             tests=\"{tests}\" failures=\"{failures}\" errors=\"0\" skipped=\"0\">\n"
        );
        if empty {
            out += "<testcase classname=\"harness.check\" name=\"anything measured\"><failure type=\"missing\" \
                    message=\"nothing was measured on both sides\"/></testcase>\n";
        }
        for case in &self.cases {
            let _ = write!(out, "<testcase classname=\"harness.check\" name=\"{}\">", escape_xml(&case.name));
            for (kind, lines) in [("regression", &case.regression_sentences()), ("missing", &case.gaps)] {
                if !lines.is_empty() {
                    let message = escape_xml(&lines.join("; "));
                    let _ = write!(out, "<failure type=\"{kind}\" message=\"{message}\"/>");
                }
            }
            let lines: Vec<String> = case.comparisons.iter().map(Change::to_string).collect();
            let _ = writeln!(out, "<system-out>{}</system-out></testcase>", escape_xml(&lines.join("\n")));
        }
        out + "</testsuite>\n</testsuites>\n"
    }
}
