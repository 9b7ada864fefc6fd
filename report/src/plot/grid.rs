//! Small multiples: many charts as panels of one SVG, with one legend. The SVG is written by hand instead of by plotters
//! because one path per series keeps a figure of twenty panels below 100 kB.

use std::fmt::Write as _;

use plotters::coord::ranged1d::Ranged;
use plotters::style::RGBColor;

use super::draw::{dash, escape, px};
use super::{Axis, Chart, Mark, Series, Shape};

/// Width of the figure in pixels: the page's full column.
const WIDTH: i32 = 1040;
const LEGEND_ROW: i32 = 20;
/// Pixels per character of a legend entry.
const CHARACTER: f64 = 7.0;
const FONT: i32 = 11;
/// A figure with more marks than this has no hover texts, because each of them costs about 150 bytes.
const MAX_HOVERS: usize = 500;

/// Charts side by side. The first chart says what the axes are called.
#[derive(Debug, Default)]
pub(crate) struct Grid {
    /// The file's title.
    pub title: String,
    /// A sentence for readers who do not see the figure.
    pub alt: String,
    pub columns: usize,
    pub facets: Vec<Facet>,
    pub shared_x: bool,
    pub shared_y: bool,
    /// Height of one panel's plot area in pixels; 0 means 130.
    pub height: i32,
    /// Room for the labels of the y axis in pixels; 0 means 40.
    pub left: i32,
}

/// One panel of a [`Grid`]; without series it is a blank place.
#[derive(Debug, Default)]
pub(crate) struct Facet {
    /// One or two lines above the panel.
    pub heading: [String; 2],
    /// For the page's filter; empty if the panel belongs to no single data set.
    pub dataset: String,
    pub chart: Chart,
}

/// A rectangle in the drawing's units.
#[derive(Clone, Copy)]
struct Area {
    left: i32,
    top: i32,
    right: i32,
    bottom: i32,
}

impl Grid {
    /// The charts of the panels that are not blank.
    fn charts(&self) -> impl Iterator<Item = &Chart> + Clone {
        self.facets.iter().map(|facet| &facet.chart).filter(|chart| !chart.series.is_empty())
    }

    /// Gives all panels the same range and ticks on the shared axes.
    fn share_axes(&mut self) {
        if let Some(axis) = common(self.charts().map(|chart| &chart.x)).filter(|_| self.shared_x) {
            self.facets.iter_mut().for_each(|facet| facet.chart.x = axis.clone());
        }
        if let Some(axis) = common(self.charts().map(|chart| &chart.y)).filter(|_| self.shared_y) {
            self.facets.iter_mut().for_each(|facet| facet.chart.y = axis.clone());
        }
    }

    fn left(&self) -> i32 {
        if self.left == 0 { 40 } else { self.left }
    }

    fn plot_height(&self) -> i32 {
        if self.height == 0 { 130 } else { self.height }
    }

    /// Room above a panel: one line of text per line of its heading.
    fn heading_height(&self) -> i32 {
        let lines = if self.facets.iter().any(|facet| !facet.heading[1].is_empty()) { 36 } else { 22 };
        lines + self.mark_height()
    }

    /// Room between the heading and the plot area for the labels of vertical lines.
    fn mark_height(&self) -> i32 {
        if self.facets.iter().any(|facet| !facet.chart.marks.is_empty()) { 12 } else { 0 }
    }

    /// Whether each panel names its own x axis.
    fn own_x_labels(&self) -> bool {
        let first = self.charts().next().map(|chart| &chart.x.label);
        self.charts().any(|chart| Some(&chart.x.label) != first)
    }

    fn row_height(&self) -> i32 {
        let ticks = if self.shared_x { 6 } else { 20 };
        self.heading_height() + self.plot_height() + ticks + if self.own_x_labels() { 16 } else { 0 }
    }

    fn rows(&self) -> i32 {
        self.facets.len().div_ceil(self.columns.max(1)) as i32
    }

    /// The plot area of a panel, in pixels.
    fn area(&self, index: usize) -> Area {
        let columns = self.columns.max(1);
        let (row, column) = ((index / columns) as i32, (index % columns) as i32);
        let outer = 22 + if self.shared_y { self.left() } else { 0 };
        let inner = if self.shared_y { 0 } else { self.left() };
        let width = (WIDTH - outer - 8) / columns as i32;
        let left = outer + column * width + inner;
        let top = row * self.row_height() + self.heading_height();
        Area { left, top, right: outer + (column + 1) * width - 14, bottom: top + self.plot_height() }
    }

