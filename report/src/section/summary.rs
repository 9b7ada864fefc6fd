//! What was shown and what was not, in words.

use super::cells::gaps;
use super::comparison::told_apart;
use super::{interval, percent};
use crate::model::Model;
use crate::published::Certainty;
use crate::record::Status;
use crate::series::{ANN, Line, Panel, Point};
use crate::verdict::Kind;

/// Sentences: what this folder shows, and what it does not.
pub(crate) struct Summary {
    pub shown: Vec<String>,
    pub not_shown: Vec<String>,
}

pub(crate) fn summary(model: &Model) -> Summary {
    let done = model.results.rows.iter().filter(|row| row.status == Status::Done).count();
    let mut shown = vec![match model.results.plan.as_ref().map(|plan| plan.cells.len()) {
        Some(planned) => format!("{done} of {planned} planned cells were finished."),
        None => format!("{done} cells were finished."),
    }];
    shown.extend(model.panels.iter().filter_map(of_panel));
    if let (told, tests @ 1..) = told_apart(model) {
        shown.push(format!(
            "Of {tests} paired differences to {}, {told} are told apart from chance (paired t test, Holm, 5 %).",
            model.results.reference()
        ));
    }
    shown.extend(verdicts(model));
    Summary { shown, not_shown: not_shown(model) }
}

/// The reference's means over T with n and interval, and which arm is highest among those with as many seeds.
fn of_panel(panel: &Panel) -> Option<String> {
    let simulated = if panel.simulated() { " (simulated)" } else { "" };
    let line = panel.reference().or_else(|| panel.lines.iter().find(|line| line.method != ANN))?;
    let number = |point: &Point| Some(format!("{} at T = {}", mean_with_n(point), point.time_steps?));
    let numbers: Vec<String> = line.points.iter().rev().filter_map(number).collect();
    let (dataset, label) = (&panel.name, line.label());
    let mut sentence = format!("On {dataset}{simulated}, {label} reached {}.", listed(&numbers));
    let mut times: Vec<usize> =
        panel.lines.iter().flat_map(|line| &line.points).filter_map(|point| point.time_steps).collect();
    times.sort_unstable();
    times.dedup();
    sentence.extend(times.into_iter().rev().filter_map(|time| highest(panel, time)));
    Some(sentence)
}

/// `97.37 % (n = 3, 95 % [96.1, 98.6])`, or `97.37 % (n = 1: no interval)`.
fn mean_with_n(point: &Point) -> String {
    let of = match point.top1.interval {
        Some(range) => format!("n = {}, 95 % {}", point.top1.n, interval(range)),
        None => format!("n = {}: no interval", point.top1.n),
    };
    format!("{} % ({of})", percent(point.top1.mean))
}

/// Which arm has the highest mean at a T, among the arms with the most seeds there. Arms with fewer seeds are not
/// ranked with them, single seeds not at all, and means that read the same share the place.
fn highest(panel: &Panel, time: usize) -> Option<String> {
    let spiking = panel.lines.iter().filter(|line| line.method != ANN);
    let points: Vec<(&Line, &Point)> = spiking.filter_map(|line| Some((line, line.at(Some(time))?))).collect();
    let n = points.iter().map(|(_, point)| point.top1.n).max()?;
    let ranked: Vec<&(&Line, &Point)> = points.iter().filter(|(_, point)| point.top1.n == n).collect();
    if n < 2 || ranked.len() < 2 {
        return None;
    }
    let mean = percent(ranked.iter().map(|(_, point)| point.top1.mean).max_by(f64::total_cmp)?);
    let first: Vec<_> = ranked.iter().filter(|(_, point)| percent(point.top1.mean) == mean).collect();
    let names: Vec<String> =
        first.iter().map(|(line, point)| format!("{} with {}", line.label(), mean_with_n(point))).collect();
    let left_out = points.len() - ranked.len();
    let rest = match left_out {
        0 => String::new(),
        1 => "; 1 arm with fewer seeds is not ranked".into(),
        _ => format!("; {left_out} arms with fewer seeds are not ranked"),
    };
    Some(format!(
        " Of the {} arms with n = {n} at T = {time}, the highest mean belongs to {}{rest}.",
        ranked.len(),
        listed(&names)
    ))
}

fn verdicts(model: &Model) -> Option<String> {
    let kinds: Vec<Kind> = model.verdicts.iter().map(|verdict| verdict.kind).collect();
    let count = |kind: Kind| kinds.iter().filter(|found| **found == kind).count();
    let judged = [Kind::Reproduced, Kind::Below, Kind::Above, Kind::Underpowered];
    let parts: Vec<String> =
        judged.iter().filter(|kind| count(**kind) > 0).map(|kind| format!("{} {kind}", count(*kind))).collect();
    (!parts.is_empty()).then(|| format!("Of the paper's {} numbers: {}.", kinds.len(), parts.join(", ")))
}

fn not_shown(model: &Model) -> Vec<String> {
    let mut not_shown = Vec::new();
    let published = &model.published;
    let open = model.verdicts.iter().filter(|verdict| !verdict.kind.is_judged()).count();
    if open == published.claims.len() {
        not_shown.push("None of the paper's own experiments ran here, so nothing is said about its numbers.".into());
    } else if open > 0 {
        not_shown.push(format!("{open} of the paper's {} numbers have no counterpart here.", published.claims.len()));
    }
    let points = || model.points().map(|(_, _, _, point)| point);
    let singles = points().filter(|point| point.top1.n == 1).count();
    if singles > 0 {
        not_shown.push(format!(
            "{singles} of {} means rest on one seed: they have no interval, and differences between them may be chance.",
            points().count()
        ));
    }
    if model.panels.iter().any(Panel::simulated) {
        not_shown.push(
            "Numbers marked \"simulated\" come from events computed from images, not recorded by a camera.".into(),
        );
    }
    let gaps = gaps(model);
    for (state, what) in [("failed", "failed"), ("diverged", "diverged (loss not finite)"), ("missing", "missing")] {
        let count = gaps.iter().filter(|gap| gap.state == state).count();
        if count > 0 {
            not_shown.push(format!("Cells {what}: {count}; the section on cells without a result says why."));
        }
    }
    let unverified = published.claims.iter().filter(|claim| claim.certainty == Certainty::Unverified).count();
    not_shown.extend(match (&published.note, unverified) {
        (Some(note), 0) => Some(format!("{note}.")),
        (Some(note), _) => Some(format!("{note}, and {unverified} are unverified.")),
        (None, 0) => None,
        (None, _) => Some(format!("{unverified} of the published numbers are unverified.")),
    });
    not_shown
}

/// `a`, `a and b`, `a, b and c`.
fn listed(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., last] => format!("{} and {last}", rest.join(", ")),
    }
}
