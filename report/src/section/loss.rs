//! Loss over epochs, one chart a panel and T.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{Figure, Section};
use crate::model::{Mean, Model, Place};
use crate::plot::{self, Axis, Chart, Mark, Series};
use crate::series::Panel;
use crate::verdict::time_steps;

/// Points of a line at most; longer curves are thinned evenly, their last point kept.
const POINTS: usize = 150;

pub(crate) fn section(model: &Model) -> Result<Option<Section>> {
    if model.curves.is_empty() {
        return Ok(None);
    }
    let mut section = Section::new("loss", "Loss curves");
    section.text(
        "Mean over seeds, each stage counted from its own first epoch (later stages of a chain start from their \
         parent's weights). Left training loss, with augmentation; right test loss, without.",
    );
    let mut figures = Vec::new();
    for (index, panel) in model.drawn().enumerate() {
        let times: BTreeSet<_> =
            panel.lines.iter().flat_map(|line| &line.points).map(|point| point.time_steps).collect();
        for time in times.into_iter().rev() {
            for (name, of) in [("train", train as fn(&(Mean, Mean)) -> Option<f64>), ("test", test)] {
                let chart = chart(model, index, panel, time, name, of);
                if chart.series.is_empty() {
                    continue;
                }
                let stage = time.map_or_else(|| "ann".into(), |time| format!("t{time}"));
                let title = time.map_or_else(|| "the ANN".into(), |_| format!("T = {}", time_steps(time)));
                let caption = format!("{}: {name}ing loss, {title}.", panel.title()).replace("testing", "test");
                figures.push(Figure::of_panel(panel, &format!("loss-{name}-{stage}"), caption, &chart)?);
            }
        }
    }
    section.figures(figures);
    Ok(Some(section))
}

fn train(losses: &(Mean, Mean)) -> Option<f64> {
    losses.0.get()
}

fn test(losses: &(Mean, Mean)) -> Option<f64> {
    losses.1.get()
}

fn chart(
    model: &Model,
    index: usize,
    panel: &Panel,
    time: Option<usize>,
    name: &str,
    of: fn(&(Mean, Mean)) -> Option<f64>,
) -> Chart {
    let line = |(l, line): (usize, &crate::series::Line)| {
        let point = line.points.iter().position(|point| point.time_steps == time)?;
        let place: Place = (index, l, point);
        let curve = model.curves.get(&place)?;
        let points: Vec<Mark> = curve
            .iter()
            .filter_map(|(epoch, losses)| Some(Mark { x: *epoch as f64, y: of(losses)?, ..Mark::default() }))
            .collect();
        let label = line.label();
        let style = model.style(&line.method);
        let series = Series { label, method: line.method.clone(), style, points: thinned(points), ..Series::default() };
        // A single epoch makes no line: show it as a mark.
        let marked = series.points.len() == 1;
        (!series.points.is_empty()).then_some(Series { joined: true, marked, ..series })
    };
    let series: Vec<Series> = panel.lines.iter().enumerate().filter_map(line).collect();
    let marks = || series.iter().flat_map(|series| &series.points);
    let most = marks().map(|mark| mark.x as usize).max().unwrap_or(1);
    let least = marks().map(|mark| mark.x as usize).min().unwrap_or(0);
    let mut x = Axis::fit("epoch of this stage", marks().map(|mark| mark.x).collect::<Vec<_>>(), plot::short);
    if most - least <= 20 {
        x = Axis::whole("epoch of this stage", least, most);
    }
    let y = Axis::fit(
        if name == "train" { "training loss" } else { "test loss" },
        marks().map(|mark| mark.y).collect::<Vec<_>>(),
        plot::short,
    );
    Chart {
        title: format!("{name} loss, {}", panel.title()),
        alt: format!("{} lines of {name} loss over epochs {least} to {most}", series.len()),
        x,
        y,
        series,
        height: 230,
        ..Chart::default()
    }
}

/// At most [`POINTS`] marks, the first and the last among them.
pub(crate) fn thinned(points: Vec<Mark>) -> Vec<Mark> {
    let last = points.len().saturating_sub(1);
    let step = points.len().div_ceil(POINTS).max(1);
    points
        .into_iter()
        .enumerate()
        .filter(|(index, _)| index % step == 0 || *index == last)
        .map(|(_, mark)| mark)
        .collect()
}