    /// Where the legend begins.
    fn bottom(&self) -> i32 {
        let ticks = if self.shared_x { 14 } else { 0 };
        self.rows() * self.row_height() + ticks + if self.own_x_labels() { 6 } else { 24 }
    }
}

/// One axis that covers the ranges of all; `None` for no axes. The ticks are those of the widest axis, continued.
fn common<'a>(axes: impl Iterator<Item = &'a Axis> + Clone) -> Option<Axis> {
    let widest = axes.clone().max_by(|a, b| (a.range.1 - a.range.0).total_cmp(&(b.range.1 - b.range.0)))?;
    let low = axes.clone().map(|axis| axis.range.0).fold(f64::INFINITY, f64::min);
    let high = axes.map(|axis| axis.range.1).fold(f64::NEG_INFINITY, f64::max);
    let mut axis = Axis { range: (low, high), ..widest.clone() };
    continue_ticks(&mut axis);
    Some(axis)
}

/// Adds ticks at the same distance up to both ends, if the ticks are evenly spaced numbers.
fn continue_ticks(axis: &mut Axis) {
    let (Some(&(first, _)), Some(&(last, _))) = (axis.ticks.first(), axis.ticks.last()) else { return };
    let step = (last - first) / (axis.ticks.len().max(2) - 1) as f64;
    let even = axis.ticks.iter().enumerate().all(|(k, (tick, label))| {
        (tick - first - k as f64 * step).abs() < 1e-6 * step.abs() && *label == super::short(*tick)
    });
    if !(even && step > 0.0 && (axis.range.1 - axis.range.0) / step < 20.0) {
        return;
    }
    let before = (1..20).map(|k| first - f64::from(k) * step).take_while(|tick| *tick >= axis.range.0);
    let after = (1..20).map(|k| last + f64::from(k) * step).take_while(|tick| *tick <= axis.range.1);
    let mut ticks: Vec<f64> = before.chain(axis.ticks.iter().map(|(tick, _)| *tick)).chain(after).collect();
    ticks.sort_by(f64::total_cmp);
    axis.ticks = ticks.into_iter().map(|tick| (tick, super::short(tick))).collect();
}

/// A standalone SVG file, which can also stand inline in HTML. Deterministic; every text is escaped.
pub(crate) fn svg(mut grid: Grid) -> String {
    grid.share_axes();
    let legend = legend(&grid);
    let columns = legend_columns(&legend);
    let height = grid.bottom() + legend.len().div_ceil(columns) as i32 * LEGEND_ROW + 8;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"wide\" viewBox=\"0 0 {0} {1}\" width=\"{WIDTH}\" \
         height=\"{height}\" role=\"img\" aria-label=\"{2}\" font-family=\"sans-serif\" font-size=\"{3}\">\
         <title>{4}</title><rect class=\"paper\" width=\"{0}\" height=\"{1}\" fill=\"#FFFFFF\"/>",
        px(WIDTH),
        px(height),
        escape(&grid.alt),
        px(FONT),
        escape(&grid.title)
    );
    let marks: usize = grid.facets.iter().flat_map(|facet| &facet.chart.series).map(|series| series.points.len()).sum();
    for (index, facet) in grid.facets.iter().enumerate() {
        write_facet(&mut out, &grid, index, facet, &legend, marks <= MAX_HOVERS);
    }
    write_labels(&mut out, &grid);
    for (index, (series, method)) in legend.iter().enumerate() {
        let x = 30 + (index % columns) as i32 * ((WIDTH - 40) / columns as i32);
        let y = grid.bottom() + 10 + (index / columns) as i32 * LEGEND_ROW;
        write_key(&mut out, index, series, method, (x, y));
    }
    out.push_str("</svg>\n");
    out
}

