//! Two result sets side by side: branches, machines or versions.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;

use crate::image_error::{self, OverImages, interval_cell};
use crate::markdown;
use crate::pairing::{self, Group};
use crate::predictions::Predictions;
use crate::record::Record;
use crate::results::folder_of;
use crate::rows::Rows;
use crate::section::comparison::p_value;
use crate::section::{Cell, Column, Row, Table, percent, points};
use crate::stats::{self, Paired};

/// Version of [`Comparison::json`]; it changes when a field is removed or changes its meaning, not when one is added.
const COMPARE_SCHEMA: &str = "harness-compare/1";

/// Result set B against result set A.
#[derive(Debug)]
pub struct Comparison {
    /// One per method and T that both have.
    pub rows: Vec<Compared>,
    /// Cells that only one side finished, and why.
    pub gaps: Vec<String>,
    /// Sentences on the whole.
    pub notes: Vec<String>,
}

/// One method at one T in both sets.
#[derive(Debug)]
pub struct Compared {
    /// Data set, protocol, network, method and T.
    pub name: String,
    /// Mean last-epoch accuracy of A over the common seeds.
    pub a: f64,
    /// Of B.
    pub b: f64,
    /// B − A over the common seeds.
    pub paired: Paired,
    /// p corrected by Holm over all rows that have one.
    pub corrected: Option<f64>,
    /// Wilson's 95 % interval of A's and of B's accuracy over the choice of test images; `None` for more than one pair,
    /// and where the row does not record the number of test samples.
    pub single: [Option<(f64, f64)>; 2],
    /// The error of B − A over test images; `None` where the cells kept no predictions.
    pub images: Option<OverImages>,
}

/// Pairs two result folders (or `rows.csv` files) by experiment and seed.
///
/// # Errors
/// Rows or predictions that are damaged.
pub fn compare(a: &Path, b: &Path) -> Result<Comparison> {
    let (rows_a, rows_b) = (Rows::read(a)?, Rows::read(b)?);
    let pairing::Pairing { groups, notes: more } = pairing::pair(&rows_a, &rows_b, ["A", "B"]);
    let mut notes = [&rows_a.notes[..], &rows_b.notes, &more].concat();
    let gaps = groups.iter().flat_map(|group| group.gaps.iter().map(|gap| format!("{}, {gap}", group.name))).collect();
    let folders = [folder_of(a), folder_of(b)];
    let mut rows: Vec<Compared> = Vec::new();
    for group in &groups {
        rows.extend(compare_group(group, &folders, &mut notes)?);
    }
    let p: Vec<f64> = rows.iter().filter_map(|row| row.paired.p).collect();
    for (row, corrected) in rows.iter_mut().filter(|row| row.paired.p.is_some()).zip(stats::holm(&p)) {
        row.corrected = Some(corrected);
    }
    Ok(Comparison { rows, gaps, notes })
}

/// One row, without Holm's correction; `None` if no pair has an accuracy on both sides.
fn compare_group(group: &Group, folders: &[PathBuf; 2], notes: &mut Vec<String>) -> Result<Option<Compared>> {
    let measured = |(a, b): &&(&Record, &Record)| a.top1_last.is_some() && b.top1_last.is_some();
    let pairs: Vec<(&Record, &Record)> = group.pairs.iter().filter(measured).copied().collect();
    let both: Vec<(f64, f64)> = pairs.iter().filter_map(|(a, b)| Some((a.top1_last?, b.top1_last?))).collect();
    let differences: Vec<f64> = both.iter().map(|(a, b)| b - a).collect();
    let Some(paired) = stats::paired(&differences) else { return Ok(None) };
    let of = |folder: &Path, row: &Record| Predictions::of_cell(folder, &row.cell_id);
    let (read_first, read_second) = (|row: &Record| of(&folders[0], row), |row: &Record| of(&folders[1], row));
    let images = match image_error::over_images(&pairs, [&read_first, &read_second])? {
        Some(Ok(images)) => Some(images),
        Some(Err(problem)) => {
            notes.push(format!("{}: the error over test images is left out: {problem}.", group.name));
            None
        }
        None => None,
    };
    let single = match pairs[..] {
        [(a, b)] => [a, b].map(image_error::single),
        _ => [None, None],
    };
    let a = both.iter().map(|(a, _)| a).sum::<f64>() / both.len() as f64;
    Ok(Some(Compared {
        name: group.name.clone(),
        a,
        b: a + paired.difference,
        paired,
        corrected: None,
        single,
        images,
    }))
}

