//! Each cell of the paper's table beside what was measured, with a verdict by a stated test.

use std::cmp::Reverse;
use std::fmt;

use serde::Serialize;

use crate::matching::{Difference, differences, is_verified, same_data_and_network};
use crate::published::{Claim, Content, Published};
use crate::record::{Record, Status};
use crate::results::Results;
use crate::series::{Line, Panel, Point};
use crate::stats::{Band, Summary, band, detectable_difference};

/// The test, in words, for the report.
pub const TEST: &str = "The 90 % t interval of the measured last-epoch mean (two one-sided tests at 5 %) is held \
against a band around the published number. Wholly inside: reproduced. Wholly outside: below or above. Otherwise the \
seeds cannot tell: underpowered, with the smallest difference they would show four times in five. A cell is held \
against the number only if it is the published experiment in every part that the paper states (surrogate, network, \
recipe, the whole official data), whatever its method is called. Otherwise the protocol differs, or the run is of toy \
scale if it is only smaller.";

/// What can be said of one published number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Within the band.
    Reproduced,
    /// Below it.
    Below,
    /// Above it.
    Above,
    /// Too few or too scattered seeds.
    Underpowered,
    /// Only cells of another experiment on this data set are here.
    ProtocolDiffers,
    /// The nearest cells here differ in nothing but their scale, which is smaller.
    ToyScale,
    /// Nothing of this data set is here at this T.
    NotRun,
}

impl Kind {
    /// Whether a measured mean was held against the published number.
    pub fn is_judged(self) -> bool {
        matches!(self, Self::Reproduced | Self::Below | Self::Above | Self::Underpowered)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reproduced => "reproduced",
            Self::Below => "below",
            Self::Above => "above",
            Self::Underpowered => "underpowered",
            Self::ProtocolDiffers => "protocol differs",
            Self::ToyScale => "toy scale",
            Self::NotRun => "not run",
        })
    }
}

/// A published number's verdict.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The verdict.
    pub kind: Kind,
    /// Why.
    pub reason: String,
    /// What was measured in the same experiment; `None` without a judgement.
    pub measured: Option<Summary>,
    /// In what the nearest experiment here is another one.
    pub differences: Vec<Difference>,
    /// Places in [`Results::rows`]: the seeds of the judged experiment, else of the nearest one; by ascending seed.
    pub rows: Vec<usize>,
}

/// An experiment on a claim's data set, at its T.
struct Candidate<'a> {
    line: &'a Line,
    point: &'a Point,
    differences: Vec<Difference>,
}

/// Whether the published number of a claim may stand in a panel: something ran there on its data and network.
pub(crate) fn meets(claim: &Claim, panel: &Panel, published: &Published, results: &Results) -> bool {
    let mut rows = panel.lines.iter().flat_map(|line| &line.points).flat_map(|point| &point.rows);
    panel.dataset == claim.dataset && rows.any(|&row| same_data_and_network(claim, published, &results.rows[row]))
}

/// Judges one claim.
pub(crate) fn judge(claim: &Claim, published: &Published, panels: &[Panel], results: &Results) -> Verdict {
    let candidates = candidates(claim, published, panels, results);
    let mut exact: Vec<&Candidate> = candidates.iter().filter(|candidate| candidate.differences.is_empty()).collect();
    // By the number of seeds and the order of the run, never by the outcome.
    exact.sort_by_key(|candidate| Reverse(candidate.point.top1.n));
    if let Some((first, others)) = exact.split_first() {
        return judge_point(claim, published, first, others, results);
    }
    let failed = || results.rows.iter().filter(|row| is_unfinished(claim, row));
    let was_exact = |row: &&Record| {
        let differing = differences(claim, published, row, results);
        // A failed cell counts no samples.
        differing.iter().all(|one| one.here.is_null() && one.column.ends_with("_samples"))
    };
    let nearest =
        candidates.iter().min_by_key(|candidate| (candidate.differences.len(), Reverse(candidate.point.top1.n)));
    match (failed().find(was_exact), nearest) {
        (Some(row), _) => failure(row),
        (None, Some(nearest)) => differing(nearest),
        (None, None) => failed().next().map_or_else(|| not_planned(claim, results), failure),
    }
}

fn candidates<'a>(claim: &Claim, published: &Published, panels: &'a [Panel], results: &Results) -> Vec<Candidate<'a>> {
    let lines = panels.iter().filter(|panel| panel.dataset == claim.dataset).flat_map(|panel| &panel.lines);
    let candidate = |line: &'a Line| {
        let point = line.at(Some(claim.time_steps))?;
        let mut list: Vec<Difference> = Vec::new();
        for difference in point.rows.iter().flat_map(|&row| differences(claim, published, &results.rows[row], results))
        {
            if !list.contains(&difference) {
                list.push(difference);
            }
        }
        Some(Candidate { line, point, differences: list })
    };
    lines.filter_map(candidate).collect()
}

