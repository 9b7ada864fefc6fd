//! What accuracy costs: training time, operations, energy, memory; accuracy of one model cut short; the inheritance
//! chains with their parents' cost counted.

use super::accuracy::axis_break;
use super::{Cell, Column, Row, Section, Table, cell_anchor, duration, left_out, panel_label, percent, points};
use crate::model::Model;
use crate::plot::{self, Axis, Break, Chart, Facet, Grid, Mark, Series, palette};
use crate::record::Record;
use crate::series::{ANN, Line, Panel, Point};
use crate::stats;
use crate::verdict::time_steps;

/// A cost: file name, axis label, and its value in a row (the results give the parents).
type Cost = (&'static str, &'static str, fn(&Model, &Record) -> Option<f64>);

/// The maximum number of panels of the cost figure …
const MAX_FACETS: usize = 12;
/// … and of the other two.
const MAX_SMALL: usize = 6;

const COSTS: [Cost; 4] = [
    ("seconds", "training s, with parents", |model, row| chain(model, row, |row| row.train_seconds)),
    ("synops", "synops per image, millions", |_, row| Some(row.synops_ac? / 1e6)),
    ("energy", "energy per image, µJ (45 nm model)", |_, row| Some(row.energy_picojoules? / 1e6)),
    ("memory", "peak memory, MB", |_, row| Some(row.peak_memory_bytes? as f64 / 1e6)),
];

/// A quantity of a cell and all its parents; `None` where one of them lacks it.
fn chain(model: &Model, row: &Record, of: impl Fn(&Record) -> Option<f64>) -> Option<f64> {
    let parents: Vec<&Record> = model.results.ancestors(row).collect();
    let complete = parents.last().unwrap_or(&row).parent_cell.is_none();
    parents
        .into_iter()
        .map(&of)
        .sum::<Option<f64>>()
        .filter(|_| complete)
        .zip(of(row))
        .map(|(before, own)| before + own)
}

pub(crate) fn section(model: &Model) -> Section {
    let mut section = Section::new("cost", "Cost to accuracy");
    section.text(
        "Each mark is a method at one T, a mean over seeds. The gray line is the Pareto front: no other mark is both \
         cheaper and at least as accurate. Costs are on a logarithmic axis. Energy is 4.6 pJ a multiply-accumulate and \
         0.9 pJ an accumulate (45 nm), operations only: memory traffic is not in the model.",
    );
    let (mut facets, mut below) = (Vec::new(), String::new());
    for panel in model.drawn() {
        let charts: Vec<Chart> = COSTS.iter().map(|cost| front_chart(model, panel, cost)).collect();
        // A cost that was not measured leaves a blank place, so that a column shows one cost.
        if charts.iter().any(|chart| !chart.series.is_empty()) {
            let heading = [panel_label(panel), String::new()];
            let facet = |chart| Facet { heading: heading.clone(), dataset: panel.dataset.clone(), chart };
            facets.extend(charts.into_iter().map(facet));
        }
        if axis_break(panel).is_some() {
            below = " Marks below the break of the accuracy plot are left out here.".into();
        }
    }
    let more = facets.len().saturating_sub(MAX_FACETS);
    facets.truncate(MAX_FACETS);
    let grid = Grid {
        title: "Accuracy against cost".into(),
        alt: format!("Accuracy against cost and the Pareto front in {} panels; rows.csv has the numbers", facets.len()),
        columns: facets.len().clamp(1, 4),
        facets,
        height: 160,
        left: 34,
        ..Grid::default()
    };
    let caption = format!("Accuracy against what it costs.{below}{}", left_out(more, "rows.csv"));
    section.grid("cost", caption, grid);
    anytime(model, &mut section);
    lineage(model, &mut section);
    section
}

