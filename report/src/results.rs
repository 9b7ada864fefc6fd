//! A result folder in memory: its rows whole, its long files (curves …) only as far as the report draws them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

use crate::predictions::Predictions;
use crate::record::{
    AnytimePoint, CurvePoint, FdgPoint, FidelityPoint, LayerPoint, MembraneBin, Record, RunPlan, read_each,
};
use crate::rows::{MAXIMUM_CHAIN, Rows, columns, series};
use crate::series::ANN;

/// What a result folder holds.
#[derive(Debug, Default)]
pub struct Results {
    /// The folders, one unless several are drawn together.
    pub sources: Vec<Source>,
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

/// A folder whose files are read.
#[derive(Clone, Debug)]
pub struct Source {
    /// The folder.
    pub dir: PathBuf,
    /// Stands before the ids of its cells, where several folders are drawn together; else empty.
    pub prefix: String,
}

impl Results {
    /// Reads `run.json` and `rows.csv` of a folder, or a file of rows alone, e.g. another program's. Absent files are
    /// noted, damaged ones are errors. A folder with neither is an error: nothing could be said about it.
    pub fn load(path: &Path) -> Result<Self> {
        let mut results =
            Self { sources: vec![Source { dir: folder_of(path), prefix: String::new() }], ..Self::default() };
        if path.is_file() {
            results.take(Rows::read(path)?);
            return Ok(results);
        }
        results.plan = read_plan(&path.join("run.json"))?;
        let rows = path.join("rows.csv");
        match (results.plan.is_some(), rows.exists()) {
            (false, false) => bail!(
                "{}: neither rows.csv nor run.json is here, so this is no result folder; give the folder that \
                 `harness suite` wrote",
                path.display()
            ),
            (true, false) => results.notes.push("rows.csv is absent: no cell has finished.".into()),
            (false, true) => {
                results.notes.push("run.json is absent: cells that never ran cannot be named here.".into());
            }
            (true, true) => {}
        }
        if rows.exists() {
            results.take(Rows::read(&rows)?);
        }
        Ok(results)
    }

    /// Several folders as one. Every row keeps the name of its folder as a setting, so that rows of unlike folders
    /// share no mean, even where they are of one experiment.
    pub fn load_together(paths: &[&Path]) -> Result<Self> {
        let mut together = Self::default();
        for (path, name) in paths.iter().zip(names(paths)?) {
            together.add(Self::load(path)?, &name);
        }
        Ok(together)
    }

    fn add(&mut self, other: Self, name: &str) {
        let prefix = format!("{name}/");
        let first = self.rows.len();
        for (offset, (mut row, series)) in other.rows.into_iter().zip(other.series).enumerate() {
            row.cell_id.insert_str(0, &prefix);
            row.parent_cell.iter_mut().for_each(|parent| parent.insert_str(0, &prefix));
            row.extra.insert("folder".into(), name.into());
            self.by_id.insert(row.cell_id.clone(), first + offset);
            self.rows.push(row);
            self.series.push(format!("{series} in {name}"));
        }
        self.sources.extend(other.sources.into_iter().map(|source| Source { prefix: prefix.clone(), ..source }));
        self.notes.extend(other.notes.into_iter().map(|note| format!("{name}: {note}")));
        self.inputs.extend(other.inputs.into_iter().map(|(file, rows)| (format!("{prefix}{file}"), rows)));
        let Some(mut plan) = other.plan else { return };
        for cell in &mut plan.cells {
            cell.cell_id.insert_str(0, &prefix);
            cell.parent_cell.iter_mut().for_each(|parent| parent.insert_str(0, &prefix));
        }
        match &mut self.plan {
            None => self.plan = Some(plan),
            Some(known) => join_plans(known, plan),
        }
    }

    fn take(&mut self, read: Rows) {
        let name = read.path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        self.notes.extend(read.notes);
        self.inputs.push((name, read.rows.len()));
        self.series = series(&read.rows, &columns(&read.rows));
        self.by_id = read.rows.iter().enumerate().map(|(index, row)| (row.cell_id.clone(), index)).collect();
        self.rows = read.rows;
    }

