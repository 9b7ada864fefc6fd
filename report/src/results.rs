//! A result folder in memory: its rows whole, its long files (curves …) only as far as the report draws them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

use crate::record::{
    AnytimePoint, CurvePoint, FdgPoint, FidelityPoint, LayerPoint, MembraneBin, Record, RunPlan, SCHEMA_VERSION,
    Status, read_each,
};

/// What a result folder holds.
#[derive(Debug, Default)]
pub struct Results {
    /// The folder.
    pub dir: PathBuf,
    /// `run.json`, where it exists.
    pub plan: Option<RunPlan>,
    /// `rows.csv`, one row a cell (the last one where a cell stands twice).
    pub rows: Vec<Record>,
    /// `cell_id` → place in `rows`.
    pub by_id: HashMap<String, usize>,
    /// Sentences on files that are absent, torn or odd.
    pub notes: Vec<String>,
    /// Input files that were read: name, rows.
    pub inputs: Vec<(String, usize)>,
}

impl Results {
    /// Reads `run.json` and `rows.csv`; absent files are noted, damaged ones are errors. A folder with neither is an
    /// error: nothing could be said about it.
    pub fn load(dir: &Path) -> Result<Self> {
        let mut results = Self { dir: dir.to_path_buf(), ..Self::default() };
        results.plan = read_plan(&dir.join("run.json"))?;
        if results.plan.is_none() && !dir.join("rows.csv").exists() {
            bail!(
                "{}: neither rows.csv nor run.json is here, so this is no result folder; give the folder that \
                 `harness suite` wrote",
                dir.display()
            );
        }
        if results.plan.is_none() {
            results.notes.push("run.json is absent: cells that never ran cannot be named here.".into());
        }
        let mut rows = Vec::new();
        results.stream("rows.csv", |row: Record| {
            check_row(&row)?;
            rows.push(row);
            Ok(())
        })?;
        for row in rows {
            match results.by_id.get(&row.cell_id) {
                Some(&index) => {
                    results.notes.push(format!("rows.csv holds cell {} twice; the later row counts.", row.cell_id));
                    results.rows[index] = row;
                }
                None => {
                    results.by_id.insert(row.cell_id.clone(), results.rows.len());
                    results.rows.push(row);
                }
            }
        }
        Ok(results)
    }

    /// Streams a file of the folder; an absent one has no rows.
    fn stream<T: DeserializeOwned>(&mut self, name: &str, mut each: impl FnMut(T) -> Result<(), String>) -> Result<()> {
        let path = self.dir.join(name);
        if !path.exists() {
            self.notes.push(format!("{name} is absent: what it would show is left out."));
            return Ok(());
        }
        let mut count = 0;
        let notes = read_each(&path, |row| {
            count += 1;
            each(row)
        })?;
        self.notes.extend(notes);
        self.inputs.push((name.to_string(), count));
        Ok(())
    }

    /// Rows of `curves.csv`, one by one.
    pub fn each_curve(&mut self, mut each: impl FnMut(CurvePoint)) -> Result<()> {
        self.stream("curves.csv", |row| accept(&mut each, row))
    }

    /// Rows of `anytime.csv`.
    pub fn each_anytime(&mut self, mut each: impl FnMut(AnytimePoint)) -> Result<()> {
        self.stream("anytime.csv", |row| accept(&mut each, row))
    }

    /// Rows of `fdg.csv`.
    pub fn each_fdg(&mut self, mut each: impl FnMut(FdgPoint)) -> Result<()> {
        self.stream("fdg.csv", |row| accept(&mut each, row))
    }

    /// Rows of `layers.csv`.
    pub fn each_layer(&mut self, mut each: impl FnMut(LayerPoint)) -> Result<()> {
        self.stream("layers.csv", |row| accept(&mut each, row))
    }

    /// Rows of `fidelity.csv`.
    pub fn each_fidelity(&mut self, mut each: impl FnMut(FidelityPoint)) -> Result<()> {
        self.stream("fidelity.csv", |row| accept(&mut each, row))
    }

    /// Rows of `membrane.csv`.
    pub fn each_membrane(&mut self, mut each: impl FnMut(MembraneBin)) -> Result<()> {
        self.stream("membrane.csv", |row| accept(&mut each, row))
    }

    /// The row of a cell.
    pub fn row(&self, cell_id: &str) -> Option<&Record> {
        self.by_id.get(cell_id).map(|&index| &self.rows[index])
    }

    /// Epochs trained before a cell's own: those of its parents.
    pub fn inherited_epochs(&self, row: &Record) -> usize {
        self.ancestors(row).map(|parent| parent.epochs).sum()
    }

    /// A cell's parents, nearest first. Ends at a parent without a row, and in a cycle.
    pub fn ancestors<'a>(&'a self, row: &'a Record) -> impl Iterator<Item = &'a Record> {
        let parent = |row: &&'a Record| row.parent_cell.as_deref().and_then(|id| self.row(id));
        std::iter::successors(parent(&row), parent).take(64)
    }
}

fn accept<T>(each: &mut impl FnMut(T), row: T) -> Result<(), String> {
    each(row);
    Ok(())
}

fn read_plan(path: &Path) -> Result<Option<RunPlan>> {
    match std::fs::read_to_string(path) {
        Ok(text) => serde_json::from_str(&text).map(Some).with_context(|| {
            format!("reading {}; run the suite's command again: it writes this file anew", path.display())
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("reading {}", path.display())),
    }
}

/// What a row must keep for its numbers to mean what the report says.
pub(crate) fn check_row(row: &Record) -> Result<(), String> {
    if row.schema_version > SCHEMA_VERSION {
        return Err(format!(
            "schema_version {} is newer than this program's {SCHEMA_VERSION}; use the version that wrote the file",
            row.schema_version
        ));
    }
    let fractions = [
        ("top1_last", row.top1_last),
        ("top1_best", row.top1_best),
        ("top1_held_out", row.top1_held_out),
        ("top5_last", row.top5_last),
        ("firing_rate", row.firing_rate),
    ];
    for (column, value) in fractions {
        if value.is_some_and(|value| !(0.0..=1.0).contains(&value)) {
            return Err(format!(
                "column `{column}`: {} is not a fraction between 0 and 1 (0.9412 is 94.12 %); correct or blank it",
                value.unwrap_or_default()
            ));
        }
    }
    if row.status == Status::Done && row.top1_last.is_none() {
        return Err("column `top1_last` is blank though `status` is done; rerun the cell or mark it failed".into());
    }
    Ok(())
}