fn front_chart(model: &Model, panel: &Panel, cost: &Cost) -> Chart {
    let mut series = Vec::new();
    let mut all: Vec<Mark> = Vec::new();
    let lowest = axis_break(panel).map_or(f64::NEG_INFINITY, Break::middle);
    for line in panel.lines.iter().filter(|line| line.method != ANN) {
        let mark = |point: &Point| {
            let value =
                stats::mean(&point.values(&model.results, |row| cost.2(model, row))).filter(|cost| *cost > 0.0)?;
            let (time, top1) = (point.time_steps?, percent(point.top1.mean));
            let title = format!("{}, T = {time}: {top1} % at {} {}", line.label(), plot::short(value), cost.1);
            let hollow = point.top1.n == 1;
            Some(Mark { x: value.log10(), y: 100.0 * point.top1.mean, hollow, title, ..Mark::default() })
        };
        let points: Vec<Mark> = line.points.iter().filter_map(mark).filter(|mark| mark.y >= lowest).collect();
        if !points.is_empty() {
            all.extend(points.iter().cloned());
            let (label, method, style) = (line.label(), line.method.clone(), model.style(&line.method));
            series.push(Series { label, method, style, points, marked: true, ..Series::default() });
        }
    }
    // A cost that all share tells nothing apart.
    if all.windows(2).all(|pair| (pair[0].x - pair[1].x).abs() < 1e-3) {
        series.clear();
    }
    if !series.is_empty() {
        let style = plot::Style { colour: palette::GRAY, ..plot::Style::default() };
        let points = front(&all).into_iter().map(|mark| Mark { title: String::new(), ..mark }).collect();
        series.insert(0, Series { label: "Pareto front".into(), style, points, joined: true, ..Series::default() });
    }
    Chart {
        title: format!("Accuracy against {}, {}", cost.1, panel.title()),
        alt: format!("{} marks of accuracy against {} and their Pareto front", all.len(), cost.1),
        x: Axis::log10(cost.1, all.iter().map(|mark| mark.x), plot::short),
        y: Axis::fit("top-1 accuracy, %", all.iter().map(|mark| mark.y), plot::short),
        series,
        height: 260,
        ..Chart::default()
    }
}

/// The marks that no other beats in both directions, by rising cost.
pub(crate) fn front(marks: &[Mark]) -> Vec<Mark> {
    let mut sorted: Vec<&Mark> = marks.iter().collect();
    sorted.sort_by(|a, b| a.x.total_cmp(&b.x).then(b.y.total_cmp(&a.y)));
    let mut front: Vec<Mark> = Vec::new();
    for mark in sorted {
        if front.last().is_none_or(|best| mark.y > best.y) {
            front.push(mark.clone());
        }
    }
    front
}

fn anytime(model: &Model, section: &mut Section) {
    let mut facets = Vec::new();
    for (p, panel) in model.drawn().enumerate() {
        let mut series = Vec::new();
        for (l, line) in panel.lines.iter().enumerate() {
            let Some((i, curve)) = (0..line.points.len()).rev().find_map(|i| Some((i, model.anytime.get(&(p, l, i))?)))
            else {
                continue;
            };
            let (trained, n) = (time_steps(line.points[i].time_steps), line.points[i].top1.n);
            let mark = |(t, mean): (&usize, &crate::model::Mean)| {
                let top1 = mean.get()?;
                let title =
                    format!("{}, trained at T = {trained}, stopped at t = {t}: {} %", line.label(), percent(top1));
                Some(Mark { x: *t as f64, y: 100.0 * top1, hollow: n == 1, title, ..Mark::default() })
            };
            let points: Vec<Mark> = curve.iter().filter_map(mark).collect();
            if !points.is_empty() {
                let (label, method, style) = (line.label(), line.method.clone(), model.style(&line.method));
                series.push(Series { label, method, style, points, joined: true, marked: true, ..Series::default() });
            }
        }
        let marks = || series.iter().flat_map(|series| &series.points);
        let most = marks().map(|mark| mark.x as usize).max().unwrap_or(1);
        let chart = Chart {
            title: format!("Anytime accuracy, {}", panel.title()),
            alt: format!("{} lines of accuracy over the time step at which one model is stopped", series.len()),
            x: Axis::whole("stopped after t", 1, most),
            y: Axis::fit("top-1 accuracy, %", marks().map(|mark| mark.y).collect::<Vec<_>>(), plot::short),
            series,
            height: 260,
            ..Chart::default()
        };
        if !chart.series.is_empty() {
            facets.push(Facet { heading: [panel_label(panel), String::new()], dataset: panel.dataset.clone(), chart });
        }
    }
    if !facets.is_empty() {
        section.text(
            "Anytime accuracy: one network, trained at one T, read out after the first t steps. This is not the accuracy of \
             networks trained at each T, which the first plot shows.",
        );
        let more = left_out(facets.len().saturating_sub(MAX_SMALL), "anytime.csv");
        let grid = row_of_charts("Anytime accuracy", "anytime.csv", facets);
        section.grid("anytime", format!("Each method's network of the largest T, stopped after t steps.{more}"), grid);
    }
}

