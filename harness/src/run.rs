//! The main path: cells to results.

use crate::cell::Cell;
use crate::data::{self, Dataset};
use crate::device::Device;
use crate::environment::utc_now;
use crate::exit::{self, Code};
use crate::lock::Lock;
use crate::progress::Progress;
use crate::row::{add_audit, failed, finished, row};
use crate::store::Store;
use crate::train::state::Checkpoints;
use crate::train::trainer::{Ended, Interrupt, Job};
use anyhow::{Context, Result};
use report::record::{RunPlan, Status};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Work lost to a kill, at most; `HARNESS_SAVE_SECONDS` overrides it for tests.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// What to run, and where.
pub struct Request {
    /// Name of the suite, for the rows.
    pub suite: String,
    /// The suite's cells, for the report.
    pub plan: RunPlan,
    /// The cells selected now.
    pub cells: Vec<Cell>,
    /// The result folder.
    pub out: PathBuf,
    /// Where data sets lie.
    pub data_dir: Option<PathBuf>,
    /// Compute selected cells again.
    pub fresh: bool,
    /// Compute failed and diverged cells again.
    pub retry: bool,
    /// Audits each spiking cell with these FDG settings.
    pub audit: bool,
    /// Where to compute.
    pub device: Device,
    /// Whether this process renews what is derived from the results.
    pub rows: Rows,
    /// Set by a signal.
    pub interrupt: Interrupt,
}

/// When `run.json` and the CSV files are renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// After every cell.
    Now,
    /// Not by this process: one of many, whose command is not the folder's.
    Later,
}

/// How the cells ended.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Trained now.
    pub trained: usize,
    /// Already there.
    pub kept: usize,
    /// Failed or diverged, now or before.
    pub failed: usize,
    /// Their data set is not here.
    pub missing: usize,
    /// Held by another process.
    pub busy: usize,
}

impl Outcome {
    /// The exit code, `None` where all is well.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self { busy: 1.., .. } => Some(Code::Resumable),
            Self { failed: 1.., .. } => Some(Code::CellFailed),
            Self { missing: 1.., .. } => Some(Code::Data),
            _ => None,
        }
    }
}

/// Trains what is not done yet, in order, parents before children. One cell's failure does not stop the others.
pub fn run(request: &mut Request) -> Result<Outcome> {
    let store = Store::open(&request.out)?;
    let now = request.rows == Rows::Now;
    if now {
        store.announce_changes(&request.plan);
    }
    if request.fresh {
        request.cells.iter().try_for_each(|cell| forget(cell, &store))?;
    }
    let mut outcome = Outcome::default();
    let mut datasets = Datasets::default();
    if now || store.plan().is_err() {
        store.write_plan(&request.plan)?;
    }
    let todo: Vec<Cell> = request.cells.clone();
    let pending: Vec<&Cell> = todo.iter().filter(|cell| !matches!(store.status(&cell.id), Ok(Some(_)))).collect();
    let mut progress = Progress::new(&pending);
    for cell in &todo {
        request.interrupt.check()?;
        if one(cell, request, &store, &mut datasets, &mut progress, &mut outcome)? && now {
            store.rebuild_csv(&request.plan)?;
        }
    }
    if now {
        store.write_plan(&request.plan)?;
        store.rebuild_csv(&request.plan)?;
    }
    Ok(outcome)
}

/// For `--fresh`: not what another process is computing.
fn forget(cell: &Cell, store: &Store) -> Result<()> {
    match store.lock(cell)? {
        Some(lock) => store.forget(&cell.id, &lock),
        None => Err(exit::failure(
            Code::Resumable,
            format!("{} is held by another process; stop that one, or leave out --fresh", cell.id),
        )),
    }
}

/// Whether nothing is to be computed of a cell.
fn settled(cell: &Cell, retry: bool, store: &Store, outcome: &mut Outcome) -> Result<bool> {
    match store.status(&cell.id)? {
        Some(Status::Done) => {
            outcome.kept += 1;
            // Left where a process was killed just after its commit.
            Checkpoints::new(&store.cell_folder(&cell.id), &cell.config_hash).forget()?;
        }
        Some(Status::Failed | Status::Diverged) if !retry => outcome.failed += 1,
        _ => return Ok(false),
    }
    Ok(true)
}

