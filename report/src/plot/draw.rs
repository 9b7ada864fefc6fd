//! A [`Chart`] to SVG. Each series is drawn on a layer of its own, over the same axes, so that it can stand in a `<g>`
//! that the page's filter hides and a dash pattern applies to.

use std::fmt::Write as _;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::palette::{GRAY, GRID, INK, PAPER};
use super::{Axis, Chart, Mark, Series, Shape};

/// Height of the lower panel of a broken axis, without the labels of the x axis.
const BELOW: u32 = 84;
/// Room between the two panels of a broken axis.
const GAP: u32 = 12;

/// plotters places everything on whole pixels; drawing at four times the size keeps lines true in print.
const SCALE: u32 = 4;
/// Width of every chart, in pixels: one column of a paper, and readable on a phone.
const WIDTH: u32 = 500;
const TOP: u32 = 18;
const RIGHT: u32 = 14;
const BOTTOM: u32 = 46;
const LEGEND_ROW: u32 = 20;
/// plotters asks for 1.24 times the size that it then writes.
const FONT: f64 = 12.5 * 1.24 * SCALE as f64;
/// Pixels a character of a legend may take at [`FONT`].
const CHARACTER: f64 = 7.0;
const RADIUS: f64 = 4.5;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Context<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Axis, Axis>>;

/// A standalone SVG file, which can also stand inline in HTML. Deterministic; every text is escaped.
pub(crate) fn svg(chart: &Chart) -> Result<String> {
    let legend = Legend::of(chart);
    let height = chart.height() + legend.height();
    let size = (WIDTH * SCALE, height * SCALE);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0} {1}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" aria-label=\"{2}\"><title>{3}</title>\
         <rect class=\"paper\" width=\"{0}\" height=\"{1}\" fill=\"#FFFFFF\"/>",
        size.0,
        size.1,
        escape(&chart.alt),
        escape(&chart.title)
    );
    out += &layer(size, |root| axes(chart, root))?;
    for (index, series) in chart.series.iter().enumerate() {
        write!(out, "<g data-series=\"{index}\" data-method=\"{}\">", escape(&series.method))?;
        for frame in chart.frames() {
            write_series(&mut out, chart, &chart.part(series, *frame), *frame, size)?;
        }
        out.push_str("</g>");
    }
    legend.write(chart, size, &mut out)?;
    out.push_str("</svg>\n");
    Ok(out)
}

/// The line, the bars and the marks of a series in one panel.
fn write_series(out: &mut String, chart: &Chart, series: &Series, frame: Frame, size: (u32, u32)) -> Result<()> {
    if series.joined || !series.bars.is_empty() {
        let dash = dash(series.style.dash);
        write!(out, "<g{dash}>{}</g>", layer(size, |root| line(chart, series, frame, root))?)?;
    }
    for dashed in [false, true] {
        if series.points.iter().any(|mark| mark.dashed == dashed && (series.marked || !mark.title.is_empty())) {
            let pattern = dash(if dashed { "2 2" } else { "" });
            let (drawn, hovers) = marks(chart, series, dashed, frame, size)?;
            write!(out, "<g{pattern}>{drawn}</g>{hovers}")?;
        }
    }
    Ok(())
}

/// A dash pattern in unscaled pixels, as an attribute.
pub(super) fn dash(pattern: &str) -> String {
    let lengths: Vec<String> =
        pattern.split_whitespace().filter_map(|length| Some(px(length.parse().ok()?).to_string())).collect();
    if lengths.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{}\"", lengths.join(" ")) }
}

/// Pixels of the finished chart to those that it is drawn in.
pub(super) fn px(pixels: i32) -> i32 {
    pixels * SCALE as i32
}

fn stroke(colour: RGBColor, width: u32) -> ShapeStyle {
    colour.stroke_width(width * SCALE)
}

pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Not allowed in XML at all.
            c if c.is_control() && !matches!(c, '\n' | '\t') => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}

/// What `draw` puts on an empty backend, without the `<svg>` around it.
fn layer(size: (u32, u32), draw: impl FnOnce(&Area) -> Result<()>) -> Result<String> {
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&root)?;
        root.present().map_err(failed)?;
    }
    let start = text.find('>').map_or(0, |end| end + 1);
    let end = text.rfind("</svg>").unwrap_or(text.len());
    // plotters escapes markup, but lets through what XML cannot hold at all.
    let legal = |c: char| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{FFFD}' } else { c };
    Ok(text[start..end].trim().chars().map(legal).collect())
}

