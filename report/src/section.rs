//! The report's contents, before they become HTML or Markdown: sections of paragraphs, figures and tables. Every text
//! here is plain and unescaped; the two writers escape it.

pub(crate) mod accuracy;
pub(crate) mod audit;
pub(crate) mod cells;
pub(crate) mod classes;
pub(crate) mod comparison;
pub(crate) mod cost;
pub(crate) mod deviations;
pub(crate) mod fidelity;
pub(crate) mod glance;
pub(crate) mod loss;
pub(crate) mod neurons;
pub(crate) mod published;
pub(crate) mod summary;
pub(crate) mod temperature;

use anyhow::Result;

use crate::plot::{self, Chart, Grid};
use crate::series::Panel;

/// One chapter of the report.
#[derive(Debug, Default)]
pub(crate) struct Section {
    /// Anchor.
    pub id: &'static str,
    pub title: &'static str,
    pub blocks: Vec<Block>,
}

#[derive(Debug)]
pub(crate) enum Block {
    Text(String),
    Code(String),
    List(Vec<String>),
    Figures(Vec<Figure>),
    /// Figures behind their caption until opened.
    Folded(String, Vec<Figure>),
    Table(Table),
}

/// A plot; also a file of its own.
#[derive(Debug)]
pub(crate) struct Figure {
    /// File name without its ending.
    pub name: String,
    pub caption: String,
    pub svg: String,
    /// For the filter; empty for none.
    pub dataset: String,
}

#[derive(Debug, Default)]
pub(crate) struct Table {
    pub caption: String,
    pub columns: Vec<Column>,
    pub rows: Vec<Row>,
    /// Behind its caption until opened.
    pub collapsed: bool,
}

#[derive(Debug)]
pub(crate) struct Column {
    pub title: String,
    /// Explained on hover.
    pub hint: &'static str,
    pub numeric: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Row {
    pub anchor: String,
    /// For the filters; empty for none.
    pub dataset: String,
    pub method: String,
    pub cells: Vec<Cell>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Cell {
    pub text: String,
    /// What a sort goes by, where it is not the text.
    pub sort: Option<f64>,
    /// An anchor in the report.
    pub link: String,
    /// A small word beside the text: `simulated`, `UNVERIFIED`.
    pub tag: &'static str,
    /// Colours a verdict: `good`, `bad`, `open`.
    pub class: &'static str,
}

impl Section {
    pub fn new(id: &'static str, title: &'static str) -> Self {
        Self { id, title, blocks: Vec::new() }
    }

    pub fn text(&mut self, text: impl Into<String>) {
        self.blocks.push(Block::Text(text.into()));
    }

    /// Adds figures, if there are any. Of many, all but the first few are folded away.
    pub fn figures(&mut self, mut figures: Vec<Figure>) {
        let folded = if figures.len() > 6 { figures.split_off(4) } else { Vec::new() };
        if !figures.is_empty() {
            self.blocks.push(Block::Figures(figures));
        }
        if !folded.is_empty() {
            self.blocks.push(Block::Folded(format!("{} more plots", folded.len()), folded));
        }
    }

    /// Adds small multiples, if there are panels to draw.
    pub fn grid(&mut self, name: &str, caption: impl Into<String>, grid: Grid) {
        if !grid.facets.is_empty() {
            self.blocks.push(Block::Figures(vec![Figure::of_grid(name, caption, grid)]));
        }
    }

    /// A table that has rows.
    pub fn table(&mut self, table: Table) {
        if !table.rows.is_empty() {
            self.blocks.push(Block::Table(table));
        }
    }
}

impl Figure {
    /// Draws a chart of a panel.
    pub fn of_panel(panel: &Panel, name: &str, caption: String, chart: &Chart) -> Result<Self> {
        let svg = plot::svg(chart)?;
        let name = format!("{name}-{}", panel.slug);
        Ok(Self { name, caption, svg, dataset: panel.dataset.clone() })
    }

    /// Draws small multiples. A figure whose panels all belong to one data set follows the page's filter.
    pub fn of_grid(name: &str, caption: impl Into<String>, grid: Grid) -> Self {
        let mut datasets = grid.facets.iter().map(|facet| facet.dataset.as_str());
        let first = datasets.next().unwrap_or_default();
        let dataset = if datasets.all(|other| other == first) { first.to_string() } else { String::new() };
        Self { name: name.into(), caption: caption.into(), svg: plot::grid::svg(grid), dataset }
    }

    /// Whether the figure takes the full width of the page.
    pub fn is_wide(&self) -> bool {
        self.svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"wide\"")
    }
}

impl Column {
    pub fn text(title: impl Into<String>) -> Self {
        Self { title: title.into(), hint: "", numeric: false }
    }

