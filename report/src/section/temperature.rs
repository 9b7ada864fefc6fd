//! The temperature's path, and how well each candidate's gradient agreed with the finite-difference gradient.

use super::{Section, left_out, panel_label};
use crate::model::{Model, Place};
use crate::plot::{self, Axis, Chart, Facet, Grid, Mark, Series, Shape, Style, palette};
use crate::record::FdgPoint;
use crate::series::{Line, Panel};

pub(crate) fn section(model: &Model) -> Option<Section> {
    if model.fdg.is_empty() {
        return None;
    }
    let mut section = Section::new("temperature", "The temperature's path");
    section.text(
        "Before each epoch the first layer's surrogate gradient is taken at b, b + step and b − step on one batch and \
         held against the central finite difference; the highest cosine wins, a tie keeps b. Shown for the lowest \
         seed of each line; epochs are counted along the chain, its parents' included.",
    );
    let times = times(model);
    let (mut paths, mut candidates, mut more) = (Vec::new(), Vec::new(), 0);
    for (p, panel) in model.drawn().enumerate() {
        for (l, line) in panel.lines.iter().enumerate() {
            let stages = stages(model, (p, l), line);
            if stages.is_empty() {
                continue;
            }
            if paths.len() == MAX_FACETS {
                more += 1;
                continue;
            }
            let heading = [line.label(), panel_label(panel)];
            let facet = |chart| Facet { heading: heading.clone(), dataset: panel.dataset.clone(), chart };
            paths.push(facet(path(panel, line, &stages, &times)));
            candidates.push(facet(cosines(panel, line, &stages)));
        }
    }
    let more = left_out(more, "fdg.csv");
    let caption = format!("Temperature b chosen before each epoch.{more}");
    section.grid("temperature", caption, grid("Temperature over epochs", paths));
    let caption = format!("Cosine of every candidate; filled marks were chosen.{more}");
    section.grid("cosine", caption, grid("Cosine of every candidate temperature", candidates));
    Some(section)
}

fn grid(title: &str, facets: Vec<Facet>) -> Grid {
    let alt = format!("{title} in {} panels; fdg.csv has the numbers", facets.len());
    let columns = facets.len().clamp(1, 3);
    Grid { title: title.into(), alt, columns, facets, shared_y: true, height: 150, left: 34, ..Grid::default() }
}

/// Every T of a search, the largest first, so that a T looks the same in all panels.
fn times(model: &Model) -> Vec<usize> {
    let of = |(p, l, i): &Place| model.panels[*p].lines[*l].points[*i].time_steps;
    let mut times: Vec<usize> = model.fdg.keys().filter_map(of).collect();
    times.sort_unstable_by(|a, b| b.cmp(a));
    times.dedup();
    times
}

/// The maximum number of panels in one figure.
const MAX_FACETS: usize = 9;

/// A stage's search: T, epochs trained before it, and its rows.
type Stage<'a> = (usize, usize, &'a [FdgPoint]);

fn stages<'a>(model: &'a Model, (p, l): (usize, usize), line: &Line) -> Vec<Stage<'a>> {
    let mut stages: Vec<Stage> = Vec::new();
    for (i, point) in line.points.iter().enumerate().rev() {
        if let (Some(time), Some(rows)) = (point.time_steps, model.fdg.get(&(p, l, i))) {
            stages.push((time, model.results.inherited_epochs(&model.results.rows[point.rows[0]]), rows));
        }
    }
    stages
}

/// Where each stage begins, unless they all begin at one epoch (no chain).
fn begins(stages: &[Stage]) -> Vec<(f64, String)> {
    let first = |stage: &Stage| (stage.1 + stage.2.iter().map(|row| row.epoch).min().unwrap_or(0)) as f64;
    let chained = stages.windows(2).all(|pair| first(&pair[0]) < first(&pair[1]));
    let mark = |stage: &Stage| (first(stage), format!("T = {}", stage.0));
    if chained { stages.iter().map(mark).collect() } else { Vec::new() }
}

fn epochs(stages: &[Stage]) -> Axis {
    let epochs = stages.iter().flat_map(|(_, before, rows)| rows.iter().map(move |row| (before + row.epoch) as f64));
    Axis::fit("epoch of the chain", epochs.collect::<Vec<_>>(), plot::short)
}