fn failed(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("drawing a plot: {error}")
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let (low, high) = self.range;
        // What is not finite, or lies outside by a rounding error, lands on an edge.
        let share = ((value - low) / (high - low)).clamp(-0.05, 1.05);
        first + (f64::from(last - first) * if share.is_nan() { 0.0 } else { share }).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.iter().map(|(place, _)| *place).collect()
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.range.0..self.range.1
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        self.ticks.iter().find(|(tick, _)| tick == value).map_or_else(String::new, |(_, label)| label.clone())
    }
}

/// One of the panels of a chart: a broken axis has two.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Frame {
    Whole,
    Above,
    Below,
}

impl Chart {
    fn height(&self) -> u32 {
        let whole = if self.height == 0 { 300 } else { self.height };
        whole + if self.below.is_some() { BELOW + GAP } else { 0 }
    }

    fn frames(&self) -> &'static [Frame] {
        if self.below.is_some() { &[Frame::Above, Frame::Below] } else { &[Frame::Whole] }
    }

    /// The y axis of a panel.
    fn axis(&self, frame: Frame) -> &Axis {
        self.below.as_ref().filter(|_| frame == Frame::Below).unwrap_or(&self.y)
    }

    /// The points of a series that belong to a panel. A line is not joined across the break.
    fn part(&self, series: &Series, frame: Frame) -> Series {
        let low = self.y.range.0;
        let belongs = |mark: &&Mark| match frame {
            Frame::Whole => true,
            Frame::Above => mark.y >= low,
            Frame::Below => mark.y < low,
        };
        Series { points: series.points.iter().filter(belongs).cloned().collect(), ..series.clone() }
    }

    fn left(&self) -> u32 {
        if self.left == 0 { 58 } else { self.left }
    }

    fn context<'a, 'b>(&self, root: &'a Area<'b>, frame: Frame) -> Result<Context<'a, 'b>> {
        let legend = root.dim_in_pixel().1 - self.height() * SCALE;
        // The upper panel has no labels below it: they stand below the lower one.
        let (top, bottom, labels) = match frame {
            Frame::Whole => (TOP, 0, BOTTOM),
            Frame::Above => (TOP, BOTTOM + BELOW + GAP, 0),
            Frame::Below => (self.height() - BOTTOM - BELOW, 0, BOTTOM),
        };
        let bottom = legend + bottom * SCALE;
        ChartBuilder::on(root)
            .margin_top(top * SCALE)
            .margin_left(5 * SCALE)
            .margin_right(RIGHT * SCALE)
            .margin_bottom(bottom)
            .set_label_area_size(LabelAreaPosition::Left, self.left() * SCALE)
            .set_label_area_size(LabelAreaPosition::Bottom, labels * SCALE)
            .build_cartesian_2d(self.x.clone(), self.axis(frame).clone())
            .map_err(failed)
    }
}

fn axes(chart: &Chart, root: &Area) -> Result<()> {
    for frame in chart.frames() {
        axes_of(chart, *frame, root)?;
    }
    if chart.below.is_some() {
        break_marks(chart, root)?;
    }
    Ok(())
}

/// Two slanted strokes on the y axis where it is broken.
fn break_marks(chart: &Chart, root: &Area) -> Result<()> {
    let (x, y) = chart.context(root, Frame::Above)?.backend_coord(&(chart.x.range.0, chart.y.range.0));
    for shift in [px(2), px(GAP as i32 - 2)] {
        let y = y + shift;
        let path = PathElement::new([(x - px(6), y + px(3)), (x + px(6), y - px(3))], stroke(GRAY, 1));
        root.draw(&path).map_err(failed)?;
    }
    Ok(())
}

