//! A result folder: cells, their commit points, and the CSV files that are derived from them.

use crate::cell::{Cell, CellConfig};
use crate::data;
use crate::durable;
use crate::exit;
use crate::lock::Lock;
use crate::predictions;
use crate::row;
use crate::train::state::Checkpoints;
use anyhow::{Context, Result};
use methods::fdg::Fdg;
use report::record::{
    self, AnytimePoint, CurvePoint, FdgPoint, FidelityPoint, LayerPoint, MembraneBin, Record, RunPlan, Status,
    is_volatile,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// All that a finished cell leaves: `result.json`, whose rename is the commit point.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CellResult {
    /// The row.
    pub record: Record,
    /// Its epochs.
    pub curves: Vec<CurvePoint>,
    /// Accuracy over t.
    pub anytime: Vec<AnytimePoint>,
    /// Candidate temperatures.
    pub fdg: Vec<FdgPoint>,
    /// Layers.
    pub layers: Vec<LayerPoint>,
    /// Surrogate gradients held against finite differences, where the suite asks for it.
    #[serde(default)]
    pub fidelity: Vec<FidelityPoint>,
    /// Membrane histograms, where the suite asks for them.
    #[serde(default)]
    pub membranes: Vec<MembraneBin>,
}

/// A result folder.
pub struct Store {
    root: PathBuf,
}

/// The process that renews the CSV files needs seconds; one that hangs must not stop the others.
const LONGEST_REBUILD: Duration = Duration::from_secs(60);

/// Stages of a chain; ends a cycle of parents in damaged files.
const LONGEST_CHAIN: usize = 64;

/// An audit's settings, which are no part of a cell's identity and of no row.
const ANY_FDG: Fdg = Fdg { epsilon: 0.1, step: 0.2, floor: 0.2, cap: 20.0, batch: 1 };

impl Store {
    /// Opens or makes the folder, and proves that it can be written.
    pub fn open(root: &Path) -> Result<Self> {
        let explain = |error: std::io::Error| {
            let root = root.display();
            exit::failure(
                exit::Code::Io,
                format!("the output folder {root} cannot be written: {error}; choose another with --out"),
            )
        };
        std::fs::create_dir_all(root.join("cells")).map_err(explain)?;
        tempfile::Builder::new().prefix(".tmp-").tempfile_in(root).map_err(explain)?;
        Ok(Self { root: root.to_path_buf() })
    }

