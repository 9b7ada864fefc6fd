//! Methods against the reference over common seeds, robust means, and what choosing an epoch on the test set brings.

use anyhow::Result;

use super::{Block, Cell, Column, Row, Section, Table, cell_anchor, interval, percent, points};
use crate::image_error::{self, OverImages, interval_cell};
use crate::model::Model;
use crate::record::Record;
use crate::series::{ANN, Line, Panel, Point};
use crate::stats::{self, Paired};
use crate::verdict::time_steps;

/// A method compared with the reference at one T.
pub(crate) struct Pair<'a> {
    pub panel: &'a Panel,
    pub line: &'a Line,
    /// What it is compared with.
    pub reference: &'a Line,
    pub point: &'a Point,
    pub paired: Paired,
    /// Holm-corrected over the whole table.
    pub corrected: Option<f64>,
    /// The error of the difference over test images, where the cells kept their predictions.
    images: Option<OverImages>,
}

pub(crate) fn section(model: &Model) -> Result<Section> {
    let mut section = Section::new("comparison", "Methods against the reference");
    let (mut pairs, reference) = (pairs(model), model.results.reference());
    let problems = add_errors_over_images(model, &mut pairs)?;
    if pairs.is_empty() {
        section.text(format!(
            "No method shares a T and a seed with the reference arm {reference}, so nothing is compared."
        ));
    } else {
        let tests = pairs.iter().filter(|pair| pair.paired.p.is_some()).count();
        section.text(format!(
            "Differences to {reference} at the same T, paired by seed (equal seeds share their data order). Paired t test, \
             two-sided; Holm's correction runs over the whole table ({tests} tests). The effect size is the mean \
             difference over its standard deviation (d_z), corrected for small samples. One pair has neither interval nor \
             test.",
        ));
    }
    if pairs.iter().any(|pair| pair.images.is_some()) {
        section.text(
            "Two errors. The 95 % interval and p cover the choice of seeds; the interval over images covers the choice of \
             the test images, from the predictions that the cells kept. More seeds narrow the first only, a larger test \
             set the second only. McNemar's test holds for one pair of trained networks.",
        );
    }
    if !problems.is_empty() {
        section.blocks.push(Block::List(problems));
    }
    section.table(pair_table(model, &pairs));
    section.table(robust_table(model));
    section.text(
        "Selection bias. The headline is the last epoch. Choosing the best epoch on the test set, as code of the lineage \
         does, would add the points below. Where training samples were held out, the epoch that they choose is honest: \
         its test accuracy stands beside both.",
    );
    section.table(bias_table(model));
    Ok(section)
}

/// How many differences to the reference are told apart from chance, of how many that were tested.
pub(crate) fn told_apart(model: &Model) -> (usize, usize) {
    let corrected: Vec<f64> = pairs(model).iter().filter_map(|pair| pair.corrected).collect();
    (corrected.iter().filter(|p| **p < 0.05).count(), corrected.len())
}

/// Every arm at every T that shares a seed with the reference, which is one line: other recipes of its method are
/// compared with it too.
pub(crate) fn pairs(model: &Model) -> Vec<Pair<'_>> {
    let mut pairs = Vec::new();
    for panel in &model.panels {
        for line in panel.lines.iter().filter(|line| line.method != ANN) {
            let Some(reference) = panel.reference_for(line, &model.results) else { continue };
            for point in &line.points {
                let other = reference.at(point.time_steps);
                let differences = other.map(|other| point.differences(other, &model.results, |row| row.top1_last));
                if let Some(paired) = differences.and_then(|differences| stats::paired(&differences)) {
                    pairs.push(Pair { panel, line, reference, point, paired, corrected: None, images: None });
                }
            }
        }
    }
    let tested: Vec<usize> = (0..pairs.len()).filter(|&index| pairs[index].paired.p.is_some()).collect();
    let p: Vec<f64> = tested.iter().filter_map(|&index| pairs[index].paired.p).collect();
    for (index, corrected) in tested.into_iter().zip(stats::holm(&p)) {
        pairs[index].corrected = Some(corrected);
    }
    pairs
}

/// Reads the predictions of every pair. Returns a sentence per pair whose predictions cannot be used.
fn add_errors_over_images(model: &Model, pairs: &mut [Pair]) -> Result<Vec<String>> {
    let results = &model.results;
    let read = |row: &Record| results.predictions(row);
    let mut problems = Vec::new();
    for pair in pairs {
        let reference = pair.reference.at(pair.point.time_steps);
        let Some(reference) = reference else { continue };
        let rows = pair.point.common_rows(reference, results);
        match image_error::over_images(&rows, [&read, &read])? {
            Some(Ok(images)) => pair.images = Some(images),
            Some(Err(problem)) => problems.push(format!(
                "{}, {}, T = {}: the error over test images is left out: {problem}.",
                pair.panel.name,
                pair.line.label(),
                time_steps(pair.point.time_steps)
            )),
            None => {}
        }
    }
    Ok(problems)
}

