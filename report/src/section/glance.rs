//! "At a glance": the questions that a reader brings, each with its answer in words, on top of the report.

use std::collections::BTreeSet;

use super::comparison::{Pair, pairs};
use super::{Cell, Column, Row, Table, interval, panel_label};
use crate::model::Model;
use crate::series::ANN;
use crate::stats::Paired;
use crate::verdict::{Kind, time_steps};

/// The maximum number of rows.
const MAX_ROWS: usize = 12;
/// A difference is called one if its p value, corrected by Holm over all comparisons, is below this.
const SIGNIFICANCE: f64 = 0.05;

/// The table; `None` if no cell was finished.
pub(crate) fn glance(model: &Model) -> Option<Table> {
    if model.panels.is_empty() {
        return None;
    }
    // One question per arm at its largest and at its smallest T: "is it better than the reference there?"
    let mut questions: Vec<Pair> = pairs(model).into_iter().filter(at_end).collect();
    // Arms with several seeds first: about the others nothing can be said. The largest T of an arm comes first, and the
    // plan's order otherwise.
    questions.sort_by_key(|question| (question.paired.n == 1, std::cmp::Reverse(question.point.time_steps)));
    let total = questions.len();
    questions.truncate(MAX_ROWS - 2);
    let caption = match total - questions.len() {
        0 => "Questions and answers".to_string(),
        more => format!("Questions and answers; {more} more comparisons are in \"Methods against the reference\""),
    };
    let mut rows = vec![compared(model)];
    rows.extend(questions.iter().map(row));
    rows.push(published(model));
    let columns = vec![
        Column::text("question"),
        Column::text("answer"),
        Column::number("n").hint("pairs of seeds; for the first row finished cells"),
        Column::number("interval").hint("95 % t interval of the paired difference, in points of top-1"),
        Column::text("evidence"),
    ];
    Some(Table { caption, columns, rows, collapsed: false })
}

/// Which arms were compared, on which data sets, at which T.
fn compared(model: &Model) -> Row {
    let mut arms: Vec<&str> = Vec::new();
    for line in model.panels.iter().flat_map(|panel| &panel.lines) {
        if !arms.contains(&line.method.as_str()) {
            arms.push(&line.method);
        }
    }
    let reference = model.results.reference();
    arms.sort_by_key(|arm| (*arm != reference, *arm == ANN));
    let times: BTreeSet<usize> = model.points().filter_map(|(_, _, _, point)| point.time_steps).collect();
    let times: Vec<String> = times.iter().map(usize::to_string).collect();
    let mut data: Vec<String> = model.panels.iter().map(panel_label).collect();
    data.dedup();
    let cells: usize = model.points().map(|(_, _, _, point)| point.rows.len()).sum();
    let answer = format!("{} on {}; T = {}", listed(&arms), listed(&data), listed(&times));
    let cells = vec![
        Cell::text("Which arms were compared, on what?"),
        Cell::text(answer),
        Cell::count(cells),
        Cell::text("–"),
        Cell::text("accuracy").link("accuracy"),
    ];
    Row::of("", "", cells)
}

/// The first few names, and how many more there are.
fn listed<T: AsRef<str>>(names: &[T]) -> String {
    const SHOWN: usize = 10;
    let shown: Vec<&str> = names.iter().take(SHOWN).map(AsRef::as_ref).collect();
    let more = names.len().saturating_sub(SHOWN);
    if more > 0 { format!("{} and {more} more", shown.join(", ")) } else { shown.join(", ") }
}

fn at_end(pair: &Pair) -> bool {
    let times = || pair.line.points.iter().map(|point| point.time_steps);
    [times().min(), times().max()].contains(&Some(pair.point.time_steps))
}

