//! How far each surrogate's gradient agrees with the finite-difference gradient, over its parameter and over epochs.

use std::collections::{BTreeMap, BTreeSet};

use super::{Block, Cell, Column, Figure, Row, Section, Table, left_out, panel_label, percent};
use crate::model::{Model, Place};
use crate::plot::{self, Axis, Chart, Facet, Grid, Mark, Series, Shape, Style, palette};
use crate::record::FidelityPoint;
use crate::verdict::time_steps;

/// The maximum number of panels in one figure.
const MAX_FACETS: usize = 12;

/// Rows of one point's lowest seed and one layer.
type Groups<'a> = BTreeMap<(Place, &'a str), Vec<&'a FidelityPoint>>;

pub(crate) fn section(model: &Model) -> Option<Section> {
    if model.fidelity.is_empty() {
        return None;
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
    section.text(
        "The figure shows the networks that the reference trained (the first arm, if the reference was not measured). \
         The table below has every arm after its last epoch, and fidelity.csv every seed and epoch.",
    );
    let caption = "Cosine over the surrogate's parameter, after the last epoch measured; lowest seed";
    let (grid, more) = grid(model, &groups, "Gradient fidelity by parameter", by_parameter);
    section.grid("fidelity-parameter", format!("{caption}.{}", left_out(more, "fidelity.csv")), grid);
    let caption = "Cosine over epochs, with the parameter nearest to 1";
    let (grid, more) = self::grid(model, &groups, "Gradient fidelity by epoch", by_epoch);
    if !grid.facets.is_empty() {
        let figure = Figure::of_grid("fidelity-epoch", format!("{caption}.{}", left_out(more, "fidelity.csv")), grid);
        section.blocks.push(Block::Folded(caption.into(), vec![figure]));
    }
    section.table(table(model, &groups));
    Some(section)
}

/// One panel per T and layer, of the reference's networks in each drawn panel; and how many did not fit.
fn grid(model: &Model, groups: &Groups, title: &str, draw: fn(&[&FidelityPoint]) -> Option<Chart>) -> (Grid, usize) {
    let mut facets = Vec::new();
    let has_reference = |p: usize| {
        let is_reference = |l: usize| model.panels[p].lines[l].method == model.panels[p].reference;
        groups.keys().any(|((panel, line, _), _)| *panel == p && is_reference(*line))
    };
    let drawn = 0..model.drawn().count();
    let any_reference = drawn.clone().any(has_reference);
    for p in drawn.filter(|p| !any_reference || has_reference(*p)) {
        let (panel, lines) = (&model.panels[p], &model.panels[p].lines);
        let measured = |l: usize| groups.keys().any(|((panel, line, _), _)| (*panel, *line) == (p, l));
        let measured: Vec<usize> = (0..lines.len()).filter(|l| measured(*l)).collect();
        let reference = measured.iter().find(|l| lines[**l].method == panel.reference);
        let Some(&chosen) = reference.or(measured.first()) else { continue };
        let mut of_line: Vec<_> =
            groups.iter().filter(|(((panel, line, _), _), _)| (*panel, *line) == (p, chosen)).collect();
        // The largest T first.
        of_line.sort_by_key(|(((_, _, i), _), _)| std::cmp::Reverse(*i));
        for (((_, l, i), layer), rows) in of_line {
            let Some(chart) = draw(rows) else { continue };
            let time = time_steps(lines[*l].points[*i].time_steps);
            let heading = [format!("{layer}, T = {time}"), format!("{}, {}", panel_label(panel), lines[*l].label())];
            facets.push(Facet { heading, dataset: panel.dataset.clone(), chart });
        }
    }
    let more = facets.len().saturating_sub(MAX_FACETS);
    facets.truncate(MAX_FACETS);
    // One column per layer, so that a row is one network.
    let columns = groups.keys().map(|(_, layer)| *layer).collect::<BTreeSet<_>>().len().clamp(1, 4);
    let title = title.to_string();
    let alt = format!("{title}: cosines in {} panels; fidelity.csv has the numbers", facets.len());
    (Grid { title, alt, columns, facets, shared_x: true, shared_y: true, height: 120, left: 34 }, more)
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
        Series {
            label: name.into(),
            style: style(name),
            points,
            joined: true,
            marked: true,
            small: true,
            ..Series::default()
        }
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
                Cell::text(&panel.name).of_panel(panel),
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
