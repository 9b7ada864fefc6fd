//! The deviation ledger.

use super::{Cell, Column, Row, Section, Table, points};
use crate::model::Model;
use crate::series::Panel;
use crate::stats;

pub(crate) fn section(model: &Model) -> Section {
    let mut section = Section::new("deviations", "Deviations from the paper");
    section.text(
        "What the paper leaves open, or what is done otherwise here. The effect is the mean paired difference of the two \
         named arms over common seeds and all T of this folder, in points of top-1; \"not measured\" means that no two \
         arms here isolate the choice.",
    );
    if let Some(path) = &model.ledger_from {
        section.text(format!("The ledger was read from {}, which replaces the built-in one.", path.display()));
    }
    if let Some(plan) = model.results.plan.as_ref().filter(|plan| !plan.deviations.is_empty()) {
        section.text("Of this suite alone:");
        section.blocks.push(super::Block::List(plan.deviations.clone()));
    }
    let columns = vec![
        Column::text("choice"),
        Column::text("the paper"),
        Column::text("here"),
        Column::text("why"),
        Column::text("measured effect"),
    ];
    let row = |deviation: &crate::deviations::Deviation| {
        let effect = deviation.arms.as_ref().and_then(|[a, b]| effect(model, a, b));
        let cells = vec![
            Cell::text(&deviation.topic),
            Cell::text(&deviation.paper),
            Cell::text(&deviation.ours),
            Cell::text(&deviation.why),
            Cell::text(effect.unwrap_or_else(|| "not measured".into())),
        ];
        Row::of("", "", cells)
    };
    let rows = model.ledger.iter().map(row).collect();
    section.table(Table { caption: "Deviation ledger".into(), columns, rows, collapsed: false });
    section
}

/// `sign-digits: +0.52 [−0.1, 1.2] (dspike − dspike-no-tit, 6 pairs)`, one clause a panel that has both arms.
fn effect(model: &Model, a: &str, b: &str) -> Option<String> {
    let of_panel = |panel: &Panel| {
        let line = |method: &str| panel.lines.iter().find(|line| line.method == method);
        let (first, second) = (line(a)?, line(b)?);
        let pairs = first.points.iter().filter_map(|point| Some((point, second.at(point.time_steps)?)));
        let differences: Vec<f64> =
            pairs.flat_map(|(x, y)| x.differences(y, &model.results, |row| row.top1_last)).collect();
        let n = differences.len();
        let mean = points(stats::mean(&differences)?);
        let simulated = if panel.simulated() { " (simulated)" } else { "" };
        let pairs = if n == 1 { "1 pair, no interval".into() } else { format!("{n} pairs of T and seed") };
        Some(format!("{}{simulated}: {mean} points ({a} − {b}, {pairs})", panel.dataset))
    };
    let clauses: Vec<String> = model.panels.iter().filter_map(of_panel).collect();
    (!clauses.is_empty()).then(|| clauses.join("; "))
}