fn judge_point(
    claim: &Claim,
    published: &Published,
    candidate: &Candidate,
    others: &[&Candidate],
    results: &Results,
) -> Verdict {
    let (point, setting) = (candidate.point, published.setting(&claim.dataset));
    let half_width = setting.map_or(0.0, |setting| setting.band);
    let values = point.values(results, |row| row.top1_last);
    let (n, percent) = (point.top1.n, 100.0 * half_width);
    let (kind, mut reason) = match band(&values, claim.top1, half_width) {
        Band::Within => (Kind::Reproduced, format!("90 % interval of {n} seeds within ±{percent:.1} points")),
        Band::Below => (Kind::Below, format!("90 % interval of {n} seeds wholly below −{percent:.1} points")),
        Band::Above => (Kind::Above, format!("90 % interval of {n} seeds wholly above +{percent:.1} points")),
        Band::Undecided => match point.top1.std.and_then(|std| detectable_difference(n, std)) {
            Some(least) => (
                Kind::Underpowered,
                format!("{n} seeds show differences of {:.2} points or more; the band is ±{percent:.1}", 100.0 * least),
            ),
            None if n == 1 => {
                (Kind::Underpowered, "one seed has no spread: no difference can be told from chance".into())
            }
            None => {
                (Kind::Underpowered, format!("{n} equal values have no spread: no difference can be told from chance"))
            }
        },
    };
    let by_counts = setting.is_some_and(|setting| setting.content == Content::Counts);
    if by_counts && !point.rows.iter().all(|&row| is_verified(&results.rows[row].protocol_id)) {
        reason += "; content not verified, counts equal";
    }
    if !others.is_empty() {
        let names: Vec<String> = others.iter().map(|other| other.line.label()).collect();
        let (own, names) = (candidate.line.label(), names.join(", "));
        reason += &format!("; judged is {own}, and in all that the paper states {names} is the same experiment");
    }
    Verdict { kind, reason, measured: Some(point.top1.clone()), differences: Vec::new(), rows: point.rows.clone() }
}

fn differing(nearest: &Candidate) -> Verdict {
    let list = &nearest.differences;
    let kind = if list.iter().all(Difference::is_smaller) { Kind::ToyScale } else { Kind::ProtocolDiffers };
    let parts: Vec<String> = list.iter().map(Difference::to_string).collect();
    let reason = format!("nearest here is {}: {}", nearest.line.label(), parts.join("; "));
    Verdict { kind, reason, measured: None, differences: list.clone(), rows: nearest.point.rows.clone() }
}

fn is_unfinished(claim: &Claim, row: &Record) -> bool {
    row.status != Status::Done && row.dataset == claim.dataset && row.train_time_steps == Some(claim.time_steps)
}

fn failure(row: &Record) -> Verdict {
    let reason = row.error.as_deref().unwrap_or("no reason was recorded");
    not_run(format!("the cell {}: {reason}", status(row.status)))
}

fn not_run(reason: String) -> Verdict {
    Verdict { kind: Kind::NotRun, reason, measured: None, differences: Vec::new(), rows: Vec::new() }
}

/// Nothing ran on the claim's data set at its T; says whether it was to.
fn not_planned(claim: &Claim, results: &Results) -> Verdict {
    let of_claim = |dataset: &str, time_steps| dataset == claim.dataset && time_steps == Some(claim.time_steps);
    let mut planned = results.plan.iter().flat_map(|plan| &plan.cells);
    let planned = planned.find(|cell| of_claim(&cell.dataset, cell.time_steps));
    not_run(match planned {
        Some(cell) => cell.missing.clone().unwrap_or_else(|| "planned, not finished yet".into()),
        None if results.rows.iter().any(|row| row.dataset == claim.dataset) => {
            format!("no cell here has T = {} on this data set", claim.time_steps)
        }
        None => "no cell here is on this data set".into(),
    })
}

pub(crate) fn status(status: Status) -> &'static str {
    match status {
        Status::Done => "done",
        Status::Failed => "failed",
        Status::Diverged => "diverged",
    }
}

/// `4`, or `–` for the ANN.
pub(crate) fn time_steps(time_steps: Option<usize>) -> String {
    time_steps.map_or_else(|| "–".into(), |time_steps| time_steps.to_string())
}