fn axes_of(chart: &Chart, frame: Frame, root: &Area) -> Result<()> {
    let mut context = chart.context(root, frame)?;
    let x_label = if frame == Frame::Above { "" } else { &chart.x.label };
    context
        .configure_mesh()
        .disable_x_mesh()
        .bold_line_style(stroke(GRID, 1))
        .light_line_style(TRANSPARENT)
        .axis_style(stroke(GRAY, 1))
        .set_all_tick_mark_size(px(4))
        .label_style(("sans-serif", FONT, &INK))
        .axis_desc_style(("sans-serif", FONT, &INK))
        .x_desc(x_label)
        .y_desc(&chart.axis(frame).label)
        .draw()
        .map_err(failed)?;
    let (low, high) = chart.axis(frame).range;
    for (place, label) in chart.marks.iter().filter(|_| frame != Frame::Below) {
        context
            .draw_series(std::iter::once(PathElement::new(vec![(*place, low), (*place, high)], stroke(GRID, 1))))
            .map_err(failed)?;
        let (x, y) = context.backend_coord(&(*place, high));
        text(root, label, (x, y - px(4)), HPos::Center)?;
    }
    Ok(())
}

fn text(root: &Area, label: &str, at: (i32, i32), side: HPos) -> Result<()> {
    let style = TextStyle::from(("sans-serif", FONT).into_font()).color(&INK).pos(Pos::new(side, VPos::Bottom));
    root.draw_text(label, &style, at).map_err(failed)
}

fn line(chart: &Chart, series: &Series, frame: Frame, root: &Area) -> Result<()> {
    let mut context = chart.context(root, frame)?;
    let colour = series.style.colour;
    let bars = series
        .bars
        .iter()
        .map(|&(low, high, top)| Rectangle::new([(low, 0.0), (high, top)], colour.mix(0.25).filled()));
    context.draw_series(bars).map_err(failed)?;
    if series.joined {
        let points = series.points.iter().map(|mark| (mark.x, mark.y));
        context.draw_series(LineSeries::new(points, stroke(colour, 2))).map_err(failed)?;
    }
    Ok(())
}

/// The marks whose outline is (or is not) dashed, and invisible discs that show a text on hover.
fn marks(chart: &Chart, series: &Series, dashed: bool, frame: Frame, size: (u32, u32)) -> Result<(String, String)> {
    let mut hovers = String::new();
    let drawn = layer(size, |root| {
        let context = chart.context(root, frame)?;
        for mark in series.points.iter().filter(|mark| mark.dashed == dashed) {
            let at = context.backend_coord(&(mark.x, mark.y));
            if let Some((low, high)) = mark.spread {
                let range = chart.axis(frame).range;
                let ends = [low, high].map(|end| {
                    let inside = end.clamp(range.0, range.1);
                    (context.backend_coord(&(mark.x, inside)).1, end == inside)
                });
                error_bar(root, at.0, ends, series)?;
            }
            if series.marked {
                symbol(root, series, mark, at)?;
            }
            if !mark.title.is_empty() {
                let (x, y) = at;
                write!(hovers, "<circle cx=\"{x}\" cy=\"{y}\" r=\"{}\" fill=\"#000\" fill-opacity=\"0\">", px(8))?;
                write!(hovers, "<title>{}</title></circle>", escape(&mark.title))?;
            }
        }
        Ok(())
    })?;
    Ok((drawn, hovers))
}

/// A bar whose ends are capped, unless the bar runs on beyond the axis there.
fn error_bar(root: &Area, x: i32, ends: [(i32, bool); 2], series: &Series) -> Result<()> {
    let (style, cap) = (stroke(series.style.colour, 1), px(3));
    let bar = PathElement::new([(x, ends[0].0), (x, ends[1].0)], style);
    root.draw(&bar).map_err(failed)?;
    for (y, _) in ends.into_iter().filter(|(_, capped)| *capped) {
        root.draw(&PathElement::new([(x - cap, y), (x + cap, y)], style)).map_err(failed)?;
    }
    Ok(())
}

fn symbol(root: &Area, series: &Series, mark: &Mark, (x, y): (i32, i32)) -> Result<()> {
    let colour = series.style.colour;
    let edge = stroke(colour, if mark.hollow && !series.small { 2 } else { 1 });
    let fill = if mark.hollow { PAPER } else { colour };
    let radius = RADIUS * f64::from(SCALE) * if series.small { 0.5 } else { 1.0 };
    let r = radius.round() as i32;
    let draw = |path: Vec<(i32, i32)>, style: ShapeStyle| root.draw(&PathElement::new(path, style)).map_err(failed);
    match series.style.shape {
        Shape::Circle => {
            root.draw(&Circle::new((x, y), r, fill.filled())).map_err(failed)?;
            root.draw(&Circle::new((x, y), r, edge)).map_err(failed)?;
        }
        // Strokes have no inside: a hollow cross is one within a hollow square.
        shape @ (Shape::Cross | Shape::Plus) => {
            if mark.hollow {
                let corners = Shape::Square.outline(radius * 1.3);
                root.draw(&Polygon::new(moved(&corners, (x, y)), fill)).map_err(failed)?;
                draw(closed(&corners, (x, y)), stroke(colour, 1))?;
            }
            let (a, b) = if shape == Shape::Cross { ((r, r), (r, -r)) } else { ((r + px(1), 0), (0, r + px(1))) };
            for (dx, dy) in [a, b] {
                draw(vec![(x - dx, y - dy), (x + dx, y + dy)], stroke(colour, 2))?;
            }
        }
        shape => {
            let corners = shape.outline(radius);
            root.draw(&Polygon::new(moved(&corners, (x, y)), fill)).map_err(failed)?;
            draw(closed(&corners, (x, y)), edge)?;
        }
    }
    Ok(())
}