/// The JSON form of a [`Comparison`]; its fields are documented in results/README.md.
#[derive(Serialize)]
struct ComparisonJson<'a> {
    schema: &'static str,
    exit_code: u8,
    notes: &'a [String],
    rows: Vec<ComparedJson<'a>>,
    gaps: &'a [String],
}

#[derive(Serialize)]
struct ComparedJson<'a> {
    name: &'a str,
    n: usize,
    a: f64,
    b: f64,
    difference: f64,
    interval: Option<(f64, f64)>,
    p: Option<f64>,
    p_holm: Option<f64>,
    effect: Option<f64>,
    a_interval: Option<(f64, f64)>,
    b_interval: Option<(f64, f64)>,
    images: Option<&'a OverImages>,
}

impl<'a> ComparedJson<'a> {
    fn of(row: &'a Compared) -> Self {
        let Paired { n, difference, interval, p, effect } = row.paired;
        Self {
            name: &row.name,
            n,
            a: row.a,
            b: row.b,
            difference,
            interval,
            p,
            p_holm: row.corrected,
            effect,
            a_interval: row.single[0],
            b_interval: row.single[1],
            images: row.images.as_ref(),
        }
    }
}

impl Comparison {
    /// 0, or 11 where a cell is missing from either side or nothing could be compared.
    pub fn exit_code(&self) -> u8 {
        if self.gaps.is_empty() && !self.rows.is_empty() { 0 } else { 11 }
    }

    /// One JSON object on one line, for scripts. A number that is not finite is `null`.
    ///
    /// # Errors
    /// None in practice: every key is a string.
    pub fn json(&self) -> Result<String> {
        let json = ComparisonJson {
            schema: COMPARE_SCHEMA,
            exit_code: self.exit_code(),
            notes: &self.notes,
            rows: self.rows.iter().map(ComparedJson::of).collect(),
            gaps: &self.gaps,
        };
        Ok(serde_json::to_string(&json)?)
    }

    /// The rows as a table. Columns that no row can fill are left out.
    fn table(&self) -> Table {
        let singles = self.rows.iter().any(|row| row.single.iter().any(Option::is_some));
        let images = self.rows.iter().any(|row| row.images.is_some());
        let mut columns: Vec<Column> = vec![Column::text("experiment"), Column::number("seeds")];
        for side in ["A", "B"] {
            columns.push(Column::number(format!("{side} %")));
            columns.extend(singles.then(|| Column::number(format!("{side}, 95 % over images"))));
        }
        columns.extend(["B − A", "95 % interval", "p", "p, Holm"].map(Column::number));
        columns.extend(images.then(image_error::columns).into_iter().flatten());
        let row = |row: &Compared| {
            let paired = &row.paired;
            let mut cells = vec![Cell::text(&row.name), Cell::count(paired.n)];
            for (accuracy, range) in [row.a, row.b].into_iter().zip(row.single) {
                cells.push(Cell::number(Some(accuracy), percent));
                cells.extend(singles.then(|| interval_cell(range)));
            }
            cells.extend([
                Cell::number(Some(paired.difference), points),
                interval_cell(paired.interval),
                Cell::number(paired.p, p_value),
                Cell::number(row.corrected, p_value),
            ]);
            cells.extend(images.then(|| image_error::cells(row.images.as_ref())).into_iter().flatten());
            Row::of("", "", cells)
        };
        let caption = "Top-1 accuracy after the last epoch, paired by seed".into();
        Table { caption, columns, rows: self.rows.iter().map(row).collect(), collapsed: false }
    }
}

/// Markdown.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table();
        match table.rows.is_empty() {
            true => writeln!(f, "The two sets share no finished cell.")?,
            false => writeln!(f, "{}", markdown::table_text(&table))?,
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "> {}\n", markdown::escape(note)))?;
        if !self.gaps.is_empty() {
            writeln!(f, "Not compared:\n")?;
        }
        self.gaps.iter().try_for_each(|gap| writeln!(f, "- {}", markdown::escape(gap)))
    }
}