/// Charts that share no axis, three in a row.
fn row_of_charts(title: &str, file: &str, mut facets: Vec<Facet>) -> Grid {
    facets.truncate(MAX_SMALL);
    let alt = format!("{title} in {} panels; {file} has the numbers", facets.len());
    let columns = facets.len().clamp(1, 3);
    Grid { title: title.into(), alt, columns, facets, height: 190, left: 34, ..Grid::default() }
}

fn lineage(model: &Model, section: &mut Section) {
    let with_parents: Vec<&Panel> = model
        .drawn()
        .filter(|panel| {
            let mut rows = panel.lines.iter().flat_map(|line| &line.points).flat_map(|point| &point.rows);
            rows.any(|&row| model.results.rows[row].parent_cell.is_some())
        })
        .collect();
    if with_parents.is_empty() {
        return;
    }
    section.text(
        "Lineage of time inheritance. A chain is drawn from its ANN (leftmost) through the first T to each smaller T, \
         placed by all epochs spent so far, its parents' included; dspike-equal-epochs spends as many from random \
         weights, one mark a T.",
    );
    let facet = |panel: &&Panel| {
        let chart = lineage_chart(model, panel);
        Facet { heading: [panel_label(panel), String::new()], dataset: panel.dataset.clone(), chart }
    };
    let grid = row_of_charts("Lineage", "the lineage table", with_parents.iter().map(facet).collect());
    section.grid("lineage", "Accuracy over epochs spent, parents included.", grid);
    section.table(lineage_table(model, &with_parents));
}

fn lineage_chart(model: &Model, panel: &Panel) -> Chart {
    let mut series: Vec<Series> = Vec::new();
    let mut stages: Vec<(f64, String)> = Vec::new();
    for line in panel.lines.iter().filter(|line| line.method != ANN) {
        let mut points: Vec<Mark> = Vec::new();
        let mut names: Vec<String> = Vec::new();
        for point in line.points.iter().rev() {
            let row = &model.results.rows[point.rows[0]];
            let before = model.results.inherited_epochs(row);
            if let Some(ann) = ann_of(model, point) {
                points.push(lineage_mark(&line.label(), "ANN", before, ann, point.top1.n == 1));
                names.push("ANN".into());
            }
            let time = format!("T = {}", time_steps(point.time_steps));
            points.push(lineage_mark(
                &line.label(),
                &time,
                before + row.epochs.unwrap_or(0),
                point.top1.mean,
                point.top1.n == 1,
            ));
            names.push(time);
        }
        let chained = points.windows(2).all(|pair| pair[0].x < pair[1].x) && points.len() > 1;
        if chained && stages.is_empty() {
            stages = points.iter().map(|mark| mark.x).zip(names).collect();
        }
        let (label, method, style) = (line.label(), line.method.clone(), model.style(&line.method));
        series.push(Series { label, method, style, points, joined: chained, marked: true, ..Series::default() });
    }
    let marks = || series.iter().flat_map(|series| &series.points);
    Chart {
        title: format!("Lineage, {}", panel.title()),
        alt: "Accuracy over all epochs spent, one chain a method; the lineage table has the numbers".into(),
        x: Axis::fit("epochs spent, parents included", marks().map(|mark| mark.x).collect::<Vec<_>>(), plot::short),
        y: Axis::fit("top-1 accuracy, %", marks().map(|mark| mark.y).collect::<Vec<_>>(), plot::short),
        series,
        marks: stages,
        ..Chart::default()
    }
}