    /// Opens a folder that must already be there, to read.
    pub fn existing(root: &Path) -> Result<Self> {
        if !root.join("run.json").is_file() {
            let root = root.display();
            return Err(exit::data(format!(
                "{root} is no result folder: it has no run.json; `harness suite NAME --out {root}` makes one"
            )));
        }
        Ok(Self { root: root.to_path_buf() })
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A cell's folder.
    pub fn cell_folder(&self, id: &str) -> PathBuf {
        self.root.join("cells").join(id)
    }

    /// Makes a cell's folder and takes its lock; `None` where another process has it.
    pub fn lock(&self, cell: &Cell) -> Result<Option<Lock>> {
        let folder = self.cell_folder(&cell.id);
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        let Some(lock) = Lock::take(&folder)? else { return Ok(None) };
        clear_torn(&folder, Duration::ZERO);
        let config = folder.join("config.toml");
        let text = cell.to_toml()?;
        if std::fs::read_to_string(&config).ok().as_deref() != Some(&text) {
            durable::write(&config, text.as_bytes())?;
        }
        Ok(Some(lock))
    }

    /// A cell's committed result.
    pub fn result(&self, id: &str) -> Result<Option<CellResult>> {
        self.read(id)
    }

    fn read<T: DeserializeOwned>(&self, id: &str) -> Result<Option<T>> {
        let path = self.cell_folder(id).join("result.json");
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let parsed = serde_json::from_slice(&text);
        parsed.map(Some).map_err(|error| {
            exit::data(format!("{}: {error}; remove the file to compute the cell again", path.display()))
        })
    }

    /// How a cell ended, if it did: its result without the curves.
    pub fn status(&self, id: &str) -> Result<Option<Status>> {
        Ok(self.read::<StatusOnly>(id)?.map(|result| result.record.status))
    }

    /// Commits a cell's result.
    ///
    /// # Errors
    /// A finished result is already there, of the same kernels, and differs.
    pub fn commit(&self, id: &str, result: &CellResult) -> Result<()> {
        if !self.holds(id, result)? {
            durable::write(&self.cell_folder(id).join("result.json"), &serde_json::to_vec_pretty(result)?)?;
        }
        Ok(())
    }

    /// Whether a finished result is already there, e.g. because a scheduler started a cell twice. It stays: one of other
    /// kernels is noted, one of the same kernels must be equal.
    pub fn holds(&self, id: &str, result: &CellResult) -> Result<bool> {
        let Some(earlier) = self.result(id)?.filter(|earlier| earlier.record.status == Status::Done) else {
            return Ok(false);
        };
        if let Some((before, now)) = different_data(&earlier, result) {
            return Err(exit::data(format!(
                "{id} is in {} already, trained on data of the hash {before}; this result is of data of the hash {now}. \
                 The earlier one stays; take another --out, or train it again with --fresh",
                self.root.display()
            )));
        }
        let numerics = |result: &CellResult| result.record.numerics.clone().unwrap_or_default();
        let (before, now) = (numerics(&earlier), numerics(result));
        if before != now {
            tracing::warn!("{id} was computed before, on {before}; that result stays, this one of {now} is dropped");
        } else if !same(&earlier, result)? {
            let loss = |result: &CellResult| result.record.loss_last.map_or("none".into(), |loss| loss.to_string());
            return Err(exit::failure(
                exit::Code::Check,
                format!(
                    "not deterministic: {id} was computed twice on {now} with different results (loss {} and {}); the \
                     earlier one stays. Was the program or the data changed in between? `harness repro-check {id} \
                     --suite {}` trains it twice and compares",
                    loss(&earlier),
                    loss(result),
                    result.record.suite
                ),
            ));
        }
        Ok(true)
    }

    /// Forgets a cell's result, metrics, predictions, weights and checkpoints, for `--fresh` and `--retry`; its log stays.
    pub fn forget(&self, id: &str, _lock: &Lock) -> Result<()> {
        let folder = self.cell_folder(id);
        // The result first: without its commit point, whatever is left is no finished cell.
        for name in ["result.json", "weights.safetensors", "metrics.jsonl", predictions::FILE] {
            durable::remove(&folder.join(name))?;
        }
        Checkpoints::new(&folder, "").forget()
    }

    /// Says which finished cells of an earlier plan are none of this one's: their rows leave the CSV files.
    pub fn announce_changes(&self, plan: &RunPlan) {
        if !self.root.join("run.json").exists() {
            return;
        }
        let earlier = match self.plan() {
            Ok(earlier) => earlier,
            Err(error) => return tracing::warn!("{error:#}; it is written anew"),
        };
        let kept: HashSet<&str> = plan.cells.iter().map(|cell| cell.cell_id.as_str()).collect();
        let gone: Vec<&str> =
            earlier.cells.iter().map(|cell| cell.cell_id.as_str()).filter(|id| !kept.contains(id)).collect();
        let gone: Vec<&str> = gone.into_iter().filter(|id| self.cell_folder(id).join("result.json").exists()).collect();
        if let Some(first) = gone.first() {
            tracing::warn!(
                "the suite `{}` or its options changed since {} was written: {} finished cells ({first} …) are no part of \
                 it any more. Their rows leave rows.csv; their files stay in cells/. `{}` had made them",
                earlier.suite,
                self.root.display(),
                gone.len(),
                earlier.command
            );
        }
    }

    /// Writes `run.json`.
    pub fn write_plan(&self, plan: &RunPlan) -> Result<()> {
        let _lock = Lock::wait(&self.root, LONGEST_REBUILD)?;
        durable::write(&self.root.join("run.json"), &serde_json::to_vec_pretty(plan)?)
    }

    /// Reads `run.json`.
    pub fn plan(&self) -> Result<RunPlan> {
        let path = self.root.join("run.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| exit::data(format!("{}: {error}", path.display())))
    }

    /// Whether a result is newer than `rows.csv`, or has none: processes that share a folder leave it to `report`.
    pub fn is_stale(&self) -> bool {
        let modified = |path: &Path| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let rows = modified(&self.root.join("rows.csv"));
        let Ok(cells) = std::fs::read_dir(self.root.join("cells")) else { return false };
        let results = cells.filter_map(|cell| modified(&cell.ok()?.path().join("result.json")));
        results.max().is_some_and(|newest| rows.is_none_or(|rows| rows <= newest))
    }

    /// Rebuilds every CSV file from the results of the plan's cells, in the plan's order.
    pub fn rebuild_csv(&self, plan: &RunPlan) -> Result<()> {
        // Without it a slower process could put its older view in place of a newer one.
        let lock = Lock::wait(&self.root, LONGEST_REBUILD)?;
        if lock.is_some() {
            clear_torn(&self.root, Duration::ZERO);
            clear_torn(&self.root.join("report"), LONGEST_REBUILD); // drawn without this lock
        }
        let mut all = CsvRows::default();
        for cell in &plan.cells {
            if let Some(result) = self.result(&cell.cell_id)? {
                all.records.push(self.identified(result.record)?);
                all.curves.extend(result.curves);
                all.anytime.extend(result.anytime);
                all.fdg.extend(result.fdg);
                all.layers.extend(result.layers);
                all.fidelity.extend(result.fidelity);
                all.membranes.extend(result.membranes);
            }
        }
        let path = |name: &str| self.root.join(name);
        record::write_csv(&path("rows.csv"), &all.records)?;
        record::write_csv(&path("curves.csv"), &all.curves)?;
        record::write_csv(&path("anytime.csv"), &all.anytime)?;
        record::write_csv(&path("fdg.csv"), &all.fdg)?;
        record::write_csv(&path("layers.csv"), &all.layers)?;
        record::write_csv(&path("fidelity.csv"), &all.fidelity)?;
        record::write_csv(&path("membrane.csv"), &all.membranes)
    }
}

impl Store {
    /// A row of an earlier version with the columns that it lacks, from the configurations that lie beside the results.
    ///
    /// Such a row names the official checksum although no version that wrote one compared the data with it.
    fn identified(&self, mut record: Record) -> Result<Record> {
        if record.series_id.is_some() {
            return Ok(record);
        }
        let cell = self.stored_cell(&record.cell_id, 0)?;
        record.protocol_id = data::protocol_unverified(&record.protocol_id);
        Ok(row::identified(record, &cell))
    }

    /// A cell as its `config.toml` and those of its ancestors describe it. Each must have the id of its folder.
    fn stored_cell(&self, id: &str, depth: usize) -> Result<Cell> {
        let path = self.cell_folder(id).join("config.toml");
        let damaged = |error: &dyn std::fmt::Display| {
            exit::data(format!(
                "{}: {error}; this cell's row is of an earlier version and needs the file: restore it, or remove the \
                 cell's folder to compute the cell again",
                path.display()
            ))
        };
        if depth > LONGEST_CHAIN {
            return Err(damaged(&"its ancestors never end"));
        }
        let text = std::fs::read_to_string(&path).map_err(|error| damaged(&error))?;
        let config: CellConfig = toml::from_str(&text).map_err(|error| damaged(&error))?;
        let parent = config.parent_cell.as_deref().map(|parent| self.stored_cell(parent, depth + 1)).transpose()?;
        let cell = Cell::new(config, parent.as_ref(), ANY_FDG)?;
        match cell.id == id {
            true => Ok(cell),
            false => Err(damaged(&format_args!("it was changed and describes the cell {} now", cell.id))),
        }
    }
}

/// Removes temporary files, older than `age`, of a process that was killed while it held this folder's lock.
fn clear_torn(folder: &Path, age: Duration) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let expired = || entry.metadata().ok()?.modified().ok()?.elapsed().ok().map(|elapsed| elapsed >= age);
        if entry.file_name().to_string_lossy().starts_with(".tmp-") && (age.is_zero() || expired() == Some(true)) {
            std::fs::remove_file(entry.path()).ok();
        }
    }
}

