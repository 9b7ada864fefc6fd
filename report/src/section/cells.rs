//! Cells: those without a result and why, every cell with the command that makes it, and how to make the folder again.

use std::collections::{BTreeMap, BTreeSet};

use super::{Block, Cell, Column, Row, Section, Table, cell_anchor, duration, percent, points};
use crate::model::Model;
use crate::record::{Record, Status};
use crate::series::is_simulated;
use crate::verdict::{status, time_steps};

/// A planned cell without a row, or a row without a result.
pub(crate) struct Gap<'a> {
    pub cell_id: &'a str,
    pub dataset: &'a str,
    pub method: &'a str,
    pub time_steps: Option<usize>,
    pub seed: u64,
    /// `failed`, `diverged`, `missing`.
    pub state: &'static str,
    pub reason: &'a str,
}

pub(crate) fn gaps(model: &Model) -> Vec<Gap<'_>> {
    let results = &model.results;
    let unfinished = results.rows.iter().filter(|row| row.status != Status::Done).map(|row| Gap {
        cell_id: &row.cell_id,
        dataset: &row.dataset,
        method: &row.method,
        time_steps: row.train_time_steps,
        seed: row.seed,
        state: status(row.status),
        reason: row.error.as_deref().unwrap_or("no reason was recorded; see the cell's log"),
    });
    let planned = results.plan.iter().flat_map(|plan| &plan.cells);
    let absent = planned.filter(|cell| !results.by_id.contains_key(&cell.cell_id)).map(|cell| Gap {
        cell_id: &cell.cell_id,
        dataset: &cell.dataset,
        method: &cell.method,
        time_steps: cell.time_steps,
        seed: cell.seed,
        state: "missing",
        reason: cell.missing.as_deref().unwrap_or("not run yet; run the command again to complete the folder"),
    });
    unfinished.chain(absent).collect()
}

pub(crate) fn gap_section(model: &Model) -> Section {
    let mut section = Section::new("gaps", "Cells without a result");
    let gaps = gaps(model);
    if gaps.is_empty() && model.results.plan.is_some() {
        section.text("None: every planned cell was finished.");
    }
    let columns = vec![
        Column::text("state"),
        Column::text("data set"),
        Column::text("method"),
        Column::number("T"),
        Column::number("seed"),
        Column::text("reason"),
        Column::text("cell"),
    ];
    let row = |gap: &Gap| {
        let cells = vec![
            Cell::text(gap.state).class(if gap.state == "missing" { "open" } else { "bad" }),
            Cell::text(gap.dataset),
            Cell::text(gap.method),
            Cell::number(gap.time_steps.map(|t| t as f64), |t| t.to_string()),
            Cell::number(Some(gap.seed as f64), |_| gap.seed.to_string()),
            Cell::text(gap.reason),
            Cell::text(gap.cell_id),
        ];
        Row::of(gap.dataset, gap.method, cells)
    };
    let caption = format!("Failed, diverged and missing cells ({})", gaps.len());
    let rows: Vec<Row> = gaps.iter().map(row).collect();
    section.table(Table { caption, columns, collapsed: rows.len() > 60, rows });
    section
}

pub(crate) fn every_section(model: &Model) -> Section {
    let mut section = Section::new("cells", "Every cell");
    section.text(
        "One line of rows.csv each, with the command that makes it (its parents train first where they are not there).",
    );
    let mut tables: BTreeMap<(&str, &str), Vec<&Record>> = BTreeMap::new();
    for row in &model.results.rows {
        tables.entry((&row.dataset, &row.protocol_id)).or_default().push(row);
    }
    for ((dataset, protocol), rows) in tables {
        let simulated = if is_simulated(protocol) { " (simulated)" } else { "" };
        let caption = format!("{dataset}{simulated}: {} cells under {}", rows.len(), protocol.replace(';', "; "));
        let rows = rows.into_iter().map(|row| cell_row(model, row)).collect();
        section.table(Table { caption, columns: cell_columns(), rows, collapsed: true });
    }
    section
}

fn cell_columns() -> Vec<Column> {
    vec![
        Column::text("method"),
        Column::number("T"),
        Column::number("seed"),
        Column::text("status"),
        Column::number("top-1 %"),
        Column::number("bias").hint("best-on-test minus last epoch, in points"),
        Column::number("epochs"),
        Column::number("training"),
        Column::text("kernels").hint("numerics: results of unlike kernels may differ in the last digits"),
        Column::text("parent"),
        Column::text("cell and command"),
    ]
}

