//! The main path: cells to results.

mod same_data;
#[cfg(test)]
mod tests;

use crate::cell::Cell;
use crate::data::{self, Dataset};
use crate::device::Device;
use crate::durable;
use crate::environment::utc_now;
use crate::exit::{self, Code};
use crate::lock::Lock;
use crate::predictions;
use crate::progress::Progress;
use crate::queue::{self, Queue};
use crate::ranks::Ranks;
use crate::row::{add_audit, audit_of, failed, finished, row};
use crate::store::Store;
use crate::train::audit::Audit;
use crate::train::state::{self, Checkpoints};
use crate::train::trainer::{Ended, Interrupt, Job, Tick};
use crate::train::{Evaluation, State};
use anyhow::{Context, Result};
use report::record::{Record, RunPlan, Status};
use same_data::{Parent, like_the_first, refuse_other_data};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Work lost to a kill, at most; `HARNESS_SAVE_SECONDS` overrides it for tests.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// What to run, and where.
pub struct Request {
    /// Name of the suite, for the rows.
    pub suite: String,
    /// The suite's cells, for the report.
    pub plan: RunPlan,
    /// The cells selected now, in the order in which they start.
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
    /// Cells that train at the same time, each with its share of the threads.
    pub jobs: usize,
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
    /// Their data set is not here, or is not the one that they or their parents were begun with.
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

/// A cell that the first process tells the others to train with it.
#[derive(Serialize, Deserialize)]
struct Order {
    cell: Cell,
    audit: bool,
    cache: PathBuf,
    /// The hash of the first process's data, which the others' data must have too.
    data_hash: String,
}

/// Trains with the first process whatever that one trains, and writes nothing.
pub fn follow(device: &Device, data_dir: Option<&Path>, interrupt: &Interrupt, ranks: &Ranks) -> Result<()> {
    let mut datasets = Datasets::default();
    while let Some(Order { cell, audit, cache, data_hash }) = ranks.from_first(Ok(None))? {
        let opened = datasets.open(&cell, data_dir, &cache);
        let opened = opened.and_then(|dataset| like_the_first(dataset, &data_hash));
        let Ok(dataset) = ranks.agree(opened) else { continue };
        let (cell, dataset, folder, save_every) = (&cell, &dataset, Path::new(""), Duration::MAX);
        let job = Job { cell, dataset, device, parent: None, folder, audit, save_every, interrupt, ranks };
        train(&job, &mut |_| Ok(()))?;
    }
    Ok(())
}

/// Trains what is not done yet, in order, parents before children. One cell's failure does not stop the others.
///
/// Several processes (this is their first) train one cell at a time: then `request.jobs` is 1.
pub fn run(request: &Request, ranks: &Ranks) -> Result<Outcome> {
    let store = Store::open(&request.out)?;
    let now = request.rows == Rows::Now;
    if now {
        store.announce_changes(&request.plan);
    }
    if request.fresh {
        request.cells.iter().try_for_each(|cell| forget(cell, &store))?;
    }
    if now || store.plan().is_err() {
        store.write_plan(&request.plan)?;
    }
    let pending =
        request.cells.iter().filter(|cell| !matches!(store.status(&cell.id), Ok(Some(_)))).collect::<Vec<_>>();
    let jobs = request.jobs.clamp(1, queue::most_at_once(&pending).max(1));
    let run = Run {
        request,
        store: &store,
        queue: Queue::new(request.cells.clone()),
        plan: Mutex::new(request.plan.clone()),
        datasets: Mutex::default(),
        progress: Mutex::new(Progress::new(&pending, jobs)),
        outcome: Mutex::default(),
    };
    run.on_workers(jobs, ranks)?;
    ranks.from_first(Ok(None::<Order>))?;
    let (plan, outcome) = (run.plan, run.outcome);
    if now {
        let plan = plan.into_inner().unwrap_or_else(PoisonError::into_inner);
        store.write_plan(&plan)?;
        store.rebuild_csv(&plan)?;
    }
    Ok(outcome.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// What the workers share.
struct Run<'a> {
    request: &'a Request,
    store: &'a Store,
    queue: Queue,
    plan: Mutex<RunPlan>,
    datasets: Mutex<Datasets>,
    progress: Mutex<Progress>,
    outcome: Mutex<Outcome>,
}

/// Nothing that a panic could leave half done is behind these locks.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Run<'_> {
    fn on_workers(&self, jobs: usize, ranks: &Ranks) -> Result<()> {
        if jobs == 1 {
            return self.work(ranks);
        }
        let threads = (rayon::current_num_threads() / jobs).max(1);
        let pool = || rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pools = (0..jobs).map(|_| pool()).collect::<Result<Vec<_>, _>>().map_err(exit::no_thread)?;
        std::thread::scope(|scope| {
            let work = |pool| move || rayon::ThreadPool::install(pool, || self.work(&Ranks::alone()));
            let start = |pool| std::thread::Builder::new().spawn_scoped(scope, work(pool));
            let workers: Vec<_> = pools.iter().map(start).collect();
            let ended = workers.into_iter().map(|worker| {
                // The others have done its cells.
                worker.map_err(exit::no_thread)?.join().unwrap_or_else(|panic| resume_unwind(panic))
            });
            let mut errors: Vec<_> = ended.filter_map(Result::err).collect();
            // The one that stopped the others.
            errors.sort_by_key(|error| exit::code_of(error) == Code::Resumable);
            errors.into_iter().next().map_or(Ok(()), Err)
        })
    }

    /// One worker: cell after cell.
    fn work(&self, ranks: &Ranks) -> Result<()> {
        while let Some(cell) = self.queue.next() {
            let ended = self.request.interrupt.check().and_then(|()| guarded(|| self.next(&cell, ranks)));
            self.queue.ended(&cell);
            if ended.is_err() {
                // The others save what they have and stop too.
                self.queue.stop();
                self.request.interrupt.ask();
            }
            ended?;
        }
        Ok(())
    }

    fn next(&self, cell: &Cell, ranks: &Ranks) -> Result<()> {
        if self.one(cell, ranks)? && self.request.rows == Rows::Now {
            let plan = locked(&self.plan).clone();
            self.store.rebuild_csv(&plan)?;
        }
        Ok(())
    }
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
fn settled(cell: &Cell, retry: bool, store: &Store, outcome: &Mutex<Outcome>) -> Result<bool> {
    match store.status(&cell.id)? {
        Some(Status::Done) => {
            locked(outcome).kept += 1;
            // Left where a process was killed just after its commit.
            Checkpoints::new(&store.cell_folder(&cell.id), &cell.config_hash).forget()?;
        }
        Some(Status::Failed | Status::Diverged) if !retry => locked(outcome).failed += 1,
        _ => return Ok(false),
    }
    Ok(true)
}

impl Run<'_> {
    /// One cell, under its lock from the first look to the commit; whether a result was committed.
    fn one(&self, cell: &Cell, ranks: &Ranks) -> Result<bool> {
        let Self { request, store, outcome, .. } = self;
        let (request, store) = (*request, *store);
        let progress = || locked(&self.progress);
        if settled(cell, request.retry, store, outcome)? {
            return Ok(false);
        }
        let Some(lock) = store.lock(cell)? else {
            locked(outcome).busy += 1;
            progress().say(&format!("{} is held by another process; left to it", cell.id));
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
        progress().start(cell, &folder)?;
        let started = utc_now();
        let cache = store.root().join("cache");
        let dataset = match locked(&self.datasets).open(cell, request.data_dir.as_deref(), &cache) {
            Ok(dataset) => dataset,
            Err(error) => return self.missing(cell, &error),
        };
        let (protocol_id, data_hash) = identity_of_data(cell, dataset.as_ref());
        let row = |status, error| Record {
            protocol_id: protocol_id.clone(),
            data_hash: Some(data_hash.clone()),
            ..row(cell, &request.suite, &started, &request.device, status, error)
        };
        let parent = match finished_parent(cell, store) {
            Ok(parent) => parent,
            Err(Inheritance::Later) => {
                if let Some(error) = self.untrained_parent(cell) {
                    return self.missing(cell, &error);
                }
                progress().finish(cell, "waits for its parent, which is not done")?;
                locked(outcome).busy += 1;
                return Ok(false);
            }
            Err(Inheritance::Never(reason)) => {
                progress().finish(cell, &reason)?;
                locked(outcome).failed += 1;
                store.commit(&cell.id, &failed(row(Status::Failed, Some(reason))))?;
                return Ok(true);
            }
        };
        if let Err(error) = refuse_other_data(cell, &data_hash, parent.as_ref(), &folder) {
            return self.missing(cell, &error);
        }
        let order = Order { cell: cell.clone(), audit: request.audit, cache, data_hash: data_hash.clone() };
        ranks.from_first(Ok(Some(order)))?;
        let dataset = match ranks.agree(Ok(dataset)) {
            Ok(dataset) => dataset,
            Err(error) => return self.missing(cell, &error),
        };
        let save_every = std::env::var("HARNESS_SAVE_SECONDS")
            .ok()
            .and_then(|s| s.parse().ok())
            .map_or(SAVE_EVERY, Duration::from_secs_f64);
        let (device, interrupt) = (&request.device, &request.interrupt);
        let (audit, parent) = (request.audit, parent.map(|parent| parent.weights));
        let job = Job { cell, dataset: &dataset, device, parent, folder: &folder, audit, save_every, interrupt, ranks };
        let result = match train(&job, &mut |tick| progress().tick(cell, tick))? {
            Trained::Finished(state, evaluation, audit) => {
                let mut result = finished(cell, row(Status::Done, None), &state, &evaluation, dataset.as_ref());
                if let Some(audit) = audit {
                    add_audit(audit, &mut result);
                }
                // The checkpoints go last: a kill anywhere here costs the evaluation, not the training or the audit.
                let checkpoints = Checkpoints::new(&folder, &cell.config_hash);
                if !store.holds(&cell.id, &result)? {
                    checkpoints.finish(&state)?;
                    durable::write(&folder.join(predictions::FILE), &predictions::to_npy(&evaluation.predictions))?;
                    store.commit(&cell.id, &result)?;
                }
                checkpoints.forget()?;
                progress().finish(cell, &format!("done: test {:.1} % at the last epoch", 100.0 * evaluation.top1))?;
                locked(outcome).trained += 1;
                return Ok(true);
            }
            Trained::Diverged(state, message) => {
                progress().finish(cell, &format!("diverged: {message}"))?;
                locked(outcome).failed += 1;
                let mut result = failed(row(Status::Diverged, Some(message)));
                result.curves = state.curves;
                result.fdg = state.fdg;
                result.fidelity = state.fidelity;
                result
            }
            Trained::Failed(error) => {
                progress().finish(cell, &format!("failed: {error:#}"))?;
                locked(outcome).failed += 1;
                failed(row(Status::Failed, Some(format!("{error:#}"))))
            }
        };
        store.commit(&cell.id, &result)?;
        Ok(true)
    }

    /// Why a cell will not have its parent in this run: the parent's data are not here, or not the right ones.
    fn untrained_parent(&self, cell: &Cell) -> Option<anyhow::Error> {
        let parent = cell.config.parent_cell.as_ref()?;
        let plan = locked(&self.plan);
        let reason = plan.cells.iter().find(|planned| planned.cell_id == *parent)?.missing.as_ref()?;
        Some(exit::data(format!("its parent {parent} was not trained: {reason}")))
    }

    /// Notes why a cell's data are not here, or not those it was begun with; nothing was committed.
    fn missing(&self, cell: &Cell, error: &anyhow::Error) -> Result<bool> {
        let reason = format!("{error:#}");
        locked(&self.progress).finish(cell, &format!("missing: {reason}"))?;
        for planned in locked(&self.plan).cells.iter_mut().filter(|planned| planned.cell_id == cell.id) {
            planned.missing = Some(reason.clone());
        }
        locked(&self.outcome).missing += 1;
        Ok(false)
    }
}

/// The protocol id and the data hash of the data that were read, for the row.
fn identity_of_data(cell: &Cell, dataset: &dyn Dataset) -> (String, String) {
    let config = &cell.config;
    let protocol_id = data::protocol_as_read(&config.protocol_id, config.data.dataset, dataset);
    (protocol_id, dataset.data_hash().to_string())
}

/// What a cell's training came to, where the run goes on.
enum Trained {
    Finished(Box<State>, Evaluation, Option<Audit>),
    Diverged(Box<state::Progress>, String),
    Failed(anyhow::Error),
}

/// Trains a cell and audits it where that is asked for, all processes together.
///
/// # Errors
/// What ends the run: a signal, and a disk that cannot be written.
fn train(job: &Job<'_>, tick: &mut dyn FnMut(&Tick<'_>) -> Result<()>) -> Result<Trained> {
    let work = || {
        Ok(match job.run(tick)? {
            Ended::Finished(mut state, evaluation) => {
                let audit = audit_of(job, &mut state)?;
                Trained::Finished(state, evaluation, audit)
            }
            Ended::Diverged(progress, message) => Trained::Diverged(progress, message),
            Ended::Interrupted => {
                let message = "stopped by a signal; saved. The same command goes on from here";
                return Err(exit::failure(Code::Resumable, message));
            }
        })
    };
    match job.ranks.together(|| guarded(work)) {
        Err(error) if [Code::Io, Code::Resumable].contains(&exit::code_of(&error)) => Err(error),
        Err(error) => Ok(Trained::Failed(error)),
        trained => trained,
    }
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

fn finished_parent(cell: &Cell, store: &Store) -> Result<Option<Parent>, Inheritance> {
    let Some(parent) = &cell.config.parent_cell else { return Ok(None) };
    match store.result(parent) {
        Ok(Some(result)) if result.record.status == Status::Done => {
            let weights = Checkpoints::finished(&store.cell_folder(parent));
            if weights.is_file() {
                return Ok(Some(Parent { weights, data_hash: result.record.data_hash }));
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
    fn open(&mut self, cell: &Cell, data_dir: Option<&Path>, cache: &Path) -> Result<Arc<dyn Dataset>> {
        let config = &cell.config.data;
        let frames = config.dataset.is_event().then_some(cell.config.time_steps).flatten();
        let key = format!("{} T={frames:?}", toml::to_string(config)?);
        if let Some(open) = self.0.get(&key) {
            return Ok(open.clone());
        }
        let dataset = data::open(config, frames, data_dir, Some(cache))?;
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
