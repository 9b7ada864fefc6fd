//! Writes a result folder's report.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::claims;
use crate::html::html;
use crate::markdown::markdown;
use crate::model::Model;
use crate::page::Page;
use crate::record::write_derived;
use crate::results::folder_of;

/// What [`render`] wrote.
#[derive(Debug)]
pub struct Rendered {
    /// `report/index.html`, self-contained.
    pub html: PathBuf,
    /// `report/report.md`.
    pub markdown: PathBuf,
    /// `report/*.svg`, and with the feature `png` the unfolded ones as `*.png` too.
    pub plots: Vec<PathBuf>,
    /// What was and was not shown, for a terminal.
    pub summary: String,
}

/// `manifest.json`: what the report was made from, and its files. No date: the same folder gives the same bytes.
#[derive(Serialize)]
struct Manifest<'a> {
    report_version: &'static str,
    suite: &'a str,
    command: Option<&'a str>,
    inputs: Vec<Input<'a>>,
    files: Vec<&'a str>,
}

#[derive(Serialize)]
struct Input<'a> {
    file: &'a str,
    rows: usize,
}

/// Writes `DIR/report/` from the CSV files in `DIR` (or beside a file of rows): `index.html`, `report.md`, `claims.json`, the plots and `manifest.json`,
/// each atomically and the manifest last. Plots of an earlier report that this one lacks are removed.
///
/// Errors: no result folder, a damaged file (with line and column), or a folder that cannot be written.
pub fn render(dir: &Path) -> Result<Rendered> {
    render_against(dir, None)
}

/// As [`render`], against the published numbers of another file.
pub fn render_against(dir: &Path, published: Option<&Path>) -> Result<Rendered> {
    write(&Model::load(dir, published)?, &folder_of(dir).join("report"))
}

/// As [`render_against`], of several folders in one report, which is written to `out`. Their rows share no mean.
pub fn render_together(dirs: &[&Path], out: &Path, published: Option<&Path>) -> Result<Rendered> {
    write(&Model::load_together(dirs, published)?, out)
}

fn write(model: &Model, folder: &Path) -> Result<Rendered> {
    let page = Page::of(model)?;
    let mut names: Vec<String> = Vec::new();
    let mut write = |name: String, bytes: &[u8]| -> Result<PathBuf> {
        let path = folder.join(&name);
        write_derived(&path, bytes)?;
        names.push(name);
        Ok(path)
    };
    let mut plots = Vec::new();
    for figure in page.figures() {
        plots.push(write(format!("{}.svg", figure.name), figure.svg.as_bytes())?);
    }
    #[cfg(feature = "png")]
    {
        let painter = crate::png::Painter::new()?;
        for figure in page.open_figures() {
            plots.push(write(format!("{}.png", figure.name), &painter.png(&figure.svg)?)?);
        }
    }
    let markdown = write("report.md".into(), markdown(&page).as_bytes())?;
    let html = write("index.html".into(), html(&page)?.as_bytes())?;
    let verdicts = claims::gather(&model.published, &model.published_from, &model.results, &model.verdicts);
    write("claims.json".into(), &serde_json::to_vec_pretty(&verdicts)?)?;
    remove_stale_plots(folder, &names).with_context(|| format!("cleaning {}", folder.display()))?;
    let inputs = model.results.inputs.iter().map(|(file, rows)| Input { file, rows: *rows }).collect();
    let manifest = Manifest {
        report_version: env!("CARGO_PKG_VERSION"),
        suite: &page.title,
        command: model.command(),
        inputs,
        files: names.iter().map(String::as_str).collect(),
    };
    write_derived(&folder.join("manifest.json"), &serde_json::to_vec_pretty(&manifest)?)?;
    Ok(Rendered { html, markdown, plots, summary: in_words(&page) })
}

fn in_words(page: &Page) -> String {
    let lines = |lines: &[String]| lines.iter().map(|line| format!("  {line}\n")).collect::<String>();
    let banner = page.banner.as_ref().map_or_else(String::new, |banner| format!("{banner}\n"));
    let (shown, not_shown) = (lines(&page.summary.shown), lines(&page.summary.not_shown));
    format!("{banner}Shown:\n{shown}Not shown:\n{not_shown}")
}

fn remove_stale_plots(folder: &Path, keep: &[String]) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let plot = path.extension().is_some_and(|end| end == "svg" || end == "png");
        let kept = path.file_name().is_some_and(|name| keep.iter().any(|kept| name == kept.as_str()));
        if plot && !kept {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}
