//! The main path: cells to results.

use crate::cell::{Cell, in_chain};
use crate::data::{self, Dataset};
use crate::device::{Device, describe};
use crate::environment::{Environment, peak_memory_bytes, utc_now};
use crate::exit::{self, Code};
use crate::lock::Lock;
use crate::model::layout::Layout;
use crate::plan::{channels, layer_macs};
use crate::progress::Progress;
use crate::store::{CellResult, Store};
use crate::train::audit::audit;
use crate::train::trainer::{Ended, Interrupt, Job};
use crate::train::{Evaluation, State, state::Checkpoints};
use anyhow::{Context, Result};
use report::record::{AnytimePoint, LayerPoint, Record, RunPlan, SCHEMA_VERSION, Status};
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Work lost to a kill, at most; `HARNESS_SAVE_SECONDS` overrides it for tests.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// Energies of one operation at 45 nm (Horowitz 2014), in picojoules: multiply-accumulate and accumulate, f32.
const MAC_PICOJOULES: f64 = 4.6;
const AC_PICOJOULES: f64 = 0.9;

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
    /// Set by a signal.
    pub interrupt: Interrupt,
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
    store.announce_changes(&request.plan);
    if request.fresh {
        request.cells.iter().try_for_each(|cell| forget(cell, &store))?;
    }
    let mut outcome = Outcome::default();
    let mut datasets = Datasets::default();
    store.write_plan(&request.plan)?;
    let todo: Vec<Cell> = request.cells.clone();
    let pending: Vec<&Cell> = todo.iter().filter(|cell| !matches!(store.status(&cell.id), Ok(Some(_)))).collect();
    let mut progress = Progress::new(&pending);
    for cell in &todo {
        request.interrupt.check()?;
        if one(cell, request, &store, &mut datasets, &mut progress, &mut outcome)? {
            store.rebuild_csv(&request.plan)?;
        }
    }
    store.write_plan(&request.plan)?;
    store.rebuild_csv(&request.plan)?;
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
    progress.start(cell);
    let started = utc_now();
    let row = |status, error| row(cell, &request.suite, &started, &request.device, status, error);
    let dataset = match datasets.open(cell, request.data_dir.as_deref(), store) {
        Ok(dataset) => dataset,
        Err(error) => {
            let reason = format!("{error:#}");
            progress.finish(cell, &format!("missing: {reason}"));
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
            progress.finish(cell, "waits for its parent, which is not done");
            outcome.busy += 1;
            return Ok(false);
        }
        Err(Inheritance::Never(reason)) => {
            progress.finish(cell, &reason);
            outcome.failed += 1;
            store.commit(&cell.id, &failed(row(Status::Failed, Some(reason))))?;
            return Ok(true);
        }
    };
    let folder = store.cell_folder(&cell.id);
    let save_every = std::env::var("HARNESS_SAVE_SECONDS")
        .ok()
        .and_then(|s| s.parse().ok())
        .map_or(SAVE_EVERY, Duration::from_secs_f64);
    let (device, interrupt) = (&request.device, &request.interrupt);
    let job = Job { cell, dataset: &dataset, device, parent, folder: &folder, save_every, interrupt };
    let ended = guarded(|| job.run(&mut |tick| progress.tick(cell, tick)));
    let result = match ended {
        Ok(Ended::Interrupted) => {
            return Err(exit::failure(
                Code::Resumable,
                "stopped by a signal; saved. The same command goes on from here",
            ));
        }
        Ok(Ended::Finished(state, evaluation)) => {
            progress.finish(cell, &format!("done: test {:.1} % at the last epoch", 100.0 * evaluation.top1));
            let mut result = finished(cell, row(Status::Done, None), &state, &evaluation, dataset.as_ref());
            if request.audit {
                add_audit(cell, &state, &dataset, &mut result)?;
            }
            // The checkpoints go last: a kill anywhere here costs the evaluation, not the training.
            let checkpoints = Checkpoints::new(&folder, &cell.config_hash);
            if !store.holds(&cell.id, &result)? {
                checkpoints.finish(&state)?;
                store.commit(&cell.id, &result)?;
            }
            checkpoints.forget()?;
            outcome.trained += 1;
            return Ok(true);
        }
        Ok(Ended::Diverged(state, message)) => {
            progress.finish(cell, &format!("diverged: {message}"));
            outcome.failed += 1;
            let mut result = failed(row(Status::Diverged, Some(message)));
            result.curves = state.curves;
            result.fdg = state.fdg;
            result
        }
        Err(error) if exit::code_of(&error) == Code::Io => return Err(error),
        Err(error) => {
            progress.finish(cell, &format!("failed: {error:#}"));
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

fn failed(record: Record) -> CellResult {
    CellResult {
        record,
        curves: Vec::new(),
        anytime: Vec::new(),
        fdg: Vec::new(),
        layers: Vec::new(),
        fidelity: Vec::new(),
        membranes: Vec::new(),
    }
}

/// The row of a cell before anything was measured.
fn row(cell: &Cell, suite: &str, started: &str, device: &Device, status: Status, error: Option<String>) -> Record {
    let (config, environment, device) = (&cell.config, Environment::new(), describe(device));
    let surrogate = config.method.as_ref().map(|m| m.surrogate);
    let lif = config.time_steps.map(|_| config.network.neuron);
    Record {
        schema_version: SCHEMA_VERSION,
        cell_id: cell.id.clone(),
        suite: suite.to_string(),
        dataset: config.data.dataset.to_string(),
        protocol_id: config.protocol_id.clone(),
        architecture: config.network.architecture.name().to_string(),
        width: config.network.width,
        norm: config.network.norm.name().to_string(),
        tau: lif.map(|lif| lif.tau),
        v_th: lif.map(|lif| lif.v_th),
        method: cell.method_name().to_string(),
        surrogate: surrogate.map(|s| s.name().to_string()),
        surrogate_parameter: surrogate.map(|s| s.parameter()),
        surrogate_width: surrogate.map(|s| s.width()),
        surrogate_peak: surrogate.map(|s| s.peak()),
        surrogate_area: surrogate.map(|s| s.area()),
        fdg: config.fdg.is_some(),
        fdg_batch: config.fdg.map(|fdg| fdg.batch),
        tit: in_chain(cell),
        train_time_steps: config.time_steps,
        eval_time_steps: config.time_steps,
        seed: config.seed,
        epochs: config.stage.epochs,
        batch: config.batch,
        top1_last: None,
        top1_best: None,
        top1_held_out: None,
        top5_last: None,
        loss_last: None,
        firing_rate: None,
        synops_ac: None,
        macs: None,
        energy_picojoules: None,
        parameters: None,
        peak_memory_bytes: peak_memory_bytes(),
        train_seconds: None,
        numerics: Some(device.numerics),
        device: Some(device.class.into()),
        threads: Some(environment.threads),
        host: environment.host,
        os: environment.os,
        cpu: environment.cpu,
        gpu: device.gpu,
        rustc: environment.rustc,
        harness_version: env!("CARGO_PKG_VERSION").into(),
        candle_version: crate::environment::CANDLE_VERSION.into(),
        git_revision: environment.git_revision,
        git_dirty: environment.git_dirty,
        config_hash: cell.config_hash.clone(),
        data_hash: None,
        parent_cell: config.parent_cell.clone(),
        started_utc: Some(started.to_string()),
        finished_utc: Some(utc_now()),
        status,
        error,
    }
}

/// The result of a cell that was trained to the end.
fn finished(cell: &Cell, mut record: Record, state: &State, test: &Evaluation, dataset: &dyn Dataset) -> CellResult {
    let config = &cell.config;
    // The surrogate that training ended with: FDG may have moved its temperature.
    let surrogate = config.method.as_ref().map(|m| m.surrogate);
    let surrogate = surrogate.map(|s| state.progress.temperature.and_then(|b| s.with_temperature(b)).unwrap_or(s));
    record.surrogate_parameter = surrogate.map(|s| s.parameter());
    record.surrogate_width = surrogate.map(|s| s.width());
    record.surrogate_peak = surrogate.map(|s| s.peak());
    record.surrogate_area = surrogate.map(|s| s.area());
    record.top1_last = Some(test.top1);
    record.top1_best = state.progress.top1_best;
    record.top1_held_out = state.progress.held_out_choice.map(|(_, test)| test);
    record.top5_last = test.top5;
    record.loss_last = Some(test.loss);
    record.firing_rate = test.firing_rate;
    record.parameters = Some(state.network.parameter_count());
    record.train_seconds = Some(state.progress.train_seconds);
    record.data_hash = Some(dataset.data_hash().to_string());
    record.peak_memory_bytes = peak_memory_bytes();
    let layout = Layout::new(&config.network, channels(config.data.dataset), dataset.classes(), None);
    let (first, others) = layer_macs(&layout, config.data.size);
    let (macs, synops) = match config.time_steps {
        None => (first + others, None),
        Some(t) => {
            let times = if config.data.dataset.is_event() { t as f64 } else { 1.0 };
            (first * times, Some(test.layers.iter().map(|layer| layer.synops).sum::<f64>()))
        }
    };
    record.macs = Some(macs);
    record.synops_ac = synops;
    record.energy_picojoules = Some(MAC_PICOJOULES * macs + AC_PICOJOULES * synops.unwrap_or(0.0));
    let anytime = test.anytime.iter().enumerate().filter(|_| config.time_steps.is_some());
    CellResult {
        record,
        curves: state.progress.curves.clone(),
        anytime: anytime.map(|(t, top1)| AnytimePoint { cell_id: cell.id.clone(), t: t + 1, top1: *top1 }).collect(),
        fdg: state.progress.fdg.clone(),
        layers: test
            .layers
            .iter()
            .map(|layer| LayerPoint {
                cell_id: cell.id.clone(),
                layer: layer.name.clone(),
                firing_rate: layer.firing_rate,
                synops: layer.synops,
                active_gradient_share: layer.active_gradient_share,
            })
            .collect(),
        fidelity: Vec::new(),
        membranes: Vec::new(),
    }
}

/// Adds gradient fidelity and membranes to a spiking cell's result.
fn add_audit(cell: &Cell, state: &State, dataset: &Arc<dyn Dataset>, result: &mut CellResult) -> Result<()> {
    let Some(method) = &cell.config.method else { return Ok(()) };
    let surrogate =
        state.progress.temperature.and_then(|b| method.surrogate.with_temperature(b)).unwrap_or(method.surrogate);
    let audit = audit(cell, &state.network, dataset, &cell.audit_fdg, &surrogate)?;
    for layer in &mut result.layers {
        let share = audit.shares.iter().find(|(name, _)| *name == layer.layer);
        layer.active_gradient_share = share.and_then(|(_, share)| *share);
    }
    result.fidelity = audit.fidelity;
    result.membranes = audit.membranes;
    Ok(())
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