/// One entry per label, in the order in which the panels name them, with the method if all its series share one.
fn legend(grid: &Grid) -> Vec<(&Series, &str)> {
    let mut legend: Vec<(&Series, &str)> = Vec::new();
    for series in grid.facets.iter().flat_map(|facet| &facet.chart.series) {
        match legend.iter_mut().find(|(known, _)| known.label == series.label) {
            Some((_, method)) if *method != series.method => *method = "",
            Some(_) => {}
            None => legend.push((series, &series.method)),
        }
    }
    legend
}

fn legend_columns(legend: &[(&Series, &str)]) -> usize {
    let longest = legend.iter().map(|(series, _)| series.label.chars().count()).max().unwrap_or(0);
    ((f64::from(WIDTH) - 40.0) / (50.0 + CHARACTER * longest as f64)).floor().clamp(1.0, 8.0) as usize
}

fn write_facet(out: &mut String, grid: &Grid, index: usize, facet: &Facet, legend: &[(&Series, &str)], hovers: bool) {
    if facet.chart.series.is_empty() {
        return;
    }
    let area = grid.area(index);
    let methods: Vec<&str> = facet.chart.series.iter().map(|series| series.method.as_str()).collect();
    let method = methods.first().filter(|first| methods.iter().all(|other| other == *first)).unwrap_or(&"");
    let _ = write!(out, "<g data-dataset=\"{}\" data-method=\"{}\">", escape(&facet.dataset), escape(method));
    for (line, heading) in facet.heading.iter().enumerate().filter(|(_, heading)| !heading.is_empty()) {
        let lines = if facet.heading[1].is_empty() { 1 } else { 2 };
        let y = area.top - 7 - grid.mark_height() - 14 * (lines - 1 - line as i32);
        let weight = if line == 0 { " font-weight=\"600\"" } else { "" };
        let next = grid.facets.get(index + 1).filter(|_| !(index + 1).is_multiple_of(grid.columns.max(1)));
        let is_free = next.is_some_and(|next| next.heading[line].is_empty());
        let right = if is_free { WIDTH } else { area.right };
        write_text(out, &shortened(heading, ((right - area.left) as f64 / 5.8) as usize), (area.left, y), weight);
    }
    let columns = grid.columns.max(1);
    let labels =
        (!grid.shared_x || index + columns >= grid.facets.len(), !grid.shared_y || index.is_multiple_of(columns));
    write_axes(out, &facet.chart, area, labels);
    for series in &facet.chart.series {
        let key = legend.iter().position(|(known, _)| known.label == series.label).unwrap_or(0);
        write_series(out, &facet.chart, area, series, key, hovers);
    }
    if grid.own_x_labels() {
        let label = &facet.chart.x.label;
        write_text(out, label, ((area.left + area.right) / 2, area.bottom + 33), " text-anchor=\"middle\"");
    }
    out.push_str("</g>");
}

fn shortened(text: &str, room: usize) -> String {
    match text.chars().count() > room {
        true => text.chars().take(room.saturating_sub(1)).chain(['…']).collect(),
        false => text.into(),
    }
}

fn write_text(out: &mut String, text: &str, (x, y): (i32, i32), attributes: &str) {
    let _ = write!(out, "<text x=\"{}\" y=\"{}\" fill=\"#222222\"{attributes}>{}</text>", px(x), px(y), escape(text));
}

/// Pixels of a place on an axis, in the drawing's units.
fn at(axis: &Axis, value: f64, first: i32, last: i32) -> i32 {
    axis.map(&value, (px(first), px(last)))
}

