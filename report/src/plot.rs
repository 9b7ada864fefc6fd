//! Charts as data. A [`Chart`] says what is drawn; `draw` turns it into SVG by plotters; figures build charts.

mod broken;
mod draw;
pub(crate) mod grid;
pub(crate) mod palette;

pub(crate) use broken::{Break, split};
pub(crate) use draw::{escape, svg};
pub(crate) use grid::{Facet, Grid};
pub(crate) use palette::{Shape, Style};

/// A chart of one panel: axes, and series from back to front.
#[derive(Debug, Default)]
pub(crate) struct Chart {
    /// Read by a screen reader, and the file's title.
    pub title: String,
    /// What the chart shows, in a sentence, for those who do not see it.
    pub alt: String,
    pub x: Axis,
    pub y: Axis,
    pub series: Vec<Series>,
    /// Vertical lines with a label on top, e.g. where a stage begins.
    pub marks: Vec<(f64, String)>,
    /// Height of the plot without its legend, in pixels; 0 for the usual 300.
    pub height: u32,
    /// Room for the labels of the y axis, in pixels; 0 for the usual 56.
    pub left: u32,
    /// The y axis of a second, lower panel on the same x axis. Points below `y` are drawn there.
    pub below: Option<Axis>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Axis {
    pub label: String,
    /// In data units; must not be empty.
    pub range: (f64, f64),
    /// Places and their labels.
    pub ticks: Vec<(f64, String)>,
}

/// A line, marks, or both; bars if it has them. One legend entry.
#[derive(Clone, Debug, Default)]
pub(crate) struct Series {
    pub label: String,
    /// The suite's method, for the page's filter; empty for none.
    pub method: String,
    pub style: Style,
    /// Joined by a line where `joined`.
    pub points: Vec<Mark>,
    pub joined: bool,
    pub marked: bool,
    /// Filled bars from zero: (low, high, height).
    pub bars: Vec<(f64, f64, f64)>,
    /// Small marks, where there are hundreds.
    pub small: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Mark {
    pub x: f64,
    pub y: f64,
    /// Ends of an error bar.
    pub spread: Option<(f64, f64)>,
    /// Drawn as an outline: a single seed, or a published number.
    pub hollow: bool,
    /// The outline dashed: published, not measured here.
    pub dashed: bool,
    /// Shown on hover.
    pub title: String,
}

impl Axis {
    /// About five round ticks over values, with a little room at both ends.
    pub fn fit(label: &str, values: impl IntoIterator<Item = f64>, format: impl Fn(f64) -> String) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.into_iter().filter(|value| value.is_finite()) {
            (low, high) = (low.min(value), high.max(value));
        }
        if low > high {
            (low, high) = (0.0, 1.0);
        }
        let room = match high - low {
            0.0 => (0.01 * high.abs()).max(1e-3),
            span => 0.06 * span,
        };
        let range = (low - room, high + room);
        let step = round_step((range.1 - range.0) / 5.0);
        let first = (range.0 / step).ceil();
        // Values beyond what a float can tell apart get an axis without ticks, not an endless one.
        let count = ((range.1 / step).floor() - first).clamp(-1.0, 12.0);
        let count = if step > 0.0 && count.is_finite() { (count + 1.0) as usize } else { 0 };
        let ticks = (0..count).map(|k| (first + k as f64) * step).map(|tick| (tick, format(tick))).collect();
        Self { label: label.into(), range, ticks }
    }

    /// Whole numbers, each with a tick as long as there are few.
    pub fn whole(label: &str, low: usize, high: usize) -> Self {
        let step = (high - low).div_ceil(10).max(1);
        let ticks = (low..=high).step_by(step).map(|tick| (tick as f64, tick.to_string())).collect();
        Self { label: label.into(), range: (low as f64 - 0.4, high as f64 + 0.4), ticks }
    }

    /// Powers of ten (and 2 and 5, or any round number, where the range is short) over values given as their logarithms.
    pub fn log10(label: &str, logs: impl IntoIterator<Item = f64>, format: impl Fn(f64) -> String + Copy) -> Self {
        let mut axis = Self::fit(label, logs, |_| String::new());
        let (low, high) = axis.range;
        let decades = (low.floor() as i32)..=(high.ceil() as i32);
        let steps: &[f64] = if high - low < 2.0 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        axis.ticks = decades
            .flat_map(|decade| steps.iter().map(move |step| step * 10f64.powi(decade)))
            .map(|value| (value.log10(), format(value)))
            .filter(|(log, _)| (low..=high).contains(log))
            .collect();
        if axis.ticks.len() < 3 {
            let linear = Self::fit(label, [10f64.powf(low), 10f64.powf(high)], format);
            let ticks = linear.ticks.into_iter().filter(|(value, _)| *value > 0.0);
            axis.ticks = ticks
                .map(|(value, label)| (value.log10(), label))
                .filter(|(log, _)| (low..=high).contains(log))
                .collect();
        }
        axis
    }
}

/// 1, 2 or 5 times a power of ten, at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|factor| factor * power >= step * (1.0 - 1e-9));
    factor.unwrap_or(10.0) * power
}

/// A number as short as it can be on an axis: `0.05`, `1.5`, `20`, `3e6`.
pub(crate) fn short(value: f64) -> String {
    let rounded = (value * 1e6).round() / 1e6;
    match rounded.abs() {
        0.0 if value != 0.0 => format!("{value:.0e}"),
        size if size >= 1e5 => format!("{value:.0e}"),
        _ => format!("{}", rounded + 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = Axis::fit("y", [0.9312, 0.9758], short);
        let labels: Vec<&str> = axis.ticks.iter().map(|(_, label)| label.as_str()).collect();
        assert_eq!(labels, ["0.93", "0.94", "0.95", "0.96", "0.97"]);
        assert!(axis.range.0 < 0.9312 && axis.range.1 > 0.9758);
        assert!(!Axis::fit("y", [0.5], short).ticks.is_empty());
        assert!(!Axis::fit("y", [f64::NAN], short).ticks.is_empty());
    }

    #[test]
    fn a_log_axis_has_decades() {
        let axis = Axis::log10("x", [0.3, 4.2], short);
        assert_eq!(
            axis.ticks.iter().map(|(_, label)| label.as_str()).collect::<Vec<_>>(),
            ["10", "100", "1000", "10000"]
        );
    }
}
