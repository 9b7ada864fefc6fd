//! Firing rates per layer.

use std::collections::BTreeSet;

use super::{Section, left_out, panel_label};
use crate::model::Model;
use crate::plot::{self, Axis, Chart, Facet, Grid, Mark, Series};
use crate::series::Panel;

/// The maximum number of panels in the figure.
const MAX_FACETS: usize = 6;

pub(crate) fn section(model: &Model) -> Option<Section> {
    if model.layers.is_empty() {
        return None;
    }
    let mut section = Section::new("neurons", "Firing rates");
    section.text("Spikes per neuron and time step on the test set, by layer from input to output; means over seeds.");
    let layers = layers(model);
    let mut facets = Vec::new();
    for (p, panel) in model.drawn().enumerate() {
        let times: BTreeSet<_> =
            panel.lines.iter().flat_map(|line| &line.points).filter_map(|point| point.time_steps).collect();
        for time in times.into_iter().rev() {
            let chart = firing(model, p, panel, time, &layers);
            if !chart.series.is_empty() {
                let heading = [panel_label(panel), format!("T = {time}")];
                facets.push(Facet { heading, dataset: panel.dataset.clone(), chart });
            }
        }
    }
    let more = facets.len().saturating_sub(MAX_FACETS);
    facets.truncate(MAX_FACETS);
    let longest = layers.iter().map(|layer| layer.chars().count()).max().unwrap_or(0);
    let grid = Grid {
        title: "Firing rate by layer".into(),
        alt: format!("Firing rates of {} layers in {} panels; layers.csv has the numbers", layers.len(), facets.len()),
        columns: facets.len().clamp(1, 3),
        facets,
        shared_x: true,
        shared_y: true,
        height: 16 * layers.len() as i32 + 16,
        left: 14 + 6 * longest.min(20) as i32,
    };
    section.grid("firing", format!("Firing rate by layer.{}", left_out(more, "layers.csv")), grid);
    Some(section)
}

/// The names of all layers, from input to output, so that all panels can share an axis.
fn layers(model: &Model) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    let drawn = model.drawn().count();
    for layer in model.layers.iter().filter(|((p, ..), _)| *p < drawn).flat_map(|(_, layers)| layers) {
        if !names.contains(&layer.name.as_str()) {
            names.push(&layer.name);
        }
    }
    names
}

fn firing(model: &Model, p: usize, panel: &Panel, time: usize, layers: &[&str]) -> Chart {
    let mut series = Vec::new();
    for (l, line) in panel.lines.iter().enumerate() {
        let Some(i) = line.points.iter().position(|point| point.time_steps == Some(time)) else { continue };
        let Some(measured) = model.layers.get(&(p, l, i)) else { continue };
        let mut points = Vec::new();
        for layer in measured {
            let row = layers.iter().position(|name| *name == layer.name);
            if let Some((row, rate)) = row.zip(layer.firing_rate.get()) {
                let title = format!("{}, {}: {} %", line.label(), layer.name, super::percent(rate));
                points.push(Mark {
                    x: 100.0 * rate,
                    y: -(row as f64),
                    title,
                    hollow: line.points[i].top1.n == 1,
                    ..Mark::default()
                });
            }
        }
        let style = model.style(&line.method);
        series.push(Series {
            label: line.label(),
            method: line.method.clone(),
            style,
            points,
            marked: true,
            ..Series::default()
        });
    }
    let rates = series.iter().flat_map(|series| &series.points).map(|mark| mark.x).chain([0.0]).collect::<Vec<_>>();
    let y = Axis {
        label: String::new(),
        range: (0.6 - layers.len() as f64, 0.6),
        ticks: layers.iter().enumerate().map(|(row, layer)| (-(row as f64), short_layer(layer))).collect(),
    };
    Chart {
        title: format!("Firing rate by layer, T = {time}, {}", panel.title()),
        alt: format!("Firing rates of {} layers for {} methods", layers.len(), series.len()),
        x: Axis::fit("firing rate, %", rates, plot::short),
        y,
        series,
        ..Chart::default()
    }
}

/// A layer's name, cut to fit beside the axis.
pub(crate) fn short_layer(layer: &str) -> String {
    if layer.chars().count() <= 20 { layer.into() } else { layer.chars().take(19).chain(['…']).collect() }
}