fn write_axes(out: &mut String, chart: &Chart, area: Area, (x_labels, y_labels): (bool, bool)) {
    let mut mesh = String::new();
    let inside = |axis: &Axis, tick: f64| (axis.range.0..=axis.range.1).contains(&tick);
    for (tick, label) in chart.y.ticks.iter().filter(|(tick, _)| inside(&chart.y, *tick)) {
        let y = at(&chart.y, *tick, area.bottom, area.top);
        let _ = write!(mesh, "M{} {y}H{}", px(area.left), px(area.right));
        if y_labels {
            let (x, y) = (px(area.left - 5), y + px(4));
            let label = escape(label);
            let _ = write!(out, "<text x=\"{x}\" y=\"{y}\" fill=\"#222222\" text-anchor=\"end\">{label}</text>");
        }
    }
    for (place, label) in &chart.marks {
        let x = at(&chart.x, *place, area.left, area.right);
        let _ = write!(mesh, "M{x} {}V{}", px(area.bottom), px(area.top));
        let (y, size, label) = (px(area.top - 4), px(10), escape(label));
        let _ = write!(
            out,
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" fill=\"#222222\" text-anchor=\"middle\">{label}</text>"
        );
    }
    let _ = write!(out, "<path d=\"{mesh}\" stroke=\"#E4E4E4\" stroke-width=\"4\" fill=\"none\"/>");
    let mut ticks = format!("M{} {}V{}H{}", px(area.left), px(area.top), px(area.bottom), px(area.right));
    for (tick, label) in spaced(&chart.x, area) {
        let x = at(&chart.x, *tick, area.left, area.right);
        let _ = write!(ticks, "M{x} {}v{}", px(area.bottom), px(3));
        if x_labels {
            let (y, label) = (px(area.bottom + 15), escape(label));
            let _ = write!(out, "<text x=\"{x}\" y=\"{y}\" fill=\"#222222\" text-anchor=\"middle\">{label}</text>");
        }
    }
    let _ = write!(out, "<path d=\"{ticks}\" stroke=\"#767676\" stroke-width=\"4\" fill=\"none\"/>");
}

/// The ticks of a horizontal axis whose labels do not touch.
fn spaced(axis: &Axis, area: Area) -> Vec<&(f64, String)> {
    let mut kept: Vec<&(f64, String)> = Vec::new();
    let mut free = i32::MIN;
    for tick in axis.ticks.iter().filter(|(tick, _)| (axis.range.0..=axis.range.1).contains(tick)) {
        let half = px(3 * tick.1.chars().count() as i32 + 4);
        let x = at(axis, tick.0, area.left, area.right);
        if x - half >= free {
            free = x + half;
            kept.push(tick);
        }
    }
    kept
}

fn colour(RGBColor(red, green, blue): RGBColor) -> String {
    format!("#{red:02X}{green:02X}{blue:02X}")
}

fn write_series(out: &mut String, chart: &Chart, area: Area, series: &Series, key: usize, hovers: bool) {
    let place = |x: f64, y: f64| (at(&chart.x, x, area.left, area.right), at(&chart.y, y, area.bottom, area.top));
    let (tint, method) = (colour(series.style.colour), escape(&series.method));
    let _ = write!(out, "<g data-series=\"{key}\" data-method=\"{method}\">");
    if !series.bars.is_empty() {
        let mut path = String::new();
        for &(low, high, top) in &series.bars {
            let ((left, bottom), (right, top)) = (place(low, 0.0), place(high, top));
            let _ = write!(path, "M{left} {bottom}V{top}H{right}V{bottom}z");
        }
        let _ = write!(out, "<path d=\"{path}\" fill=\"{tint}\" fill-opacity=\"0.25\"/>");
    }
    if series.joined && series.points.len() > 1 {
        let mut path = String::new();
        for (index, mark) in series.points.iter().enumerate() {
            let (x, y) = place(mark.x, mark.y);
            let _ = write!(path, "{}{x} {y}", if index == 0 { "M" } else { "L" });
        }
        let dashes = dash(series.style.dash);
        let _ = write!(out, "<path d=\"{path}\" fill=\"none\" stroke=\"{tint}\" stroke-width=\"6\"{dashes}/>");
    }
    let mut bars = String::new();
    for mark in &series.points {
        if let Some((low, high)) = mark.spread {
            let ((x, low), (_, high)) = (place(mark.x, low), place(mark.x, high));
            let _ = write!(bars, "M{x} {low}V{high}");
        }
    }
    if !bars.is_empty() {
        let _ = write!(out, "<path d=\"{bars}\" fill=\"none\" stroke=\"{tint}\" stroke-width=\"4\"/>");
    }
    if series.marked {
        let size = if series.small || series.points.len() > 30 { 1.6 } else { 3.0 };
        for hollow in [true, false] {
            let marks = series.points.iter().filter(|mark| mark.hollow == hollow);
            write_marks(out, series, marks.map(|mark| place(mark.x, mark.y)), hollow, size);
        }
    }
    for mark in series.points.iter().filter(|mark| hovers && !mark.title.is_empty()) {
        let (x, y) = place(mark.x, mark.y);
        let _ = write!(out, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{}\" fill-opacity=\"0\">", px(6));
        let _ = write!(out, "<title>{}</title></circle>", escape(&mark.title));
    }
    out.push_str("</g>");
}

