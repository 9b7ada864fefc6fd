//! Accuracy against the number of time steps, and the table of results.

use anyhow::Result;

use super::{Block, Cell, Column, Figure, Row, Section, Table, cell_anchor, duration, percent, points};
use crate::image_error::{self, interval_cell};
use crate::model::Model;
use crate::plot::{self, Axis, Break, Chart, Mark, Series, Shape, Style, palette};
use crate::published::{Certainty, Claim};
use crate::series::{ANN, Line, Panel, Point};
use crate::stats;
use crate::verdict::{meets, time_steps};

pub(crate) fn section(model: &Model) -> Result<Section> {
    let mut section = Section::new("accuracy", "Accuracy and time steps");
    section.text(
        "Test accuracy after the last epoch, one network trained for each T. Marks are means over seeds and bars are the \
         95 % t interval of the mean, cut off at 0 and 100 %. A hollow mark is a single seed, which has no interval. Marks \
         stand side by side where they share a T. The axis is broken at the highest gap between neighbouring means that is \
         wider than 10 points and than three times the range of the means above it, if two means or more lie above.",
    );
    let figures = model.drawn().map(|panel| {
        let caption = format!("{}. {}{}", panel.title(), seeds_of(panel), below_break(panel));
        Figure::of_panel(panel, "accuracy", caption, &chart(model, panel))
    });
    section.figures(figures.collect::<Result<_>>()?);
    let undrawn = model.panels.len() - model.drawn().count();
    if undrawn > 0 {
        section.text(format!(
            "Plots of {undrawn} further data sets, protocols or networks are left out to keep this page light; the tables \
             have their numbers. Render a folder with fewer of them to see their plots."
        ));
    }
    let errors: Vec<String> = model.panels.iter().filter_map(|panel| two_errors(model, panel)).collect();
    if !errors.is_empty() {
        section.blocks.push(Block::List(errors));
    }
    section.table(table(model));
    Ok(section)
}

fn seeds_of(panel: &Panel) -> String {
    let counts = || panel.lines.iter().flat_map(|line| &line.points).map(|point| point.rows.len());
    match (counts().min().unwrap_or(0), counts().max().unwrap_or(0)) {
        (1, 1) => "One seed: no interval.".into(),
        (least, most) if least == most => format!("{most} seeds."),
        (least, most) => format!("{least} to {most} seeds."),
    }
}

/// Where the accuracy axis of a panel breaks, by the means of its spiking arms.
pub(crate) fn axis_break(panel: &Panel) -> Option<Break> {
    let lines = panel.lines.iter().filter(|line| line.method != ANN);
    let means: Vec<f64> = lines.flat_map(|line| &line.points).map(|point| 100.0 * point.top1.mean).collect();
    plot::split(&means)
}

/// Percentage points that the lower panel of a broken axis shows at least.
const MIN_BELOW: f64 = 20.0;

/// The arms that have a mean below the break, as a sentence; empty if the axis is whole.
pub(crate) fn below_break(panel: &Panel) -> String {
    let Some(broken) = axis_break(panel) else { return String::new() };
    let below = |line: &&Line| line.points.iter().any(|point| 100.0 * point.top1.mean < broken.middle());
    let names: Vec<String> = panel.lines.iter().filter(below).map(Line::label).collect();
    format!(" Arms below the break: {}.", names.join(", "))
}

/// The ends of an interval of fractions in percent, within 0 and 100.
fn clipped((low, high): (f64, f64)) -> (f64, f64) {
    ((100.0 * low).clamp(0.0, 100.0), (100.0 * high).clamp(0.0, 100.0))
}

/// Accuracy in percent over T: one line a method, the ANN as a level, the paper's points where the panel is the
/// paper's experiment.
pub(crate) fn chart(model: &Model, panel: &Panel) -> Chart {
    let snn: Vec<&Line> = panel.lines.iter().filter(|line| line.method != ANN).collect();
    let claims: Vec<&Claim> =
        model.published.claims.iter().filter(|claim| meets(claim, panel, &model.published, &model.results)).collect();
    let times = snn.iter().flat_map(|line| &line.points).filter_map(|point| point.time_steps);
    let times: Vec<usize> = times.chain(claims.iter().map(|claim| claim.time_steps)).collect();
    let (low, high) = (times.iter().min().copied().unwrap_or(1), times.iter().max().copied().unwrap_or(1));
    let x = Axis::whole("time steps T", low, high);

    let mut series: Vec<Series> = Vec::new();
    for line in panel.lines.iter().filter(|line| line.method == ANN) {
        series.extend(line.points.iter().map(|point| ann_level(model, line, point, x.range)));
    }
    for (place, line) in snn.iter().enumerate() {
        // Beside each other, not over each other: within ±0.2 of their T.
        let shift = (place as f64 - (snn.len() as f64 - 1.0) / 2.0) * (0.4 / snn.len().max(1) as f64).min(0.08);
        series.push(measured(model, panel, line, shift));
    }
    series.extend(published(&model.published.name, &claims));
    let (y, below) = accuracy_axes(&series, axis_break(panel));
    Chart {
        title: format!("Accuracy over time steps, {}", panel.title()),
        alt: format!(
            "{} lines of top-1 accuracy over T = {low} to {high} on {}; the table has the numbers",
            snn.len(),
            panel.title()
        ),
        x,
        y,
        below,
        series,
        ..Chart::default()
    }
}