fn pair_table(model: &Model, pairs: &[Pair]) -> Table {
    let images = pairs.iter().any(|pair| pair.images.is_some());
    let mut columns = vec![
        Column::text("data set"),
        Column::text("method"),
        Column::number("T"),
        Column::number("pairs"),
        Column::number("difference").hint("method minus reference, in points of top-1"),
        Column::number("95 % interval").hint("paired t interval, in points"),
        Column::number("p"),
        Column::number("p, Holm").hint("corrected over all tests of this table"),
        Column::number("effect").hint("d_z with the small-sample correction; needs three pairs"),
    ];
    columns.extend(images.then(image_error::columns).into_iter().flatten());
    columns.push(Column::text("reading"));
    let rows = pairs.iter().map(|pair| {
        let paired = &pair.paired;
        let mut cells = vec![
            Cell::text(&pair.panel.name).of_panel(pair.panel),
            Cell::text(pair.panel.compared_label(pair.line, pair.reference)),
            Cell::number(pair.point.time_steps.map(|t| t as f64), |_| time_steps(pair.point.time_steps)),
            Cell::count(paired.n),
            Cell::number(Some(paired.difference), points)
                .of_panel(pair.panel)
                .link(cell_anchor(&model.results.rows[pair.point.rows[0]].cell_id)),
            interval_cell(paired.interval),
            Cell::number(paired.p, p_value),
            Cell::number(pair.corrected, p_value),
            Cell::number(paired.effect, |effect| format!("{effect:+.2}").replace('-', "−")),
        ];
        cells.extend(images.then(|| image_error::cells(pair.images.as_ref())).into_iter().flatten());
        cells.push(reading(pair));
        Row::of(&pair.panel.dataset, &pair.line.method, cells)
    });
    let caption = format!("Paired differences to {}", model.results.reference());
    Table { caption, columns, rows: rows.collect(), collapsed: false }
}

fn reading(pair: &Pair) -> Cell {
    match pair.corrected {
        Some(p) if p < 0.05 && pair.paired.difference < 0.0 => Cell::text("lower").class("bad"),
        Some(p) if p < 0.05 => Cell::text("higher").class("good"),
        Some(_) => Cell::text("not told apart").class("open"),
        None if pair.paired.n == 1 => Cell::text("one pair: no test").class("open"),
        None => Cell::text("equal differences: no test").class("open"),
    }
}

pub(crate) fn p_value(p: f64) -> String {
    if p < 0.0001 { "<0.0001".into() } else { format!("{p:.4}") }
}

/// Interquartile mean and bootstrap interval, where five seeds or more make sense of them.
fn robust_table(model: &Model) -> Table {
    let columns = vec![
        Column::text("data set"),
        Column::text("method"),
        Column::number("T"),
        Column::number("n"),
        Column::number("mean %"),
        Column::number("IQM %").hint("interquartile mean: the middle half of the seeds"),
        Column::number("bootstrap 95 %").hint("percentile bootstrap of the mean, 10,000 resamples from a fixed seed"),
    ];
    let rows = model.points().filter(|(.., point)| point.top1.n >= 5).map(|(_, panel, line, point)| {
        let values = point.values(&model.results, |row| row.top1_last);
        let bootstrap = stats::bootstrap_interval(&values);
        let cells = vec![
            Cell::text(&panel.name).of_panel(panel),
            Cell::text(line.label()),
            Cell::number(point.time_steps.map(|t| t as f64), |_| time_steps(point.time_steps)),
            Cell::count(point.top1.n),
            Cell::number(Some(point.top1.mean), percent).of_panel(panel),
            Cell::number(stats::interquartile_mean(&values), percent),
            Cell::number(bootstrap.map(|(low, _)| low), |_| bootstrap.map(interval).unwrap_or_default()),
        ];
        Row::of(&panel.dataset, &line.method, cells)
    });
    Table { caption: "Robust means (five seeds or more)".into(), columns, rows: rows.collect(), collapsed: true }
}

/// What choosing an epoch on the test set would add, for each arm: arms are unlike, so no mean runs over them.
fn bias_table(model: &Model) -> Table {
    let columns = vec![
        Column::text("data set"),
        Column::text("method"),
        Column::number("cells").hint("over all T and seeds of the arm"),
        Column::number("last %"),
        Column::number("best on test %"),
        Column::number("bias").hint("best-on-test minus last, in points"),
        Column::text("held-out choice %").hint("test accuracy of the epoch that held-out training samples choose"),
    ];
    let row = |(panel, line): (&Panel, &Line)| {
        let rows = line.points.iter().flat_map(|point| &point.rows);
        let rows: Vec<_> = rows.map(|&index| &model.results.rows[index]).collect();
        let held_out = stats::mean(&rows.iter().filter_map(|row| row.top1_held_out).collect::<Vec<_>>());
        let both: Vec<(f64, f64)> = rows.iter().filter_map(|row| row.top1_last.zip(row.top1_best)).collect();
        let last = stats::mean(&both.iter().map(|(last, _)| *last).collect::<Vec<_>>());
        let best = stats::mean(&both.iter().map(|(_, best)| *best).collect::<Vec<_>>());
        let cells = vec![
            Cell::text(&panel.name).of_panel(panel),
            Cell::text(line.label()),
            Cell::count(both.len()),
            Cell::number(last, percent).of_panel(panel),
            Cell::number(best, percent),
            Cell::number(best.zip(last).map(|(best, last)| best - last), points),
            Cell::text(held_out.map_or("not measured".into(), percent)),
        ];
        (!both.is_empty()).then(|| Row::of(&panel.dataset, &line.method, cells))
    };
    let lines = model.panels.iter().flat_map(|panel| panel.lines.iter().map(move |line| (panel, line)));
    let rows = lines.filter_map(row).collect();
    Table { caption: "Selection bias per arm, mean over its cells".into(), columns, rows, collapsed: true }
}