    pub fn number(title: impl Into<String>) -> Self {
        Self { title: title.into(), hint: "", numeric: true }
    }

    pub fn hint(self, hint: &'static str) -> Self {
        Self { hint, ..self }
    }
}

impl Row {
    pub fn of(dataset: &str, method: &str, cells: Vec<Cell>) -> Self {
        Self { anchor: String::new(), dataset: dataset.into(), method: method.into(), cells }
    }
}

impl Cell {
    pub fn text(text: impl Into<String>) -> Self {
        Self { text: text.into(), ..Self::default() }
    }

    /// A number with its text; a dash where it was not measured.
    pub fn number(value: Option<f64>, format: impl Fn(f64) -> String) -> Self {
        Self { text: value.map_or_else(|| "–".into(), format), sort: value, ..Self::default() }
    }

    pub fn count(value: usize) -> Self {
        Self::number(Some(value as f64), |_| value.to_string())
    }

    pub fn link(self, anchor: impl Into<String>) -> Self {
        Self { link: anchor.into(), ..self }
    }

    pub fn tag(self, tag: &'static str) -> Self {
        Self { tag, ..self }
    }

    pub fn class(self, class: &'static str) -> Self {
        Self { class, ..self }
    }

    /// Says "simulated" beside a number of a simulated data set.
    pub fn of_panel(self, panel: &Panel) -> Self {
        if panel.simulated() { self.tag("simulated") } else { self }
    }
}

impl Table {
    /// The name of the file that the page offers for download, from the caption without its remark in parentheses.
    pub fn file_name(&self) -> String {
        let caption = self.caption.split(['(', ';']).next().unwrap_or_default();
        match crate::series::slug(caption) {
            name if name.is_empty() => "table.csv".into(),
            name => format!("{name}.csv"),
        }
    }

    /// Keeps the first [`LONGEST`] rows, and says so: a page must stay light, and the file has them all.
    pub fn capped(mut self, file: &str) -> Self {
        let count = self.rows.len();
        if count > LONGEST {
            self.rows.truncate(LONGEST);
            self.caption += &format!(" (first {LONGEST} of {count} rows; {file} has all)");
        }
        self
    }
}

/// Rows of a detailed table at most.
const LONGEST: usize = 250;

/// A fraction as percent with two decimals: `97.60`.
pub(crate) fn percent(fraction: f64) -> String {
    format!("{:.2}", 100.0 * fraction)
}

/// A difference of fractions in points, with its sign: `+0.12`.
pub(crate) fn points(difference: f64) -> String {
    let text = format!("{:+.2}", 100.0 * difference);
    if text == "-0.00" { "+0.00".into() } else { text.replace('-', "−") }
}

/// `[92.99, 94.33]`.
pub(crate) fn interval((low, high): (f64, f64)) -> String {
    format!("[{:.2}, {:.2}]", 100.0 * low, 100.0 * high).replace('-', "−")
}

/// Seconds as `12 s`, `3.4 min`, `5.6 h`.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 100.0 => format!("{s:.1} s"),
        s if s < 6000.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// Says how many panels of a figure were left out and which file has their numbers; empty if none was.
pub(crate) fn left_out(count: usize, file: &str) -> String {
    match count {
        0 => String::new(),
        1 => format!(" One more panel is left out; {file} has its numbers."),
        count => format!(" {count} more panels are left out; {file} has their numbers."),
    }
}

/// A panel's data set, and what sets its protocol apart from another one of the same data set.
pub(crate) fn panel_label(panel: &Panel) -> String {
    let simulated = if panel.simulated() { " (simulated)" } else { "" };
    format!("{}{simulated}", panel.name)
}

/// Anchor of a cell's row.
pub(crate) fn cell_anchor(cell_id: &str) -> String {
    format!("cell-{}", crate::series::whole_slug(cell_id))
}
