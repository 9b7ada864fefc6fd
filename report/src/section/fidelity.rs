//! How far each surrogate's gradient agrees with the finite-difference gradient, over its parameter and over epochs.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;

use super::{Cell, Column, Figure, Row, Section, Table, percent};
use crate::model::{DRAWN_PANELS, Model, Place};
use crate::plot::{self, Axis, Chart, Mark, Series, Shape, Style, palette};
use crate::record::FidelityPoint;
use crate::verdict::time_steps;

/// Rows of one point's lowest seed and one layer.
type Groups<'a> = BTreeMap<(Place, &'a str), Vec<&'a FidelityPoint>>;

pub(crate) fn section(model: &Model) -> Result<Option<Section>> {
    if model.fidelity.is_empty() {
        return Ok(None);
    }
    let mut section = Section::new("fidelity", "Gradient fidelity");
    section.text(
        "Each surrogate's gradient, by its full backward pass, against the central finite difference of the loss on the \
         same batch at the same weights. All weights of the first layer; of deeper layers a sample, with 95 % intervals. \
         The cosine is a score of direction, not of quality: a surrogate's gradient is in general not the gradient of any \
         loss, and the finite difference itself is smoothed over its step.",
    );
    let mut groups: Groups = BTreeMap::new();
    for (place, row) in &model.fidelity {
        groups.entry((*place, row.layer.as_str())).or_default().push(row);
    }
    let mut figures = Vec::new();
    for (((p, l, i), layer), rows) in groups.iter().take_while(|(((p, ..), _), _)| *p < DRAWN_PANELS) {
        let (panel, line) = (&model.panels[*p], &model.panels[*p].lines[*l]);
        let time = time_steps(line.points[*i].time_steps);
        let name = crate::series::slug(&format!("{}-t{time}-{layer}", line.label()));
        let of = format!("{}: {}, T = {time}, layer {layer}", panel.title(), line.label());
        for (kind, chart) in [("parameter", by_parameter(rows)), ("epoch", by_epoch(rows))] {
            if let Some(mut chart) = chart {
                chart.title = format!("Gradient fidelity by {kind}, {of}");
                let note = if kind == "parameter" { "after the last epoch measured" } else { "parameter fixed" };
                let caption = format!("{of}: cosine over {kind}, {note}.");
                figures.push(Figure::of_panel(panel, &format!("fidelity-{kind}-{name}"), caption, &chart)?);
            }
        }
    }
    section.figures(figures);
    section.table(table(model, &groups));
    Ok(Some(section))
}

fn last_epoch<'a>(rows: &[&'a FidelityPoint]) -> Vec<&'a FidelityPoint> {
    let last = rows.iter().map(|row| row.epoch).max();
    rows.iter().copied().filter(|row| Some(row.epoch) == last).collect()
}

/// The look of a surrogate: that of the method that trains with it.
fn style(surrogate: &str) -> Style {
    match surrogate {
        "triangle" => Style { colour: palette::style("dspike-no-fdg-b3", 0).colour, shape: Shape::Up, dash: "2 3" },
        "arctan" => Style { colour: palette::style("dspike-no-tit", 0).colour, shape: Shape::Down, dash: "8 3 2 3" },
        name => palette::style(name, 5),
    }
}

fn names<'a>(rows: &[&'a FidelityPoint]) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    rows.iter().map(|row| row.surrogate.as_str()).filter(|name| seen.insert(*name)).collect()
}

fn mark(x: f64, row: &FidelityPoint) -> Mark {
    let parameter = row.parameter.map_or_else(String::new, |value| format!(" at {}", plot::short(value)));
    let agreement = row.sign_agreement.map_or_else(String::new, |share| format!(", signs agree {} %", percent(share)));
    let ratio = row.norm_ratio;
    let title = format!(
        "{}{parameter}, epoch {}: cosine {:.4}, norm ratio {ratio:.3}{agreement}",
        row.surrogate, row.epoch, row.cosine
    );
    Mark { x, y: row.cosine, spread: row.cosine_low.zip(row.cosine_high), title, ..Mark::default() }
}