/// The y axis, and that of the lower panel if the axis is broken. An interval that reaches into the gap is cut at the
/// middle of it.
fn accuracy_axes(series: &[Series], broken: Option<Break>) -> (Axis, Option<Axis>) {
    let label = "top-1 accuracy, %";
    let fit = |label: &str, low: f64, high: f64| {
        let marks = series.iter().flat_map(|series| &series.points).filter(|mark| mark.y >= low && mark.y < high);
        let ends = |mark: &Mark| {
            let (first, last) = mark.spread.unwrap_or((mark.y, mark.y));
            [first.max(low), mark.y, last.min(high)]
        };
        Axis::fit(label, marks.flat_map(ends).collect::<Vec<_>>(), plot::short)
    };
    match broken {
        None => (fit(label, f64::NEG_INFINITY, f64::INFINITY), None),
        Some(broken) => {
            let middle = broken.middle();
            let mut above = fit(label, middle, f64::INFINITY);
            let mut below = fit("", f64::NEG_INFINITY, middle);
            // A scale much finer than that of the main panel would mislead.
            if below.range.1 - below.range.0 < MIN_BELOW {
                let centre = (below.range.0 + below.range.1) / 2.0;
                below = Axis::fit("", [centre - MIN_BELOW / 2.0, centre + MIN_BELOW / 2.0], plot::short);
            }
            above.range.0 = above.range.0.max(middle);
            below.range.1 = below.range.1.min(middle);
            above.ticks.retain(|(tick, _)| *tick >= above.range.0);
            below.ticks.retain(|(tick, _)| *tick <= below.range.1);
            // The lower panel is narrow: every other tick is enough.
            if below.ticks.len() > 3 {
                below.ticks = below.ticks.into_iter().step_by(2).collect();
            }
            (above, Some(below))
        }
    }
}

fn measured(model: &Model, panel: &Panel, line: &Line, shift: f64) -> Series {
    let simulated = if panel.simulated() { ", simulated" } else { "" };
    let mark = |point: &Point| {
        let (n, mean) = (point.top1.n, percent(point.top1.mean));
        let spread = point.top1.interval.map(clipped);
        let ends = spread.map_or_else(String::new, |(low, high)| format!(", 95 % interval [{low:.2}, {high:.2}]"));
        Some(Mark {
            x: point.time_steps? as f64 + shift,
            y: 100.0 * point.top1.mean,
            spread,
            hollow: n == 1,
            title: format!("{}, T = {}: {mean} %{ends} (n = {n}{simulated})", line.label(), point.time_steps?),
            ..Mark::default()
        })
    };
    Series {
        label: line.label(),
        method: line.method.clone(),
        style: model.style(&line.method),
        points: line.points.iter().filter_map(mark).collect(),
        joined: true,
        marked: true,
        ..Series::default()
    }
}

fn ann_level(model: &Model, line: &Line, point: &Point, (low, high): (f64, f64)) -> Series {
    let y = 100.0 * point.top1.mean;
    let title = format!("{}: {} % (n = {}, no time steps)", line.label(), percent(point.top1.mean), point.top1.n);
    let ends = [low, high].map(|x| Mark { x, y, title: title.clone(), ..Mark::default() });
    Series {
        label: format!("{} (ReLU, no T)", line.label()),
        method: line.method.clone(),
        style: model.style(ANN),
        points: ends.to_vec(),
        joined: true,
        ..Series::default()
    }
}

/// Published points: diamonds with a dashed outline, the unverified ones in a series of their own.
pub(crate) fn published(name: &str, claims: &[&Claim]) -> Vec<Series> {
    let of = |certainties: &[Certainty], how: &str, colour| {
        let mark = |claim: &&Claim| Mark {
            x: claim.time_steps as f64,
            y: 100.0 * claim.top1,
            hollow: true,
            dashed: true,
            title: format!(
                "published, {}: {}, T = {}: {} % ({})",
                claim.certainty,
                claim.network,
                claim.time_steps,
                percent(claim.top1),
                claim.source
            ),
            ..Mark::default()
        };
        let chosen = claims.iter().filter(|claim| certainties.contains(&claim.certainty));
        let points: Vec<Mark> = chosen.map(mark).collect();
        (!points.is_empty()).then(|| Series {
            label: format!("published {name}, {how}"),
            style: Style { colour, shape: Shape::Diamond, dash: "" },
            points,
            marked: true,
            ..Series::default()
        })
    };
    let quoted = of(&[Certainty::Quoted, Certainty::QuotedWeak], "as quoted", palette::INK);
    let unverified = of(&[Certainty::Unverified], "UNVERIFIED", palette::GRAY);
    [quoted, unverified].into_iter().flatten().collect()
}

