//! Loss over epochs, one panel per data set, T and kind of loss.

use super::{Section, left_out, panel_label};
use crate::model::{Mean, Model, Place};
use crate::plot::{self, Axis, Chart, Facet, Grid, Mark, Series};
use crate::series::Panel;
use crate::verdict::time_steps;

/// Points of a line at most; longer curves are thinned evenly, their last point kept.
const POINTS: usize = 60;
/// The maximum number of panels in the figure.
const MAX_FACETS: usize = 16;

pub(crate) fn section(model: &Model) -> Option<Section> {
    if model.curves.is_empty() {
        return None;
    }
    let mut section = Section::new("loss", "Loss curves");
    section.text(
        "Mean over seeds, each stage counted from its own first epoch (later stages of a chain start from their \
         parent's weights). The training loss is with augmentation, the test loss without. Drawn are the largest and \
         the smallest T of each data set, and the ANN.",
    );
    let (mut facets, mut more) = (Vec::new(), 0);
    for (index, panel) in model.drawn().enumerate() {
        let mut times: Vec<Option<usize>> =
            panel.lines.iter().flat_map(|line| &line.points).map(|point| point.time_steps).collect();
        times.sort_unstable_by(|a, b| b.cmp(a));
        times.dedup();
        let spiking = times.iter().filter(|time| time.is_some()).count();
        more += 2 * spiking.saturating_sub(2);
        let ends = times.iter().enumerate().filter(|(k, time)| *k == 0 || *k + 1 == spiking || time.is_none());
        for time in ends.map(|(_, time)| *time) {
            for (name, of) in [("train", train as fn(&(Mean, Mean)) -> Option<f64>), ("test", test)] {
                let chart = chart(model, index, panel, time, name, of);
                if chart.series.is_empty() {
                    continue;
                }
                let title = time.map_or_else(|| "ANN".into(), |_| format!("T = {}", time_steps(time)));
                let kind = if name == "train" { "training" } else { "test" };
                let heading = [format!("{kind}, {title}"), panel_label(panel)];
                facets.push(Facet { heading, dataset: panel.dataset.clone(), chart });
            }
        }
    }
    more += facets.len().saturating_sub(MAX_FACETS);
    facets.truncate(MAX_FACETS);
    let grid = Grid {
        title: "Loss over epochs".into(),
        alt: format!("Training and test loss over epochs in {} panels; curves.csv has the numbers", facets.len()),
        columns: if facets.len() > 2 { 4 } else { 2 },
        facets,
        left: 34,
        ..Grid::default()
    };
    section.grid("loss", format!("Loss over epochs.{}", left_out(more, "curves.csv")), grid);
    Some(section)
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
    let y = Axis::fit("loss", marks().map(|mark| mark.y).collect::<Vec<_>>(), plot::short);
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
