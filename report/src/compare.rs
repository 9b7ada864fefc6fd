//! Two result sets side by side: branches, machines or versions.

use std::fmt;
use std::path::Path;

use anyhow::Result;

use crate::markdown;
use crate::pairing;
use crate::rows::Rows;
use crate::section::comparison::p_value;
use crate::section::{Cell, Column, Row, Table, interval, percent, points};
use crate::stats::{self, Paired};

/// Result set B against result set A.
#[derive(Debug)]
pub struct Comparison {
    /// One a method and T that both have.
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
}

/// Pairs two result folders (or `rows.csv` files) by experiment and seed.
pub fn compare(a: &Path, b: &Path) -> Result<Comparison> {
    let (rows_a, rows_b) = (Rows::read(a)?, Rows::read(b)?);
    let pairing::Pairing { groups, notes: more } = pairing::pair(&rows_a, &rows_b, ["A", "B"]);
    let notes = [&rows_a.notes[..], &rows_b.notes, &more].concat();
    let gaps = groups.iter().flat_map(|group| group.gaps.iter().map(|gap| format!("{}, {gap}", group.name))).collect();
    let mut rows: Vec<Compared> = Vec::new();
    for group in &groups {
        let both: Vec<(f64, f64)> =
            group.pairs.iter().filter_map(|(a, b)| Some((a.top1_last?, b.top1_last?))).collect();
        let differences: Vec<f64> = both.iter().map(|(a, b)| b - a).collect();
        if let Some(paired) = stats::paired(&differences) {
            let a = both.iter().map(|(a, _)| a).sum::<f64>() / both.len() as f64;
            let name = group.name.clone();
            rows.push(Compared { name, a, b: a + paired.difference, paired, corrected: None });
        }
    }
    let p: Vec<f64> = rows.iter().filter_map(|row| row.paired.p).collect();
    for (row, corrected) in rows.iter_mut().filter(|row| row.paired.p.is_some()).zip(stats::holm(&p)) {
        row.corrected = Some(corrected);
    }
    Ok(Comparison { rows, gaps, notes })
}

impl Comparison {
    /// 0, or 11 where a cell is missing from either side or nothing could be compared.
    pub fn exit_code(&self) -> u8 {
        if self.gaps.is_empty() && !self.rows.is_empty() { 0 } else { 11 }
    }
}

/// Markdown.
impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = vec![
            Column::text("experiment"),
            Column::number("seeds"),
            Column::number("A %"),
            Column::number("B %"),
            Column::number("B − A"),
            Column::number("95 % interval"),
            Column::number("p"),
            Column::number("p, Holm"),
        ];
        let rows = self.rows.iter().map(|row| {
            let paired = &row.paired;
            let cells = vec![
                Cell::text(&row.name),
                Cell::count(paired.n),
                Cell::number(Some(row.a), percent),
                Cell::number(Some(row.b), percent),
                Cell::number(Some(paired.difference), points),
                Cell::number(paired.interval.map(|(low, _)| low), |_| {
                    paired.interval.map(interval).unwrap_or_default()
                }),
                Cell::number(paired.p, p_value),
                Cell::number(row.corrected, p_value),
            ];
            Row::of("", "", cells)
        });
        let caption = "Top-1 accuracy after the last epoch, paired by seed".into();
        let table = Table { caption, columns, rows: rows.collect(), collapsed: false };
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