fn by_parameter(rows: &[&FidelityPoint]) -> Option<Chart> {
    let rows = last_epoch(rows);
    let series = names(&rows).into_iter().map(|name| {
        let of = rows.iter().filter(|row| row.surrogate == name);
        let parameter = |row: &&FidelityPoint| row.parameter.filter(|value| *value > 0.0);
        let mut points: Vec<Mark> = of.filter_map(|row| Some(mark(parameter(row)?.log10(), row))).collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        let joined = points.len() > 1;
        Series { label: name.into(), style: style(name), points, joined, marked: true, ..Series::default() }
    });
    chart(series.filter(|series| !series.points.is_empty()).collect(), |values| {
        Axis::log10("parameter: temperature b, width or slope", values, plot::short)
    })
}

fn by_epoch(rows: &[&FidelityPoint]) -> Option<Chart> {
    let series = names(rows).into_iter().map(|name| {
        let of = || rows.iter().filter(|row| row.surrogate == name);
        // One parameter over all epochs: 1 where it was measured, else the smallest.
        let nearest = of().filter_map(|row| row.parameter).min_by(|a, b| a.ln().abs().total_cmp(&b.ln().abs()));
        let chosen = of().filter(|row| row.parameter == nearest);
        let mut points: Vec<Mark> = chosen.map(|row| mark(row.epoch as f64, row)).collect();
        points.sort_by(|a, b| a.x.total_cmp(&b.x));
        let label = nearest.map_or_else(|| name.to_string(), |value| format!("{name} ({})", plot::short(value)));
        Series { label, style: style(name), points, joined: true, marked: true, ..Series::default() }
    });
    let series: Vec<Series> = series.collect();
    let several = series.iter().any(|series| series.points.len() > 1);
    several.then(|| chart(series, |values| Axis::fit("epoch of this stage", values, plot::short))).flatten()
}

fn chart(series: Vec<Series>, x: impl Fn(Vec<f64>) -> Axis) -> Option<Chart> {
    let marks = || series.iter().flat_map(|series| &series.points);
    let ends =
        marks().flat_map(|mark| [mark.y, mark.spread.map_or(mark.y, |s| s.0), mark.spread.map_or(mark.y, |s| s.1)]);
    let chart = Chart {
        alt: format!(
            "Cosine with the finite-difference gradient of {} surrogates; the table has the numbers",
            series.len()
        ),
        x: x(marks().map(|mark| mark.x).collect()),
        y: Axis::fit("cosine with FDG", ends.collect::<Vec<_>>(), plot::short),
        height: 260,
        ..Chart::default()
    };
    (!series.is_empty()).then_some(Chart { series, ..chart })
}

fn table(model: &Model, groups: &Groups) -> Table {
    let columns = vec![
        Column::text("data set"),
        Column::text("trained by"),
        Column::number("T"),
        Column::text("layer"),
        Column::number("epoch"),
        Column::text("surrogate"),
        Column::number("parameter"),
        Column::number("weights").hint("compared, of all in the layer"),
        Column::number("cosine"),
        Column::number("95 % interval"),
        Column::number("norm ratio"),
        Column::number("signs agree %"),
    ];
    let mut rows = Vec::new();
    for (((p, l, i), layer), group) in groups {
        let (panel, line) = (&model.panels[*p], &model.panels[*p].lines[*l]);
        for row in last_epoch(group) {
            let range = row.cosine_low.zip(row.cosine_high);
            let cells = vec![
                Cell::text(&panel.dataset).of_panel(panel),
                Cell::text(line.label()),
                Cell::text(time_steps(line.points[*i].time_steps)),
                Cell::text(*layer),
                Cell::count(row.epoch),
                Cell::text(&row.surrogate),
                Cell::number(row.parameter, plot::short),
                Cell::number(Some(row.sampled as f64), |_| format!("{} of {}", row.sampled, row.weights)),
                Cell::number(Some(row.cosine), |cosine| format!("{cosine:.4}")).of_panel(panel),
                Cell::number(range.map(|(low, _)| low), |_| {
                    range.map_or_else(String::new, |(low, high)| format!("[{low:.3}, {high:.3}]"))
                }),
                Cell::number(Some(row.norm_ratio), |ratio| format!("{ratio:.3}")),
                Cell::number(row.sign_agreement, percent),
            ];
            rows.push(Row::of(&panel.dataset, &line.method, cells));
        }
    }
    let caption = "Gradient fidelity after the last epoch measured".into();
    Table { caption, columns, rows, collapsed: true }.capped("fidelity.csv")
}