/// One row a point: everything measured, means over seeds.
fn table(model: &Model) -> Table {
    let columns = vec![
        Column::text("data set"),
        Column::text("method"),
        Column::number("T").hint("time steps at training and test; – for the ANN"),
        Column::number("n").hint("seeds; leads to their cells"),
        Column::number("top-1 %").hint("test accuracy after the last epoch, mean ± sample standard deviation"),
        Column::number("95 % interval")
            .hint("over seeds: t interval of the mean; for one seed: Wilson's, over test images"),
        Column::number("image error")
            .hint("standard error of one accuracy from the choice of test images alone, in points"),
        Column::number("best %").hint("best epoch chosen on the test set: flatters"),
        Column::number("bias").hint("selection bias: best-on-test minus last epoch, in points"),
        Column::number("firing %").hint("spikes per neuron and time step"),
        Column::number("synops").hint("accumulates that spikes cause, per image over all time steps, millions"),
        Column::number("energy µJ").hint("per image: 4.6 pJ a MAC, 0.9 pJ an accumulate (45 nm)"),
        Column::number("state kB").hint("membrane potentials kept between time steps, per image, f32"),
        Column::number("training").hint("seconds of this stage, parents not counted"),
    ];
    let rows = model.points().map(|(_, panel, line, point)| row(model, panel, line, point)).collect();
    Table { caption: "Results, means over seeds".into(), columns, rows, collapsed: false }
}

fn row(model: &Model, panel: &Panel, line: &Line, point: &Point) -> Row {
    let results = &model.results;
    let mean = |metric: fn(&crate::record::Record) -> Option<f64>| stats::mean(&point.values(results, metric));
    let first = cell_anchor(&results.rows[point.rows[0]].cell_id);
    let deviation = point.top1.std.map_or_else(String::new, |std| format!(" ± {}", percent(std)));
    let best = mean(|row| row.top1_best);
    let cells = vec![
        Cell::text(&panel.name).of_panel(panel),
        Cell::text(line.label()),
        Cell::number(point.time_steps.map(|t| t as f64), |_| time_steps(point.time_steps)),
        Cell::count(point.top1.n).link(&first),
        Cell::number(Some(point.top1.mean), |mean| format!("{}{deviation}", percent(mean))).of_panel(panel).link(first),
        top1_interval(model, point),
        Cell::number(image_error(model, point), percent),
        Cell::number(best, percent),
        Cell::number(mean(|row| Some(row.top1_best? - row.top1_last?)), points),
        Cell::number(mean(|row| row.firing_rate), percent),
        Cell::number(mean(|row| row.synops_ac), |synops| format!("{:.2}", synops / 1e6)),
        Cell::number(mean(|row| row.energy_picojoules), |energy| format!("{:.2}", energy / 1e6)),
        Cell::number(mean(|row| Some(row.state_bytes? as f64)), |bytes| format!("{:.1}", bytes / 1e3)),
        Cell::number(mean(|row| row.train_seconds), duration),
    ];
    Row::of(&panel.dataset, &line.method, cells)
}

/// The interval of a mean over seeds, or of a single accuracy over test images, which then says so.
fn top1_interval(model: &Model, point: &Point) -> Cell {
    match (point.top1.interval, point.rows.as_slice()) {
        (Some(_), _) => interval_cell(point.top1.interval),
        (None, &[row]) => match image_error::single(&model.results.rows[row]) {
            Some(range) => interval_cell(Some(range)).tag("images"),
            None => interval_cell(None),
        },
        _ => interval_cell(None),
    }
}

/// Standard error of one accuracy over the choice of test images, √(p(1 − p)/N), as a fraction; `None` if the number of
/// test images is not recorded.
fn image_error(model: &Model, point: &Point) -> Option<f64> {
    let images = model.results.rows[*point.rows.first()?].test_samples.filter(|&images| images > 0)?;
    let p = point.top1.mean;
    Some((p * (1.0 - p) / images as f64).sqrt())
}

/// How the error from the choice of test images compares with the spread over seeds, in a sentence per panel.
fn two_errors(model: &Model, panel: &Panel) -> Option<String> {
    let line = panel.reference()?;
    let point = line.points.iter().max_by_key(|point| (point.top1.n, point.time_steps))?;
    let images = model.results.rows[*point.rows.first()?].test_samples?;
    let error = image_error(model, point)?;
    let of_seeds = match point.top1.std {
        Some(std) => {
            let dominant = stats::dominant(Some(std), Some(error)).map_or_else(String::new, |found| found.to_string());
            format!("the standard deviation over {} seeds is {} points; larger: {dominant}", point.top1.n, percent(std))
        }
        None => "one seed shows no spread over seeds".into(),
    };
    Some(format!(
        "{}: one accuracy of {} at T = {} has a standard error of {} points from the choice of its {images} test images; \
         {of_seeds}.",
        panel.name,
        line.label(),
        time_steps(point.time_steps),
        percent(error)
    ))
}
