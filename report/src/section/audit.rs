//! Surrogate audit: each derivative over the measured membrane histogram of each layer, the share of neurons inside its
//! window, and an alarm for layers that are dead.

use super::{Cell, Column, Row, Section, Table, panel_label, percent};
use crate::model::{Layer, Model, Place};
use crate::plot::{self, Axis, Chart, Facet, Grid, Mark, Series, Style, palette};
use crate::record::MembraneBin;
use crate::series::{Line, Panel};
use crate::verdict::time_steps;

/// A layer is called dead below this firing rate …
const DEAD_RATE: f64 = 0.001;
/// … or below this share of neurons that pass any gradient.
const DEAD_SHARE: f64 = 0.01;
/// The maximum number of panels in the figure.
const MAX_FACETS: usize = 20;

pub(crate) fn section(model: &Model) -> Option<Section> {
    if model.layers.is_empty() && model.membranes.is_empty() {
        return None;
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
    let (grid, count, layers) = histograms(model);
    let caption = format!(
        "Derivatives over the membrane histograms of the reference's network (else of the first arm measured) at its \
         largest T, lowest seed; the percentage is the share of neurons inside its window.{}",
        if count < layers {
            format!(" {count} of {layers} layers, spread evenly; membrane.csv has all.")
        } else {
            String::new()
        }
    );
    section.grid("audit-membranes", caption, grid);
    section.table(table);
    Some(section)
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
                Cell::text(&panel.name).of_panel(panel),
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

/// A line with its membranes at its largest T.
type Measured<'a> = (&'a Line, &'a [MembraneBin], usize);

/// One panel per layer of one network in each drawn panel; the number of layers drawn, and of those measured.
fn histograms(model: &Model) -> (Grid, usize, usize) {
    let of_panel: Vec<(&Panel, Vec<Measured>)> = model
        .drawn()
        .enumerate()
        .map(|(p, panel)| (panel, measured(model, p, panel)))
        .filter(|(_, measured)| !measured.is_empty())
        .collect();
    let room = (MAX_FACETS / of_panel.len().max(1)).max(3);
    let columns = if of_panel.len() > 2 { room.clamp(3, 6) } else { 5 };
    let (mut facets, mut layers, mut drawn) = (Vec::new(), 0, 0);
    for (panel, measured) in &of_panel {
        let reference = panel.reference().map(Line::label);
        let of_reference = measured.iter().find(|(line, ..)| Some(line.label()) == reference);
        let Some(&(line, bins, time)) = of_reference.or(measured.first()) else { continue };
        let all: Vec<&[MembraneBin]> = bins.chunk_by(|a, b| a.layer == b.layer).collect();
        layers += all.len();
        let heading = format!("{}, {}, T = {time}", panel_label(panel), line.label());
        let chosen = evenly(&all, room);
        // The first panel says for the whole row whose network this is.
        let headings = std::iter::once(heading.as_str()).chain(std::iter::repeat(""));
        drawn += chosen.len();
        facets.extend(chosen.into_iter().zip(headings).map(|(layer, of)| facet(model, panel, of, layer, measured)));
        // Each network begins a row.
        let filled = facets.len().next_multiple_of(columns);
        facets.resize_with(filled, Facet::default);
    }
    let grid = Grid {
        title: "Membrane histograms and derivatives".into(),
        alt: format!("Membrane histograms about the threshold in {drawn} layers; membrane.csv has the numbers"),
        columns,
        facets,
        shared_x: true,
        shared_y: true,
        height: 110,
        left: 34,
    };
    (grid, drawn, layers)
}

/// The lines of a panel that have membranes, each at its largest T.
fn measured<'a>(model: &'a Model, p: usize, panel: &'a Panel) -> Vec<Measured<'a>> {
    let of_line = |(l, line): (usize, &'a Line)| {
        let of = |i: usize| -> Option<Measured<'a>> {
            let place: Place = (p, l, i);
            Some((line, model.membranes.get(&place)?.as_slice(), line.points[i].time_steps?))
        };
        (0..line.points.len()).rev().find_map(of)
    };
    panel.lines.iter().enumerate().filter_map(of_line).collect()
}

/// At most `count` of the items, spread evenly, with the first and the last among them.
fn evenly<T: Copy>(items: &[T], count: usize) -> Vec<T> {
    match (items.len(), count) {
        (len, count) if len <= count => items.to_vec(),
        (len, count) => (0..count).map(|k| items[k * (len - 1) / count.saturating_sub(1).max(1)]).collect(),
    }
}

fn facet(model: &Model, panel: &Panel, of: &str, layer: &[MembraneBin], measured: &[Measured]) -> Facet {
    let name = &layer[0].layer;
    let total = layer.iter().map(|bin| bin.count).sum::<u64>().max(1) as f64;
    let inside = layer.iter().filter(|bin| bin.derivative > 0.0).map(|bin| bin.count).sum::<u64>() as f64 / total;
    let heading = [of.to_string(), format!("{name}, {:.0} %", 100.0 * inside)];
    Facet { heading, dataset: panel.dataset.clone(), chart: histogram(model, name, layer, total, measured) }
}

fn histogram(model: &Model, name: &str, layer: &[MembraneBin], total: f64, measured: &[Measured]) -> Chart {
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
