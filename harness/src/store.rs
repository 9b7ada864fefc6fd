//! A result folder: cells, their commit points, and the CSV files that are derived from them.

use crate::cell::Cell;
use crate::durable;
use crate::exit;
use anyhow::{Context, Result};
use report::record::{
    self, AnytimePoint, CurvePoint, FdgPoint, FidelityPoint, LayerPoint, MembraneBin, Record, RunPlan,
};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};

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

/// Held while a process works on a cell; the kernel releases it when the process ends, however it ends.
pub struct Lock(#[allow(dead_code)] File);

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
        let path = folder.join("LOCK");
        let file = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("opening {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(error).with_context(|| format!("locking {}", path.display()));
            }
        }
        // Temporary files of a process that was killed while it held this lock.
        for entry in std::fs::read_dir(&folder)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(".tmp-") {
                std::fs::remove_file(entry.path()).ok();
            }
        }
        let config = folder.join("config.toml");
        let text = cell.to_toml()?;
        if std::fs::read_to_string(&config).ok().as_deref() != Some(&text) {
            durable::write(&config, text.as_bytes())?;
        }
        Ok(Some(Lock(file)))
    }

    /// A cell's committed result.
    pub fn result(&self, id: &str) -> Result<Option<CellResult>> {
        let path = self.cell_folder(id).join("result.json");
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
        };
        let parsed = serde_json::from_str(&text);
        parsed.map(Some).map_err(|error| {
            exit::data(format!("{}: {error}; remove the file to compute the cell again", path.display()))
        })
    }

    /// Commits a cell's result.
    pub fn commit(&self, id: &str, result: &CellResult) -> Result<()> {
        durable::write(&self.cell_folder(id).join("result.json"), &serde_json::to_vec_pretty(result)?)
    }

    /// Forgets a cell's result and checkpoints, for `--fresh` and `--retry`.
    pub fn forget(&self, id: &str) -> Result<()> {
        let folder = self.cell_folder(id);
        if folder.is_dir() {
            std::fs::remove_dir_all(&folder).with_context(|| format!("removing {}", folder.display()))?;
        }
        Ok(())
    }

    /// Writes `run.json`.
    pub fn write_plan(&self, plan: &RunPlan) -> Result<()> {
        durable::write(&self.root.join("run.json"), &serde_json::to_vec_pretty(plan)?)
    }

    /// Reads `run.json`.
    pub fn plan(&self) -> Result<RunPlan> {
        let path = self.root.join("run.json");
        let text = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| exit::data(format!("{}: {error}", path.display())))
    }

    /// Rebuilds every CSV file from the results of the plan's cells, in the plan's order.
    pub fn rebuild_csv(&self, plan: &RunPlan) -> Result<()> {
        let mut all = CsvRows::default();
        for cell in &plan.cells {
            if let Some(result) = self.result(&cell.cell_id)? {
                all.records.push(result.record);
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
