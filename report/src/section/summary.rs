//! What was shown and what was not, in words.

use super::cells::gaps;
use super::comparison::told_apart;
use super::percent;
use crate::model::Model;
use crate::published::Certainty;
use crate::record::Status;
use crate::series::{ANN, Panel};
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

/// One sentence: the reference's range over T, and who is highest at each T.
fn of_panel(panel: &Panel) -> Option<String> {
    let simulated = if panel.simulated() { " (simulated)" } else { "" };
    let line = panel.reference().or_else(|| panel.lines.iter().find(|line| line.method != ANN))?;
    let number = |point: &crate::series::Point| {
        let deviation = point.top1.std.map_or_else(String::new, |std| format!(" ± {}", percent(std)));
        let time = point.time_steps?;
        Some(format!("{}{deviation} % at T = {time} (n = {})", percent(point.top1.mean), point.top1.n))
    };
    let numbers: Vec<String> = line.points.iter().rev().filter_map(number).collect();
    // Two panels of one data set differ in their protocol.
    let protocol = panel.protocol.split_once("; ").map_or_else(String::new, |(_, rest)| format!(" with {rest}"));
    let (dataset, label) = (&panel.dataset, line.label());
    let mut sentence = format!("On {dataset}{simulated}{protocol}, {label} reached {}.", listed(&numbers));
    if let Some(best) = highest(panel) {
        sentence += &best;
    }
    Some(sentence)
}

/// Who has the highest mean at each T, without calling it significant. Means that read the same share the place.
fn highest(panel: &Panel) -> Option<String> {
    let mut times: Vec<usize> =
        panel.lines.iter().flat_map(|line| &line.points).filter_map(|point| point.time_steps).collect();
    times.sort_unstable();
    times.dedup();
    let at = |time: &usize| {
        let means = || panel.lines.iter().filter_map(|line| Some((line, line.at(Some(*time))?.top1.mean)));
        let mean = percent(means().map(|(_, mean)| mean).max_by(f64::total_cmp)?);
        let first = means().filter(|(_, other)| percent(*other) == mean).map(|(line, _)| line.label());
        Some((*time, listed(&first.collect::<Vec<_>>()), mean))
    };
    let best: Vec<(usize, String, String)> = times.iter().rev().filter_map(at).collect();
    let several = panel.lines.iter().filter(|line| line.method != ANN).count() > 1;
    let (_, first, _) = best.first().filter(|_| several)?;
    if best.len() > 1 && best.iter().all(|(_, names, _)| names == first) {
        let has = if panel.lines.iter().any(|line| line.label() == *first) { "has" } else { "have" };
        return Some(format!(" {first} {has} the highest mean at every T."));
    }
    let named = |(time, names, mean): &(usize, String, String)| format!("{names} at T = {time} ({mean} %)");
    Some(format!(" The highest mean belongs to {}.", listed(&best.iter().map(named).collect::<Vec<_>>())))
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