/// The data hashes of two results, where both are known and they differ.
pub fn different_data<'a>(a: &'a CellResult, b: &'a CellResult) -> Option<(&'a str, &'a str)> {
    let hashes = a.record.data_hash.as_deref().zip(b.record.data_hash.as_deref());
    hashes.filter(|(a, b)| a != b)
}

/// Whether two results are equal but for the volatile columns, or were computed by different kernels on the same data.
pub fn same(a: &CellResult, b: &CellResult) -> Result<bool> {
    if different_data(a, b).is_some() {
        return Ok(false);
    }
    if a.record.numerics != b.record.numerics {
        return Ok(true); // not comparable bit by bit; the earlier one stays
    }
    Ok(blanked(a)? == blanked(b)?)
}

/// A result with its volatile columns removed.
pub fn blanked(result: &CellResult) -> Result<serde_json::Value> {
    fn strip(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Object(map) => {
                map.retain(|key, _| !is_volatile(key));
                map.values_mut().for_each(strip);
            }
            serde_json::Value::Array(list) => list.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut value = serde_json::to_value(result)?;
    strip(&mut value);
    Ok(value)
}

#[derive(Deserialize)]
struct StatusOnly {
    record: StatusColumn,
}

#[derive(Deserialize)]
struct StatusColumn {
    status: Status,
}

#[derive(Default)]
struct CsvRows {
    records: Vec<Record>,
    curves: Vec<CurvePoint>,
    anytime: Vec<AnytimePoint>,
    fdg: Vec<FdgPoint>,
    layers: Vec<LayerPoint>,
    fidelity: Vec<FidelityPoint>,
    membranes: Vec<MembraneBin>,
}