    /// Streams a file of each folder; an absent one has no rows.
    fn stream<T: DeserializeOwned + OfCell>(&mut self, name: &str, mut each: impl FnMut(T)) -> Result<()> {
        for Source { dir, prefix } in &self.sources {
            let path = dir.join(name);
            if !path.exists() {
                self.notes.push(format!("{prefix}{name} is absent: what it would show is left out."));
                continue;
            }
            let mut count = 0;
            let notes = read_each(&path, |mut row: T| {
                count += 1;
                row.cell_id().insert_str(0, prefix);
                each(row);
                Ok(())
            })?;
            self.notes.extend(notes);
            self.inputs.push((format!("{prefix}{name}"), count));
        }
        Ok(())
    }

    /// Rows of `curves.csv`, one by one.
    pub fn each_curve(&mut self, each: impl FnMut(CurvePoint)) -> Result<()> {
        self.stream("curves.csv", each)
    }

    /// Rows of `anytime.csv`.
    pub fn each_anytime(&mut self, each: impl FnMut(AnytimePoint)) -> Result<()> {
        self.stream("anytime.csv", each)
    }

    /// Rows of `fdg.csv`.
    pub fn each_fdg(&mut self, each: impl FnMut(FdgPoint)) -> Result<()> {
        self.stream("fdg.csv", each)
    }

    /// Rows of `layers.csv`.
    pub fn each_layer(&mut self, each: impl FnMut(LayerPoint)) -> Result<()> {
        self.stream("layers.csv", each)
    }

    /// Rows of `fidelity.csv`.
    pub fn each_fidelity(&mut self, each: impl FnMut(FidelityPoint)) -> Result<()> {
        self.stream("fidelity.csv", each)
    }

    /// Rows of `membrane.csv`.
    pub fn each_membrane(&mut self, each: impl FnMut(MembraneBin)) -> Result<()> {
        self.stream("membrane.csv", each)
    }

    /// A cell's predictions on the test images; `None` if its folder kept none.
    ///
    /// # Errors
    /// A damaged file.
    pub fn predictions(&self, row: &Record) -> Result<Option<Predictions>> {
        let of_source = |source: &&Source| row.cell_id.starts_with(&source.prefix);
        match self.sources.iter().find(of_source) {
            Some(source) => Predictions::of_cell(&source.dir, &row.cell_id[source.prefix.len()..]),
            None => Ok(None),
        }
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

/// A row of a long file, which belongs to a cell.
trait OfCell {
    fn cell_id(&mut self) -> &mut String;
}

macro_rules! of_cell {
    ($($row:ty),*) => {
        $(impl OfCell for $row {
            fn cell_id(&mut self) -> &mut String {
                &mut self.cell_id
            }
        })*
    };
}

of_cell!(AnytimePoint, CurvePoint, FdgPoint, FidelityPoint, LayerPoint, MembraneBin);

/// A short name for each folder: the last part of its path, with a number where several end alike.
///
/// # Errors
/// One folder given twice: its seeds would count twice.
fn names(paths: &[&Path]) -> Result<Vec<String>> {
    let whole = |path: &Path| folder_of(path).canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let whole: Vec<PathBuf> = paths.iter().map(|path| whole(path)).collect();
    let end = |path: &PathBuf| path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let ends: Vec<String> = whole.iter().map(end).collect();
    let mut names = Vec::new();
    for (index, name) in ends.iter().enumerate() {
        if whole[..index].contains(&whole[index]) {
            bail!("{} is given twice; give each folder once", paths[index].display());
        }
        let alike = ends.iter().filter(|other| *other == name).count() > 1;
        names.push(if alike { format!("{name} ({})", index + 1) } else { name.clone() });
    }
    Ok(names)
}

/// Adds another folder's plan: what each says must stand on top of the report, and every planned cell.
fn join_plans(plan: &mut RunPlan, other: RunPlan) {
    if plan.suite != other.suite {
        plan.suite = format!("{} and {}", plan.suite, other.suite);
    }
    match (&mut plan.banner, other.banner) {
        (Some(banner), Some(more)) if *banner != more => *banner = format!("{banner} {more}"),
        (banner @ None, more) => *banner = more,
        _ => {}
    }
    if plan.command != other.command {
        plan.command = format!("{}; {}", plan.command, other.command);
    }
    let more: Vec<String> =
        other.deviations.into_iter().filter(|deviation| !plan.deviations.contains(deviation)).collect();
    plan.deviations.extend(more);
    plan.cells.extend(other.cells);
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