fn moved(corners: &[(i32, i32)], (x, y): (i32, i32)) -> Vec<(i32, i32)> {
    corners.iter().map(|(dx, dy)| (x + dx, y + dy)).collect()
}

fn closed(corners: &[(i32, i32)], at: (i32, i32)) -> Vec<(i32, i32)> {
    let mut path = moved(corners, at);
    path.extend(path.first().copied());
    path
}

/// The legend under the chart: as many columns as the longest label allows.
struct Legend<'a> {
    series: Vec<&'a Series>,
    columns: usize,
}

impl<'a> Legend<'a> {
    fn of(chart: &'a Chart) -> Self {
        let series: Vec<&Series> = chart.series.iter().collect();
        let longest = series.iter().map(|series| series.label.chars().count()).max().unwrap_or(0);
        let room = f64::from(WIDTH) - 28.0;
        let columns = (room / (46.0 + CHARACTER * longest as f64)).floor() as usize;
        Self { columns: columns.clamp(1, 4), series }
    }

    fn height(&self) -> u32 {
        self.series.len().div_ceil(self.columns) as u32 * LEGEND_ROW + if self.series.is_empty() { 4 } else { 14 }
    }

    fn write(&self, chart: &Chart, size: (u32, u32), out: &mut String) -> Result<()> {
        let rows = self.series.len().div_ceil(self.columns).max(1);
        let column = (WIDTH as usize - 28) / self.columns;
        for (index, series) in self.series.iter().enumerate() {
            let x = px((14 + index / rows * column) as i32);
            let y = px((chart.height() + 17 + (index % rows) as u32 * LEGEND_ROW) as i32);
            write!(out, "<g class=\"key\" data-series=\"{index}\" data-method=\"{}\">", escape(&series.method))?;
            let width = px(36 + (CHARACTER * series.label.chars().count() as f64) as i32);
            let (top, height) = (y - px(10), px(LEGEND_ROW as i32));
            write!(
                out,
                "<rect x=\"{x}\" y=\"{top}\" width=\"{width}\" height=\"{height}\" fill=\"none\" \
                 pointer-events=\"all\"/>"
            )?;
            if series.joined {
                let line = |root: &Area| {
                    let path = PathElement::new([(x, y), (x + px(30), y)], stroke(series.style.colour, 2));
                    root.draw(&path).map_err(failed)
                };
                write!(out, "<g{}>{}</g>", dash(series.style.dash), layer(size, line)?)?;
            }
            let mark = series.points.iter().find(|mark| mark.hollow).or(series.points.first());
            let mark = Mark { spread: None, ..mark.cloned().unwrap_or_default() };
            let all_hollow = series.points.iter().all(|mark| mark.hollow);
            let mark = Mark { hollow: all_hollow, ..mark };
            let symbol = layer(size, |root| {
                if !series.bars.is_empty() {
                    let block = Rectangle::new(
                        [(x + px(8), y - px(5)), (x + px(22), y + px(5))],
                        series.style.colour.mix(0.25).filled(),
                    );
                    root.draw(&block).map_err(failed)?;
                }
                if series.marked { symbol(root, series, &mark, (x + px(15), y)) } else { Ok(()) }
            })?;
            let dashed = dash(if mark.dashed { "2 2" } else { "" });
            let label = layer(size, |root| text(root, &series.label, (x + px(36), y + px(6)), HPos::Left))?;
            write!(out, "<g{dashed}>{symbol}</g>{label}</g>")?;
        }
        Ok(())
    }
}
