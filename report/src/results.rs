//! A result folder in memory: its rows whole, its long files (curves …) only as far as the report draws them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

use crate::record::{
    AnytimePoint, CurvePoint, FdgPoint, FidelityPoint, LayerPoint, MembraneBin, Record, RunPlan, read_each,
};
use crate::rows::{MAXIMUM_CHAIN, Rows, columns, series};
use crate::series::ANN;

/// What a result folder holds.
#[derive(Debug, Default)]
pub struct Results {
    /// The folder.
    pub dir: PathBuf,
    /// `run.json`, where it exists.
    pub plan: Option<RunPlan>,
    /// `rows.csv`, one row per cell.
    pub rows: Vec<Record>,
    /// What makes each row's experiment, seeds apart; equal for the seeds of one experiment.
    pub series: Vec<String>,
    /// `cell_id` → place in `rows`.
    pub by_id: HashMap<String, usize>,
    /// Sentences on files that are absent, torn or odd.
    pub notes: Vec<String>,
    /// Input files that were read: name, rows.
    pub inputs: Vec<(String, usize)>,
}

impl Results {
    /// Reads `run.json` and `rows.csv` of a folder, or a file of rows alone, e.g. another program's. Absent files are
    /// noted, damaged ones are errors. A folder with neither is an error: nothing could be said about it.
    pub fn load(dir: &Path) -> Result<Self> {
        if dir.is_file() {
            let mut results = Self { dir: folder_of(dir), ..Self::default() };
            results.take(Rows::read(dir)?);
            return Ok(results);
        }
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
        results.add_rows()?;
        Ok(results)
    }

    fn add_rows(&mut self) -> Result<()> {
        let path = self.dir.join("rows.csv");
        if !path.exists() {
            self.notes.push("rows.csv is absent: no cell has finished.".into());
            return Ok(());
        }
        self.take(Rows::read(&path)?);
        Ok(())
    }

    fn take(&mut self, read: Rows) {
        let name = read.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        self.notes.extend(read.notes);
        self.inputs.push((name, read.rows.len()));
        self.series = series(&read.rows, &columns(&read.rows));
        self.by_id = read.rows.iter().enumerate().map(|(index, row)| (row.cell_id.clone(), index)).collect();
        self.rows = read.rows;
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

    /// The method that the others are compared with: the plan's, else the first that is not the ANN.
    pub fn reference(&self) -> String {
        let planned = self.plan.as_ref().and_then(|plan| plan.reference.clone());
        let cells = self.plan.iter().flat_map(|plan| &plan.cells).map(|cell| &cell.method);
        let mut methods = cells.chain(self.rows.iter().map(|row| &row.method)).filter(|method| *method != ANN);
        planned.or_else(|| methods.next().cloned()).unwrap_or_default()
    }

    /// The suite; of a folder without a plan, the distinct suites of its rows.
    pub fn suite(&self) -> String {
        match &self.plan {
            Some(plan) => plan.suite.clone(),
            None => {
                let mut seen = std::collections::HashSet::new();
                let names = self.rows.iter().map(|row| row.suite.as_str());
                let names = names.filter(|name| !name.is_empty() && seen.insert(*name));
                names.collect::<Vec<_>>().join(", ")
            }
        }
    }

    /// The row of a cell.
    pub fn row(&self, cell_id: &str) -> Option<&Record> {
        self.by_id.get(cell_id).map(|&index| &self.rows[index])
    }

    /// Epochs trained before a cell's own: those of its parents.
    pub fn inherited_epochs(&self, row: &Record) -> usize {
        self.ancestors(row).filter_map(|parent| parent.epochs).sum()
    }

    /// A cell's parents, nearest first. Ends at a parent without a row, and in a cycle.
    pub fn ancestors<'a>(&'a self, row: &'a Record) -> impl Iterator<Item = &'a Record> {
        let parent = |row: &&'a Record| row.parent_cell.as_deref().and_then(|id| self.row(id));
        std::iter::successors(parent(&row), parent).take(MAXIMUM_CHAIN)
    }
}

/// The folder that holds a result folder's files: itself, or that of a file of rows.
pub(crate) fn folder_of(path: &Path) -> PathBuf {
    match path.is_file() {
        true => path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_path_buf(),
        false => path.to_path_buf(),
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
