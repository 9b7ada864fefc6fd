//! Surrogate audit: each derivative over the measured membrane histogram of each layer, the share of neurons inside its
//! window, and an alarm for layers that are dead.

use anyhow::Result;

use super::{Block, Cell, Column, Figure, Row, Section, Table, percent};
use crate::model::{Layer, Model, Place};
use crate::plot::{self, Axis, Chart, Mark, Series, Style, palette};
use crate::record::MembraneBin;
use crate::series::{Line, Panel};
use crate::verdict::time_steps;

/// A layer is called dead below this firing rate …
const DEAD_RATE: f64 = 0.001;
/// … or below this share of neurons that pass any gradient.
const DEAD_SHARE: f64 = 0.01;

pub(crate) fn section(model: &Model) -> Result<Option<Section>> {
    if model.layers.is_empty() && model.membranes.is_empty() {
        return Ok(None);
    }
    let mut section = Section::new("audit", "Surrogate audit");
    section.text(format!(
        "Share of neurons whose membrane lies where the derivative is not zero, on the test set. A layer raises the alarm \
         when fewer than {} % of its neurons fire in a step, or fewer than {} % pass any gradient.",
        100.0 * DEAD_RATE,
        100.0 * DEAD_SHARE
    ));
    let (alarms, table) = table(model);
    section.text(match alarms {
        0 => "No layer of any network raises the alarm.".to_string(),
        1 => "One layer raises the alarm; it stands first in the table.".to_string(),
        count => format!("{count} layers raise the alarm; they stand first in the table."),
    });
    section.table(table);
    let mut figures = Vec::new();
    for (p, panel) in model.drawn().enumerate() {
        figures.extend(histograms(model, p, panel)?);
    }
    if !figures.is_empty() {
        let caption = format!("Derivatives over the membrane histograms ({} layers)", figures.len());
        section.blocks.push(Block::Folded(caption, figures));
    }
    Ok(Some(section))
}

fn dead(layer: &Layer) -> bool {
    layer.firing_rate.get().is_some_and(|rate| rate < DEAD_RATE)
        || layer.active_gradient_share.get().is_some_and(|share| share < DEAD_SHARE)
}

fn table(model: &Model) -> (usize, Table) {
    let columns = vec![
        Column::text("data set"),
        Column::text("method"),
        Column::number("T"),
        Column::text("layer"),
        Column::number("firing %"),
        Column::number("inside the window %").hint("neurons, over time steps and images, whose derivative is not zero"),
        Column::text("alarm"),
    ];
    let mut rows: Vec<(bool, Row)> = Vec::new();
    for (place, panel, line, point) in model.points() {
        for layer in model.layers.get(&place).into_iter().flatten() {
            let alarm = dead(layer);
            let cells = vec![
                Cell::text(&panel.dataset).of_panel(panel),
                Cell::text(line.label()),
                Cell::number(point.time_steps.map(|t| t as f64), |_| time_steps(point.time_steps)),
                Cell::text(&layer.name),
                Cell::number(layer.firing_rate.get(), percent).of_panel(panel),
                Cell::number(layer.active_gradient_share.get(), percent),
                if alarm { Cell::text("dead layer").class("bad") } else { Cell::text("–") },
            ];
            rows.push((!alarm, Row::of(&panel.dataset, &line.method, cells)));
        }
    }
    rows.sort_by_key(|(fine, _)| *fine);
    let alarms = rows.iter().filter(|(fine, _)| !fine).count();
    let rows = rows.into_iter().map(|(_, row)| row).collect();
    (alarms, Table { caption: "Layers".into(), columns, rows, collapsed: true }.capped("layers.csv"))
}

/// One chart a layer: the reference's histogram (else the first line's that has one), and every line's derivative.
fn histograms(model: &Model, p: usize, panel: &Panel) -> Result<Vec<Figure>> {
    let measured: Vec<(&Line, &[MembraneBin], usize)> = panel
        .lines
        .iter()
        .enumerate()
        .filter_map(|(l, line)| {
            let of = |i: usize| -> Option<(&Line, &[MembraneBin], usize)> {
                let place: Place = (p, l, i);
                Some((line, model.membranes.get(&place)?.as_slice(), line.points[i].time_steps?))
            };
            (0..line.points.len()).rev().find_map(of)
        })
        .collect();
    let reference = panel.reference().map(Line::label);
    let Some(&(of, bins, time)) =
        measured.iter().find(|(line, ..)| Some(line.label()) == reference).or(measured.first())
    else {
        return Ok(Vec::new());
    };
    let mut figures = Vec::new();
    for layer in bins.chunk_by(|a, b| a.layer == b.layer) {
        let name = &layer[0].layer;
        let total = layer.iter().map(|bin| bin.count).sum::<u64>().max(1) as f64;
        let inside = layer.iter().filter(|bin| bin.derivative > 0.0).map(|bin| bin.count).sum::<u64>() as f64 / total;
        let chart = histogram(model, name, layer, total, &measured);
        let caption = format!(
            "{}: {name}, membranes of {} at T = {time}; {} % lie inside its window.",
            panel.title(),
            of.label(),
            percent(inside)
        );
        figures.push(Figure::of_panel(panel, &format!("audit-{}", crate::series::slug(name)), caption, &chart)?);
    }
    Ok(figures)
}

fn histogram(
    model: &Model,
    name: &str,
    layer: &[MembraneBin],
    total: f64,
    measured: &[(&Line, &[MembraneBin], usize)],
) -> Chart {
    let density = |bin: &MembraneBin| bin.count as f64 / total / (bin.bin_high - bin.bin_low).max(1e-9);
    let bars = layer.iter().map(|bin| (bin.bin_low, bin.bin_high, density(bin))).collect();
    let style = Style { colour: palette::GRAY, ..Style::default() };
    let mut series = vec![Series { label: "membrane density".into(), style, bars, ..Series::default() }];
    for (line, bins, _) in measured {
        let of = bins.iter().filter(|bin| bin.layer == name);
        let points: Vec<Mark> = of
            .map(|bin| Mark { x: (bin.bin_low + bin.bin_high) / 2.0, y: bin.derivative, ..Mark::default() })
            .collect();
        // Arms that share a surrogate share its derivative: draw it once.
        let known = series.iter().any(|series| {
            series.points.len() == points.len()
                && series.points.iter().zip(&points).all(|(a, b)| (a.y - b.y).abs() < 1e-9)
        });
        if !points.is_empty() && !known {
            let (label, style) = (format!("derivative of {}", line.label()), model.style(&line.method));
            series.push(Series {
                label,
                method: line.method.clone(),
                style,
                points,
                joined: true,
                ..Series::default()
            });
        }
    }
    let tops = layer.iter().map(density).chain(series.iter().flat_map(|series| &series.points).map(|mark| mark.y));
    let mut y = Axis::fit("density, derivative", tops.chain([0.0]).collect::<Vec<_>>(), plot::short);
    y.range.0 = 0.0;
    y.ticks.retain(|(tick, _)| *tick >= 0.0);
    let edges = layer.iter().flat_map(|bin| [bin.bin_low, bin.bin_high]).collect::<Vec<_>>();
    Chart {
        title: format!("Membrane histogram and derivatives, {name}"),
        alt: format!("Histogram of the membrane about its threshold in {name}, with {} derivatives", series.len() - 1),
        x: Axis::fit("membrane − threshold", edges, plot::short),
        y,
        series,
        height: 220,
        ..Chart::default()
    }
}