fn row(question: &Pair) -> Row {
    let Pair { panel, line, reference, point, paired, corrected, .. } = question;
    let reference = reference.label();
    let time = time_steps(point.time_steps);
    let text = format!("{}: is {} better than {reference} at T = {time}?", panel_label(panel), line.label());
    let (answer, class) = answer(paired, *corrected);
    let cells = vec![
        Cell::text(text),
        Cell::text(answer).class(class),
        Cell::count(paired.n),
        Cell::number(paired.interval.map(|(low, _)| low), |_| paired.interval.map(interval).unwrap_or_default()),
        Cell::text("comparison").link("comparison"),
    ];
    Row::of(&panel.dataset, &line.method, cells)
}

/// The answer in words, and the colour of a verdict.
fn answer(paired: &Paired, corrected: Option<f64>) -> (String, &'static str) {
    let points = |fraction: f64| format!("{:.2} points", 100.0 * fraction.abs());
    let direction = if paired.difference < 0.0 { "lower" } else { "higher" };
    if paired.n == 1 {
        return ("one seed: nothing can be said".into(), "open");
    }
    let Some((low, high)) = paired.interval else {
        // All differences are equal: no spread, which says nothing about the next seed.
        let equal = paired.difference == 0.0;
        let size = if equal { "equal".into() } else { format!("{direction} by {}", points(paired.difference)) };
        return (format!("{size} in every pair: no test"), "open");
    };
    let outside = low > 0.0 || high < 0.0;
    let size = points(paired.difference);
    match corrected {
        Some(p) if p < SIGNIFICANCE => {
            let class = if direction == "lower" { "bad" } else { "good" };
            (format!("{}: {direction} by {size}", if direction == "lower" { "no" } else { "yes" }), class)
        }
        Some(_) if outside => (format!("{direction} by {size}, but not after Holm's correction"), "open"),
        _ => (format!("no difference larger than {} (95 %)", points(low.abs().max(high.abs()))), "open"),
    }
}

/// How many published numbers were judged, and how.
fn published(model: &Model) -> Row {
    let claims = &model.published.claims;
    let kinds: Vec<Kind> = model.verdicts.iter().map(|verdict| verdict.kind).filter(|kind| kind.is_judged()).collect();
    let mut names: Vec<String> = kinds.iter().map(Kind::to_string).collect();
    names.sort();
    let counts: Vec<String> = names.chunk_by(|a, b| a == b).map(|same| format!("{} {}", same.len(), same[0])).collect();
    let answer = match counts.as_slice() {
        [] => format!("0 of {} published numbers judged: none of these experiments ran here", claims.len()),
        counts => format!("{} of {} published numbers judged: {}", kinds.len(), claims.len(), counts.join(", ")),
    };
    let cells = vec![
        Cell::text("Are the paper's numbers reproduced?"),
        Cell::text(answer),
        Cell::text("–"),
        Cell::text("–"),
        Cell::text("published").link("published"),
    ];
    Row::of("", "", cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stats;

    fn words(differences: &[f64], corrected: Option<f64>) -> String {
        let paired = stats::paired(differences).unwrap_or_else(|| panic!("no pairs"));
        answer(&paired, corrected).0
    }

    #[test]
    fn answers_are_in_words() {
        assert_eq!(words(&[0.01], None), "one seed: nothing can be said");
        // Mean 0, standard deviation 1 point, t(0.975, 2) = 4.3027: the interval is ±4.3027/√3 = ±2.48 points.
        assert_eq!(words(&[-0.01, 0.0, 0.01], Some(1.0)), "no difference larger than 2.48 points (95 %)");
        assert_eq!(words(&[-0.2, -0.21, -0.22], Some(0.01)), "no: lower by 21.00 points");
        assert_eq!(words(&[0.2, 0.21, 0.22], Some(0.01)), "yes: higher by 21.00 points");
        assert_eq!(words(&[0.2, 0.21, 0.22], Some(0.2)), "higher by 21.00 points, but not after Holm's correction");
        assert_eq!(words(&[-0.01, -0.01], None), "lower by 1.00 points in every pair: no test");
        assert_eq!(words(&[0.0, 0.0], None), "equal in every pair: no test");
    }
}