/// All marks of one kind as one path.
fn write_marks(out: &mut String, series: &Series, marks: impl Iterator<Item = (i32, i32)>, hollow: bool, size: f64) {
    let radius = size * f64::from(px(1));
    let r = radius.round() as i32;
    let stroked = matches!(series.style.shape, Shape::Cross | Shape::Plus);
    let mut path = String::new();
    for (x, y) in marks {
        let _ = match series.style.shape {
            Shape::Circle => write!(path, "M{} {y}a{r} {r} 0 1 0 {1} 0a{r} {r} 0 1 0 -{1} 0", x - r, 2 * r),
            Shape::Cross => write!(path, "M{} {}l{2} {2}m-{2} 0l{2} -{2}", x - r, y - r, 2 * r),
            Shape::Plus => write!(path, "M{} {y}h{2}M{x} {}v{2}", x - r, y - r, 2 * r),
            shape => {
                let corners = shape.outline(radius);
                let corner = |(index, (dx, dy)): (usize, &(i32, i32))| {
                    format!("{}{} {}", if index == 0 { "M" } else { "L" }, x + dx, y + dy)
                };
                path.extend(corners.iter().enumerate().map(corner));
                path.push('z');
                Ok(())
            }
        };
    }
    if path.is_empty() {
        return;
    }
    let tint = colour(series.style.colour);
    // A cross has no inside; thin strokes show that it is hollow.
    let (fill, width) = match (stroked, hollow) {
        (true, true) => ("none", 4),
        (true, false) => ("none", 8),
        (false, true) => ("#FFFFFF", 6),
        (false, false) => (tint.as_str(), 2),
    };
    let _ = write!(out, "<path d=\"{path}\" fill=\"{fill}\" stroke=\"{tint}\" stroke-width=\"{width}\"/>");
}

/// The names of the axes, once for all panels.
fn write_labels(out: &mut String, grid: &Grid) {
    let Some(first) = grid.facets.first() else { return };
    if !grid.own_x_labels() {
        write_text(out, &first.chart.x.label, (WIDTH / 2, grid.bottom() - 10), " text-anchor=\"middle\"");
    }
    let (x, y) = (px(14), px(grid.rows() * grid.row_height() / 2));
    let label = escape(&first.chart.y.label);
    let _ = write!(
        out,
        "<text x=\"{x}\" y=\"{y}\" fill=\"#222222\" text-anchor=\"middle\" transform=\"rotate(-90 {x} {y})\">{label}</text>"
    );
}

fn write_key(out: &mut String, index: usize, series: &Series, method: &str, (x, y): (i32, i32)) {
    let width = 36 + (CHARACTER * series.label.chars().count() as f64) as i32;
    let _ = write!(out, "<g class=\"key\" data-series=\"{index}\" data-method=\"{}\">", escape(method));
    let _ = write!(
        out,
        "<rect x=\"{}\" y=\"{}\" width=\"{}\" height=\"{}\" fill=\"none\" pointer-events=\"all\"/>",
        px(x - 2),
        px(y - 10),
        px(width),
        px(LEGEND_ROW)
    );
    let tint = colour(series.style.colour);
    if !series.bars.is_empty() {
        let (left, top, right, bottom) = (px(x + 5), px(y - 5), px(x + 19), px(y + 5));
        let path = format!("M{left} {bottom}V{top}H{right}V{bottom}z");
        let _ = write!(out, "<path d=\"{path}\" fill=\"{tint}\" fill-opacity=\"0.25\"/>");
    }
    if series.joined {
        let (dashes, y) = (dash(series.style.dash), px(y));
        let path = format!("M{} {y}H{}", px(x), px(x + 24));
        let _ = write!(out, "<path d=\"{path}\" fill=\"none\" stroke=\"{tint}\" stroke-width=\"6\"{dashes}/>");
    }
    if series.marked {
        let hollow = series.points.iter().all(|mark: &Mark| mark.hollow);
        write_marks(out, series, std::iter::once((px(x + 12), px(y))), hollow, 3.0);
    }
    write_text(out, &series.label, (x + 30, y + 4), "");
    out.push_str("</g>");
}