/// Mean accuracy of the ANNs that the seeds of a point start from directly.
fn ann_of(model: &Model, point: &Point) -> Option<f64> {
    let parents = point.rows.iter().filter_map(|&row| model.results.ancestors(&model.results.rows[row]).next());
    let anns: Vec<f64> = parents.filter(|row| row.train_time_steps.is_none()).filter_map(|row| row.top1_last).collect();
    stats::mean(&anns)
}

fn lineage_mark(label: &str, stage: &str, epochs: usize, top1: f64, hollow: bool) -> Mark {
    let title = format!("{label}, {stage}: {} % after {epochs} epochs in all", percent(top1));
    Mark { x: epochs as f64, y: 100.0 * top1, hollow, title, ..Mark::default() }
}

/// One row a point that has parents or stands beside one that has.
fn lineage_table(model: &Model, panels: &[&Panel]) -> Table {
    let columns = vec![
        Column::text("data set"),
        Column::text("method"),
        Column::number("T"),
        Column::text("starts from"),
        Column::number("epochs"),
        Column::number("with parents").hint("epochs, all ancestors counted"),
        Column::number("training"),
        Column::number("with parents").hint("seconds, all ancestors counted"),
        Column::number("top-1 %"),
        Column::number("against equal epochs").hint("minus dspike-equal-epochs at this T, common seeds, in points"),
    ];
    let row = |panel: &Panel, line: &Line, point: &Point| {
        let first = &model.results.rows[point.rows[0]];
        let parent = first.parent_cell.as_deref();
        let mean = |of: &dyn Fn(&Record) -> Option<f64>| stats::mean(&point.values(&model.results, of));
        let control = panel.lines.iter().find(|line| line.method == "dspike-equal-epochs");
        let control =
            control.filter(|control| control.label() != line.label()).and_then(|line| line.at(point.time_steps));
        let against =
            control.and_then(|other| stats::mean(&point.differences(other, &model.results, |row| row.top1_last)));
        let cells = vec![
            Cell::text(&panel.name).of_panel(panel),
            Cell::text(line.label()),
            Cell::number(point.time_steps.map(|t| t as f64), |_| time_steps(point.time_steps)),
            match parent {
                Some(parent) => Cell::text(parent).link(cell_anchor(parent)),
                None => Cell::text("random weights"),
            },
            Cell::number(first.epochs.map(|epochs| epochs as f64), |epochs| epochs.to_string()),
            Cell::count(first.epochs.unwrap_or(0) + model.results.inherited_epochs(first)),
            Cell::number(mean(&|row| row.train_seconds), duration),
            Cell::number(mean(&|row| chain(model, row, |row| row.train_seconds)), duration),
            Cell::number(Some(point.top1.mean), percent).of_panel(panel),
            Cell::number(against.filter(|_| line.method != ANN), points),
        ];
        Row::of(&panel.dataset, &line.method, cells)
    };
    let lines = panels.iter().flat_map(|panel| panel.lines.iter().map(move |line| (*panel, line)));
    let rows = lines.flat_map(|(panel, line)| line.points.iter().rev().map(move |point| (panel, line, point)));
    let rows = rows.map(|(panel, line, point)| row(panel, line, point)).collect();
    Table { caption: "Lineage and its cost (parent of the lowest seed)".into(), columns, rows, collapsed: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_front_keeps_what_nothing_beats() {
        let mark = |x, y| Mark { x, y, ..Mark::default() };
        let marks =
            [mark(3.0, 90.0), mark(1.0, 80.0), mark(2.0, 95.0), mark(2.0, 70.0), mark(4.0, 96.0), mark(1.0, 79.0)];
        let front: Vec<_> = front(&marks).iter().map(|mark| (mark.x, mark.y)).collect();
        assert_eq!(front, [(1.0, 80.0), (2.0, 95.0), (4.0, 96.0)]);
    }
}