fn path(panel: &Panel, line: &Line, stages: &[Stage], times: &[usize]) -> Chart {
    let most = (times.len().max(2) - 1) as f64;
    let series = |(time, before, rows): &Stage| {
        let rank = times.iter().position(|other| other == time).unwrap_or(0);
        let chosen = rows.iter().filter(|row| row.chosen).map(|row| Mark {
            x: (before + row.epoch) as f64,
            y: row.candidate,
            title: format!(
                "T = {time}, epoch {}: b = {}, cosine {:.4}",
                row.epoch,
                plot::short(row.candidate),
                row.cosine
            ),
            ..Mark::default()
        });
        Series {
            label: format!("T = {time}"),
            method: line.method.clone(),
            style: Style { colour: palette::ramp(rank as f64 / most), shape: SHAPES[rank % SHAPES.len()], dash: "" },
            points: chosen.collect(),
            joined: true,
            marked: rows.len() <= 3 * 40,
            ..Series::default()
        }
    };
    let series: Vec<Series> = stages.iter().map(series).collect();
    let values = series.iter().flat_map(|series| &series.points).map(|mark| mark.y).collect::<Vec<_>>();
    Chart {
        title: format!("Temperature of {} over epochs, {}", line.label(), panel.title()),
        alt: format!("The chosen temperature of {} over the epochs of {} stages", line.label(), stages.len()),
        x: epochs(stages),
        y: Axis::fit("temperature b", values, plot::short),
        series,
        marks: begins(stages),
        height: 240,
        ..Chart::default()
    }
}

const SHAPES: [Shape; 5] = [Shape::Circle, Shape::Square, Shape::Up, Shape::Down, Shape::Diamond];

/// One series a kind of candidate: kept, up, down.
fn cosines(panel: &Panel, line: &Line, stages: &[Stage]) -> Chart {
    let kinds = [("b − step", Shape::Down), ("b", Shape::Circle), ("b + step", Shape::Up)];
    let mut marks: [Vec<Mark>; 3] = Default::default();
    for (time, before, rows) in stages {
        let mut current = None;
        for candidates in rows.chunk_by(|a, b| a.epoch == b.epoch) {
            let kept = current.unwrap_or_else(|| middle(candidates));
            for row in candidates {
                let step = row.candidate - kept;
                let kind = if step.abs() < 1e-6 {
                    1
                } else if step < 0.0 {
                    0
                } else {
                    2
                };
                let (b, epoch) = (plot::short(row.candidate), row.epoch);
                marks[kind].push(Mark {
                    // Side by side: candidates often differ by less than a mark.
                    x: (before + row.epoch) as f64 + 0.25 * (kind as f64 - 1.0),
                    y: row.cosine,
                    hollow: !row.chosen,
                    title: format!(
                        "T = {time}, epoch {epoch}: b = {b}, cosine {:.4}, norm ratio {:.3}",
                        row.cosine, row.norm_ratio
                    ),
                    ..Mark::default()
                });
            }
            current = candidates.iter().find(|row| row.chosen).map(|row| row.candidate).or(Some(kept));
        }
    }
    let colours = [palette::style("rectangle", 0), palette::style("dspike", 0), palette::style("dspike-no-fdg-b3", 0)];
    let series = kinds.into_iter().zip(marks).zip(colours).map(|(((label, shape), points), style)| Series {
        label: label.into(),
        method: line.method.clone(),
        style: Style { shape, dash: "", ..style },
        points,
        marked: true,
        ..Series::default()
    });
    let mut series: Vec<Series> = series.collect();
    // Hundreds of epochs: small marks without their hover texts, or the file would grow with every epoch.
    if series.iter().map(|series| series.points.len()).sum::<usize>() > 400 {
        for series in &mut series {
            series.small = true;
            series.points.iter_mut().for_each(|mark| mark.title.clear());
        }
    }
    let values = series.iter().flat_map(|series| &series.points).map(|mark| mark.y).collect::<Vec<_>>();
    Chart {
        title: format!("Cosine of every candidate of {}, {}", line.label(), panel.title()),
        alt: format!("Cosine with the finite-difference gradient of every candidate temperature of {}", line.label()),
        x: epochs(stages),
        y: Axis::fit("cosine with FDG", values, plot::short),
        series,
        marks: begins(stages),
        height: 240,
        ..Chart::default()
    }
}

/// The temperature before the first epoch: the middle candidate of three, the lower of two (the floor cuts one off).
fn middle(candidates: &[FdgPoint]) -> f64 {
    let mut values: Vec<f64> = candidates.iter().map(|row| row.candidate).collect();
    values.sort_by(f64::total_cmp);
    values.get((values.len().max(1) - 1) / 2).copied().unwrap_or(0.0)
}
