//! Puts a result folder's plot and table into a Markdown file, between two comments.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::markdown::{escape, table_text};
use crate::model::Model;
use crate::record::write_atomic;
use crate::render::render_against;
use crate::section::{Cell, Column, Row, Table, percent};
use crate::series::{Panel, Point};
use crate::verdict::time_steps;

const BEGIN: &str = "<!-- report:begin -->";
const END: &str = "<!-- report:end -->";

/// Renders `from_dir` (against `published`, where given) and replaces what stands between `<!-- report:begin -->` and `<!-- report:end -->` in a Markdown
/// file by its plots, one table a data set, the machine and the command. The comments stay.
///
/// Errors: a comment that is absent, doubled or out of order; what [`render_against`] refuses.
pub fn splice(markdown_file: &Path, from_dir: &Path, published: Option<&Path>) -> Result<()> {
    let shown = markdown_file.display();
    let text = std::fs::read_to_string(markdown_file).with_context(|| format!("reading {shown}"))?;
    let places = |mark: &str| text.match_indices(mark).map(|(place, _)| place).collect::<Vec<_>>();
    let (begin, end) = match (places(BEGIN).as_slice(), places(END).as_slice()) {
        (&[begin], &[end]) if begin < end => (begin + BEGIN.len(), end),
        _ => bail!(
            "{shown}: expected one line `{BEGIN}` and after it one line `{END}`; put them where the table shall stand"
        ),
    };
    render_against(from_dir, published)?;
    let plots = relative(markdown_file, &from_dir.join("report"))?;
    let block = block(&Model::load(from_dir, published)?, &plots);
    let spliced = format!("{}\n{block}{}", &text[..begin], &text[end..]);
    write_atomic(markdown_file, spliced.as_bytes())
}

fn block(model: &Model, plots: &str) -> String {
    let mut out = String::new();
    if let Some(banner) = model.results.plan.as_ref().and_then(|plan| plan.banner.as_ref()) {
        out += &format!("> {}\n\n", escape(banner));
    }
    for panel in model.drawn() {
        out += &format!(
            "![Accuracy over time steps, {}](<{plots}/accuracy-{}.svg>)\n\n",
            escape(&panel.title()),
            panel.slug
        );
        out += &table_text(&pivot(panel));
        out.push('\n');
    }
    let row = model.results.rows.iter().find(|row| row.cpu.is_some() || row.gpu.is_some());
    if let Some(row) = row {
        let device = row.gpu.as_deref().or(row.cpu.as_deref()).unwrap_or("unknown");
        let threads = row.threads.map_or_else(String::new, |threads| format!(", {threads} threads"));
        let kernels = row.numerics.as_deref().unwrap_or("unknown");
        out += &format!("Machine: {}{threads}, kernels {}. ", escape(device), escape(kernels));
    }
    if let Some(command) = model.command() {
        out += &format!("Command: `{}`. ", command.replace('`', "'"));
    }
    out + &format!("Full report: [{plots}](<{plots}/report.md>).\n")
}

/// Methods down, T across: mean ± standard deviation, and the seeds where they are not all alike.
fn pivot(panel: &Panel) -> Table {
    let times: BTreeSet<Option<usize>> =
        panel.lines.iter().flat_map(|line| &line.points).map(|point| point.time_steps).collect();
    let heads = times.iter().rev().map(|time| match time {
        Some(_) => Column::number(format!("T = {}", time_steps(*time))),
        None => Column::number("no T"),
    });
    let columns = std::iter::once(Column::text("method")).chain(heads).collect();
    let cell = |point: Option<&Point>| {
        let text = |point: &Point| {
            let deviation = point.top1.std.map_or_else(String::new, |std| format!(" ± {}", percent(std)));
            format!("{}{deviation} (n = {})", percent(point.top1.mean), point.top1.n)
        };
        Cell::text(point.map_or_else(|| "–".into(), text))
    };
    let rows = panel.lines.iter().map(|line| {
        let cells = times.iter().rev().map(|time| match line.at(*time) {
            Some(point) => cell(Some(point)).of_panel(panel),
            None => cell(None),
        });
        Row::of("", "", std::iter::once(Cell::text(line.label())).chain(cells).collect())
    });
    let caption = format!("Top-1 accuracy after the last epoch, %: {}", panel.title());
    Table { caption, columns, rows: rows.collect(), collapsed: false }
}

/// The way from a file to a folder, as a URL path.
fn relative(file: &Path, folder: &Path) -> Result<String> {
    let absolute = |path: &Path| path.canonicalize().with_context(|| format!("finding {}", path.display()));
    let (file, folder) = (absolute(file)?, absolute(folder)?);
    let from: Vec<Component> = file.parent().unwrap_or(Path::new("/")).components().collect();
    let to: Vec<Component> = folder.components().collect();
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let mut way = PathBuf::new();
    way.extend(std::iter::repeat_n("..", from.len() - common));
    way.extend(&to[common..]);
    let text = way.to_string_lossy();
    Ok(text.bytes().map(url_byte).collect())
}

fn url_byte(byte: u8) -> String {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    }
}