fn cell_row(model: &Model, row: &Record) -> Row {
    let top1 = Cell::number(row.top1_last, percent);
    let parent = row.parent_cell.as_deref().unwrap_or("");
    let command = model
        .command()
        .filter(|_| model.results.sources.len() == 1)
        .map_or_else(String::new, |command| cell_command(command, &row.cell_id));
    let cells = vec![
        Cell::text(&row.method),
        Cell::number(row.train_time_steps.map(|t| t as f64), |_| time_steps(row.train_time_steps)),
        Cell::number(Some(row.seed as f64), |_| row.seed.to_string()),
        Cell::text(status(row.status)).class(if row.status == Status::Done { "" } else { "bad" }),
        if is_simulated(&row.protocol_id) { top1.tag("simulated") } else { top1 },
        Cell::number(row.top1_best.zip(row.top1_last).map(|(best, last)| best - last), points),
        Cell::number(row.epochs.map(|epochs| epochs as f64), |epochs| epochs.to_string()),
        Cell::number(row.train_seconds, duration),
        Cell::text(row.numerics.as_deref().unwrap_or("–")),
        match model.results.row(parent) {
            Some(_) => Cell::text(parent).link(cell_anchor(parent)),
            None => Cell::text(if parent.is_empty() { "–" } else { parent }),
        },
        Cell::text(format!("{} — {command}", row.cell_id).trim_end_matches([' ', '—'])),
    ];
    let (dataset, method) = (row.dataset.clone(), row.method.clone());
    Row { anchor: cell_anchor(&row.cell_id), dataset, method, cells }
}

/// The suite's command, for one cell.
pub(crate) fn cell_command(command: &str, cell_id: &str) -> String {
    format!("{command} -f cell={}", quoted(cell_id))
}

/// For a POSIX shell.
fn quoted(word: &str) -> String {
    match word.chars().all(|c| c.is_ascii_alphanumeric() || "._-/+:=".contains(c)) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', "'\\''")),
    }
}

pub(crate) fn reproduce_section(model: &Model) -> Section {
    let mut section = Section::new("reproduce", "How to make this again");
    match model.command() {
        Some(command) => section.blocks.push(Block::Code(command.into())),
        None => section.text("The command is unknown: run.json is absent."),
    }
    let distinct = |of: fn(&Record) -> Option<String>| {
        let values: BTreeSet<String> = model.results.rows.iter().filter_map(of).collect();
        let shown: Vec<&str> = values.iter().take(4).map(String::as_str).collect();
        let more = if values.len() > 4 { format!(" and {} more", values.len() - 4) } else { String::new() };
        format!("{}{more}", shown.join(", "))
    };
    type Fact = (&'static str, fn(&Record) -> Option<String>);
    let facts: [Fact; 9] = [
        ("harness", |row| Some(row.harness_version.clone())),
        ("candle", |row| Some(row.candle_version.clone())),
        ("revision", |row| {
            let dirty = if row.git_dirty == Some(true) { " with uncommitted changes" } else { "" };
            row.git_revision.as_ref().map(|revision| format!("{revision}{dirty}"))
        }),
        ("rustc", |row| row.rustc.clone()),
        ("kernels", |row| row.numerics.clone()),
        ("device", |row| row.device.clone()),
        ("CPU", |row| row.cpu.clone()),
        ("GPU", |row| row.gpu.clone()),
        ("system", |row| row.os.clone()),
    ];
    let facts = facts.map(|(name, of)| (name, distinct(of)));
    let facts = facts.into_iter().filter(|(_, values)| !values.is_empty());
    section.blocks.push(Block::List(facts.map(|(name, values)| format!("{name}: {values}")).collect()));
    let inputs: Vec<String> = model.results.inputs.iter().map(|(name, rows)| format!("{name} ({rows} rows)")).collect();
    section.text(format!("Read: {}. results/README.md explains the columns.", inputs.join(", ")));
    if !model.results.notes.is_empty() {
        section.blocks.push(Block::List(model.results.notes.clone()));
    }
    section
}