/// One cell, under its lock from the first look to the commit; whether a result was committed.
fn one(
    cell: &Cell,
    request: &mut Request,
    store: &Store,
    datasets: &mut Datasets,
    progress: &mut Progress,
    outcome: &mut Outcome,
) -> Result<bool> {
    if settled(cell, request.retry, store, outcome)? {
        return Ok(false);
    }
    let Some(lock) = store.lock(cell)? else {
        outcome.busy += 1;
        progress.say(&format!("{} is held by another process; left to it", cell.id));
        return Ok(false);
    };
    // Once more: another process may have finished it before this one had the lock.
    if settled(cell, request.retry, store, outcome)? {
        return Ok(false);
    }
    if store.status(&cell.id)?.is_some() {
        store.forget(&cell.id, &lock)?;
    }
    let folder = store.cell_folder(&cell.id);
    progress.start(cell, &folder)?;
    let started = utc_now();
    let row = |status, error| row(cell, &request.suite, &started, &request.device, status, error);
    let dataset = match datasets.open(cell, request.data_dir.as_deref(), store) {
        Ok(dataset) => dataset,
        Err(error) => {
            let reason = format!("{error:#}");
            progress.finish(cell, &format!("missing: {reason}"))?;
            for planned in request.plan.cells.iter_mut().filter(|planned| planned.cell_id == cell.id) {
                planned.missing = Some(reason.clone());
            }
            outcome.missing += 1;
            return Ok(false);
        }
    };
    let parent = match parent_weights(cell, store) {
        Ok(parent) => parent,
        Err(Inheritance::Later) => {
            progress.finish(cell, "waits for its parent, which is not done")?;
            outcome.busy += 1;
            return Ok(false);
        }
        Err(Inheritance::Never(reason)) => {
            progress.finish(cell, &reason)?;
            outcome.failed += 1;
            store.commit(&cell.id, &failed(row(Status::Failed, Some(reason))))?;
            return Ok(true);
        }
    };
    let save_every = std::env::var("HARNESS_SAVE_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .map_or(SAVE_EVERY, Duration::from_secs_f64);
    let (device, interrupt) = (&request.device, &request.interrupt);
    let audit = request.audit;
    let job = Job { cell, dataset: &dataset, device, parent, folder: &folder, audit, save_every, interrupt };
    let ended = guarded(|| job.run(&mut |tick| progress.tick(cell, tick)));
    let result = match ended {
        Ok(Ended::Interrupted) => {
            return Err(exit::failure(
                Code::Resumable,
                "stopped by a signal; saved. The same command goes on from here",
            ));
        }
        Ok(Ended::Finished(mut state, evaluation)) => {
            let mut result = finished(cell, row(Status::Done, None), &state, &evaluation, dataset.as_ref());
            if request.audit {
                add_audit(&job, &mut state, &mut result)?;
            }
            // The checkpoints go last: a kill anywhere here costs the evaluation, not the training or the audit.
            let checkpoints = Checkpoints::new(&folder, &cell.config_hash);
            if !store.holds(&cell.id, &result)? {
                checkpoints.finish(&state)?;
                store.commit(&cell.id, &result)?;
            }
            checkpoints.forget()?;
            progress.finish(cell, &format!("done: test {:.1} % at the last epoch", 100.0 * evaluation.top1))?;
            outcome.trained += 1;
            return Ok(true);
        }
        Ok(Ended::Diverged(state, message)) => {
            progress.finish(cell, &format!("diverged: {message}"))?;
            outcome.failed += 1;
            let mut result = failed(row(Status::Diverged, Some(message)));
            result.curves = state.curves;
            result.fdg = state.fdg;
            result.fidelity = state.fidelity;
            result
        }
        Err(error) if exit::code_of(&error) == Code::Io => return Err(error),
        Err(error) => {
            progress.finish(cell, &format!("failed: {error:#}"))?;
            outcome.failed += 1;
            failed(row(Status::Failed, Some(format!("{error:#}"))))
        }
    };
    store.commit(&cell.id, &result)?;
    Ok(true)
}

/// Runs `f`; a panic inside is one cell's failure, with its message.
fn guarded<T>(f: impl FnOnce() -> Result<T>) -> Result<T> {
    std::panic::catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        Err(exit::failure(
            Code::CellFailed,
            format!("a bug in this program: {}", text.unwrap_or("panic without a message")),
        ))
    })
}

enum Inheritance {
    Later,
    Never(String),
}

fn parent_weights(cell: &Cell, store: &Store) -> Result<Option<PathBuf>, Inheritance> {
    let Some(parent) = &cell.config.parent_cell else { return Ok(None) };
    match store.result(parent) {
        Ok(Some(result)) if result.record.status == Status::Done => {
            let weights = Checkpoints::finished(&store.cell_folder(parent));
            if weights.is_file() {
                return Ok(Some(weights));
            }
            Err(Inheritance::Never(format!(
                "the weights of its parent {parent} are gone; remove that cell's folder to train it again"
            )))
        }
        Ok(Some(_)) => Err(Inheritance::Never(format!("its parent {parent} failed; --retry tries both again"))),
        Ok(None) => Err(Inheritance::Later),
        Err(error) => Err(Inheritance::Never(format!("its parent {parent}: {error:#}"))),
    }
}

/// Data sets that are open: cells of one suite share them.
#[derive(Default)]
struct Datasets(HashMap<String, Arc<dyn Dataset>>);

impl Datasets {
    fn open(&mut self, cell: &Cell, data_dir: Option<&std::path::Path>, store: &Store) -> Result<Arc<dyn Dataset>> {
        let config = &cell.config.data;
        let frames = config.dataset.is_event().then_some(cell.config.time_steps).flatten();
        let key = format!("{} T={frames:?}", toml::to_string(config)?);
        if let Some(open) = self.0.get(&key) {
            return Ok(open.clone());
        }
        let cache = store.root().join("cache");
        let dataset = data::open(config, frames, data_dir, Some(&cache))?;
        self.0.insert(key, dataset.clone());
        Ok(dataset)
    }
}

/// The plan's cells with their status, for `status`.
pub fn statuses(store: &Store) -> Result<Vec<(report::record::PlannedCell, String)>> {
    let plan = store.plan().context("the result folder's plan")?;
    let mut list = Vec::new();
    for planned in plan.cells {
        let folder = store.cell_folder(&planned.cell_id);
        let status = match store.status(&planned.cell_id)? {
            Some(Status::Done) => "done",
            Some(Status::Failed) => "failed",
            Some(Status::Diverged) => "diverged",
            None if planned.missing.is_some() => "missing",
            None if Lock::is_held(&folder) => "running",
            None if folder.is_dir() => "started",
            None => "todo",
        };
        list.push((planned, status.to_string()));
    }
    Ok(list)
}
