//! Firing rates per layer.

use std::collections::BTreeSet;

use anyhow::Result;

use super::{Figure, Section};
use crate::model::Model;
use crate::plot::{self, Axis, Chart, Mark, Series};
use crate::series::Panel;

pub(crate) fn section(model: &Model) -> Result<Option<Section>> {
    if model.layers.is_empty() {
        return Ok(None);
    }
    let mut section = Section::new("neurons", "Firing rates");
    section.text("Spikes per neuron and time step on the test set, by layer from input to output; means over seeds.");
    let mut figures = Vec::new();
    for (p, panel) in model.drawn().enumerate() {
        let times: BTreeSet<_> =
            panel.lines.iter().flat_map(|line| &line.points).filter_map(|point| point.time_steps).collect();
        for time in times.into_iter().rev() {
            let chart = firing(model, p, panel, time);
            if !chart.series.is_empty() {
                let caption = format!("{}: firing rate by layer, T = {time}.", panel.title());
                figures.push(Figure::of_panel(panel, &format!("firing-t{time}"), caption, &chart)?);
            }
        }
    }
    section.figures(figures);
    Ok(Some(section))
}

fn firing(model: &Model, p: usize, panel: &Panel, time: usize) -> Chart {
    let mut layers: Vec<&str> = Vec::new();
    let mut series = Vec::new();
    for (l, line) in panel.lines.iter().enumerate() {
        let Some(i) = line.points.iter().position(|point| point.time_steps == Some(time)) else { continue };
        let Some(measured) = model.layers.get(&(p, l, i)) else { continue };
        let mut points = Vec::new();
        for layer in measured {
            let row = layers.iter().position(|name| *name == layer.name).unwrap_or_else(|| {
                layers.push(&layer.name);
                layers.len() - 1
            });
            if let Some(rate) = layer.firing_rate.get() {
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
    let longest = layers.iter().map(|layer| layer.chars().count()).max().unwrap_or(0);
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
        height: 90 + 22 * layers.len() as u32,
        left: (30 + 7 * longest.min(20)) as u32,
        ..Chart::default()
    }
}

/// A layer's name, cut to fit beside the axis.
pub(crate) fn short_layer(layer: &str) -> String {
    if layer.chars().count() <= 20 { layer.into() } else { layer.chars().take(19).chain(['…']).collect() }
}
