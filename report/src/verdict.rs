//! Each cell of the paper's table beside what was measured, with a verdict by a stated test.

use std::fmt;

use crate::published::{Claim, Published};
use crate::record::{Record, Status};
use crate::results::Results;
use crate::series::{Panel, Point};
use crate::stats::{Band, Summary, band, detectable_difference};

/// The test, in words, for the report.
pub const TEST: &str = "The 90 % t interval of the measured last-epoch mean (two one-sided tests at 5 %) is held \
against a band around the published number. Wholly inside: reproduced. Wholly outside: below or above. Otherwise the \
seeds cannot tell: underpowered, with the smallest difference they would show four times in five. A cell under another \
protocol, network, width or number of epochs is another experiment and is not held against the number at all.";

/// What can be said of one published number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Nothing of this data set is here.
    NotRun,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reproduced => "reproduced",
            Self::Below => "below",
            Self::Above => "above",
            Self::Underpowered => "underpowered",
            Self::ProtocolDiffers => "protocol differs",
            Self::NotRun => "not run",
        })
    }
}

/// A published number's verdict.
#[derive(Debug)]
pub struct Verdict {
    /// The verdict.
    pub kind: Kind,
    /// Why.
    pub reason: String,
    /// What was measured in the same experiment.
    pub measured: Option<Summary>,
    /// A cell of it: that of the lowest seed.
    pub cell_id: Option<String>,
}

/// Whether a panel is the published experiment of a claim.
pub(crate) fn same_experiment(claim: &Claim, panel: &Panel, published: &Published) -> bool {
    let setting = published.setting(&claim.dataset);
    panel.dataset == claim.dataset
        && panel.architecture == claim.architecture
        && panel.width == Some(claim.width)
        && setting.is_some_and(|setting| setting.is_protocol(&panel.protocol_id))
}

/// Judges one claim.
pub fn judge(claim: &Claim, published: &Published, panels: &[Panel], results: &Results) -> Verdict {
    let of_claim = |panel: &&Panel| same_experiment(claim, panel, published);
    let points =
        panels.iter().filter(of_claim).flat_map(|panel| &panel.lines).filter(|line| line.method == claim.method);
    let points: Vec<&Point> = points.filter_map(|line| line.at(Some(claim.time_steps))).collect();
    let epochs = |point: &&&Point| results.rows[point.rows[0]].epochs;
    match points.iter().find(|point| claim.epochs.is_none_or(|wanted| epochs(point) == Some(wanted))) {
        Some(point) => judge_point(claim, published, point, results),
        None => match points.first() {
            Some(point) => {
                let (is, wanted) = (epochs(&point).unwrap_or_default(), claim.epochs.unwrap_or_default());
                without(Kind::ProtocolDiffers, format!("trained for {is} epochs, the paper for {wanted}"))
            }
            None => unmeasured(claim, published, panels, results),
        },
    }
}

fn judge_point(claim: &Claim, published: &Published, point: &Point, results: &Results) -> Verdict {
    let half_width = published.setting(&claim.dataset).map_or(0.01, |setting| setting.band);
    let values = point.values(results, |row| row.top1_last);
    let (n, percent) = (point.top1.n, 100.0 * half_width);
    let (kind, reason) = match band(&values, claim.top1, half_width) {
        Band::Within => (Kind::Reproduced, format!("90 % interval of {n} seeds within ±{percent:.1} points")),
        Band::Below => (Kind::Below, format!("90 % interval of {n} seeds wholly below −{percent:.1} points")),
        Band::Above => (Kind::Above, format!("90 % interval of {n} seeds wholly above +{percent:.1} points")),
        Band::Undecided => match point.top1.std.and_then(|std| detectable_difference(n, std)) {
            Some(least) => (
                Kind::Underpowered,
                format!("{n} seeds show differences of {:.2} points or more; the band is ±{percent:.1}", 100.0 * least),
            ),
            None => (Kind::Underpowered, "one seed has no spread: no difference can be told from chance".into()),
        },
    };
    let cell_id = Some(results.rows[point.rows[0]].cell_id.clone());
    Verdict { kind, reason, measured: Some(point.top1.clone()), cell_id }
}

fn without(kind: Kind, reason: String) -> Verdict {
    Verdict { kind, reason, measured: None, cell_id: None }
}

/// The claim's cell was not finished here; says what was.
fn unmeasured(claim: &Claim, published: &Published, panels: &[Panel], results: &Results) -> Verdict {
    let alike = |row: &&Record| {
        row.dataset == claim.dataset && row.method == claim.method && row.train_time_steps == Some(claim.time_steps)
    };
    let failed =
        results.rows.iter().filter(alike).find(|row| row.status != Status::Done && row.width == Some(claim.width));
    if let Some(row) = failed {
        let reason = row.error.as_deref().unwrap_or("no reason was recorded");
        return without(Kind::NotRun, format!("the cell {}: {reason}", status(row.status)));
    }
    let other = panels.iter().find(|panel| panel.dataset == claim.dataset && !same_experiment(claim, panel, published));
    if let Some(panel) = other {
        let here = format!("{}, {}", panel.protocol_id.replace(';', "; "), panel.network());
        return without(Kind::ProtocolDiffers, format!("only run here as {here}"));
    }
    let planned = results.plan.iter().flat_map(|plan| &plan.cells).find(|cell| {
        cell.dataset == claim.dataset && cell.method == claim.method && cell.time_steps == Some(claim.time_steps)
    });
    match planned {
        Some(cell) => without(Kind::NotRun, cell.missing.clone().unwrap_or_else(|| "planned, not finished yet".into())),
        None => without(Kind::NotRun, "this suite has no such cell".into()),
    }
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
