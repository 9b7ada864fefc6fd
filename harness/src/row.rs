//! From a trained cell to its row and the companions of the row.

use crate::cell::{Cell, in_chain, protocol_of_parts};
use crate::data::{Dataset, Split};
use crate::device::{Device, describe};
use crate::environment::{Environment, peak_memory_bytes, utc_now};
use crate::model::cost::layer_macs;
use crate::model::layout::Layout;
use crate::store::CellResult;
use crate::train::audit::{Audit, audit};
use crate::train::trainer::Job;
use crate::train::{Evaluation, State};
use anyhow::Result;
use methods::Schedule;
use methods::lif::Reset;
use report::record::{AnytimePoint, LayerPoint, Record, SCHEMA_VERSION, Status};

/// Energies of one operation at 45 nm (Horowitz 2014), in picojoules: multiply-accumulate and accumulate, f32.
const MAC_PICOJOULES: f64 = 4.6;
const AC_PICOJOULES: f64 = 0.9;
/// The loss that every cell minimises, as the column `loss` names it.
const LOSS: &str = "cross-entropy of the mean logits";
/// An f32 membrane potential.
const MEMBRANE_BYTES: u64 = 4;

/// A result that is only a row.
pub fn failed(record: Record) -> CellResult {
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
pub fn row(cell: &Cell, suite: &str, started: &str, device: &Device, status: Status, error: Option<String>) -> Record {
    let (config, environment, device) = (&cell.config, Environment::new(), describe(device));
    let surrogate = config.method.as_ref().map(|m| m.surrogate);
    let lif = config.time_steps.map(|_| config.network.neuron);
    let record = Record {
        schema_version: SCHEMA_VERSION,
        cell_id: cell.id.clone(),
        suite: suite.to_string(),
        dataset: config.data.dataset.to_string(),
        protocol_id: config.protocol_id.clone(),
        architecture: config.network.architecture.name().to_string(),
        width: Some(config.network.width),
        norm: config.network.norm.name().to_string(),
        tau: lif.map(|lif| lif.tau),
        v_th: lif.map(|lif| lif.v_th),
        method: cell.method_name().to_string(),
        surrogate: surrogate.map(|s| s.name().to_string()),
        surrogate_parameter: surrogate.map(|s| s.parameter()),
        surrogate_width: surrogate.map(|s| s.width()),
        surrogate_peak: surrogate.map(|s| s.peak()),
        surrogate_area: surrogate.map(|s| s.area()),
        fdg: Some(config.fdg.is_some()),
        fdg_batch: config.fdg.map(|fdg| fdg.batch),
        tit: Some(in_chain(cell)),
        train_time_steps: config.time_steps,
        eval_time_steps: config.time_steps,
        seed: config.seed,
        epochs: Some(config.stage.epochs),
        batch: Some(config.batch),
        peak_memory_bytes: peak_memory_bytes(),
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
        parent_cell: config.parent_cell.clone(),
        started_utc: Some(started.to_string()),
        finished_utc: Some(utc_now()),
        status,
        error,
        ..Record::default()
    };
    identified(record, cell)
}

/// The row with the columns that say which experiment the cell is. They follow from its configuration alone, so that a
/// result of an earlier version can be given them too.
pub fn identified(record: Record, cell: &Cell) -> Record {
    let config = &cell.config;
    let lif = config.time_steps.map(|_| config.network.neuron);
    let name = |reset| match reset {
        Reset::Hard => "hard",
        Reset::Soft => "soft",
    };
    Record {
        schema_version: SCHEMA_VERSION,
        series_id: Some(cell.series_id.clone()),
        stem: Some(if config.network.imagenet_stem { "imagenet" } else { "cifar" }.into()),
        reset: lif.map(|lif| name(lif.reset).into()),
        detach_reset: lif.map(|lif| lif.detach_reset),
        surrogate_start: config.method.as_ref().map(|m| m.surrogate.parameter()),
        temperature_schedule: config.method.as_ref().and_then(|m| m.temperature).map(|schedule| match schedule {
            Schedule::RandomWalk => "random-walk".into(),
            Schedule::Ramp(to) => format!("ramp to {to}"),
        }),
        fdg_epsilon: config.fdg.map(|fdg| fdg.epsilon),
        fdg_step: config.fdg.map(|fdg| fdg.grid()).or(config.temperature_grid).map(|grid| grid.step),
        fdg_floor: config.fdg.map(|fdg| fdg.grid()).or(config.temperature_grid).map(|grid| grid.floor),
        fdg_cap: config.fdg.map(|fdg| fdg.grid()).or(config.temperature_grid).map(|grid| grid.cap),
        ancestors: Some(cell.ancestors.join(" > ")).filter(|ancestors| !ancestors.is_empty()),
        lr: Some(config.stage.lr),
        weight_decay: Some(config.stage.weight_decay),
        momentum: Some(config.momentum),
        loss: Some(LOSS.into()),
        precision: Some(config.precision.clone()),
        recipe_version: Some(config.recipe_version),
        ..record
    }
}

/// The result of a cell that was trained to the end.
pub fn finished(
    cell: &Cell,
    mut record: Record,
    state: &State,
    test: &Evaluation,
    dataset: &dyn Dataset,
) -> CellResult {
    let config = &cell.config;
    // The surrogate that training ended with: FDG may have moved its temperature.
    let surrogate = config.method.as_ref().map(|m| m.surrogate);
    let surrogate = surrogate.map(|s| state.progress.temperature.and_then(|b| s.with_temperature(b)).unwrap_or(s));
    record.surrogate_parameter = surrogate.map(|s| s.parameter());
    record.surrogate_width = surrogate.map(|s| s.width());
    record.surrogate_peak = surrogate.map(|s| s.peak());
    record.surrogate_area = surrogate.map(|s| s.area());
    if let Some(images) = state.progress.micro_batch {
        record.protocol_id = protocol_of_parts(&record.protocol_id, images);
    }
    record.top1_last = Some(test.top1);
    record.top1_best = state.progress.top1_best;
    record.top1_held_out = state.progress.held_out_choice.map(|(_, test)| test);
    record.held_out_top1_best = state.progress.held_out_choice.map(|(held_out, _)| held_out);
    record.top5_last = test.top5;
    record.loss_last = Some(test.loss);
    record.firing_rate = test.firing_rate;
    record.parameters = Some(state.network.parameter_count());
    record.train_seconds = Some(state.progress.train_seconds);
    record.git_revision = state.progress.git_revision.clone();
    record.train_samples = Some(dataset.len(Split::Train).saturating_sub(config.held_out));
    record.test_samples = Some(dataset.len(Split::Test));
    record.peak_memory_bytes = peak_memory_bytes();
    let layout = Layout::new(&config.network, config.data.dataset.channels(), dataset.classes(), None);
    let (first, others) = layer_macs(&layout, config.data.size);
    let (macs, synops) = match config.time_steps {
        None => (first + others, None),
        Some(t) => {
            let times = if config.data.dataset.is_event() { t as f64 } else { 1.0 };
            (first * times, Some(test.layers.iter().map(|layer| layer.synops).sum::<f64>()))
        }
    };
    record.macs = Some(macs);
    record.state_bytes = config.time_steps.map(|_| MEMBRANE_BYTES * layout.neurons(config.data.size) as u64);
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
        fidelity: state.progress.fidelity.clone(),
        membranes: Vec::new(),
    }
}

/// The audit of a spiking cell, where one is asked for; errors as [`audit`]'s.
pub fn audit_of(job: &Job<'_>, state: &mut State) -> Result<Option<Audit>> {
    let Some(method) = job.cell.config.method.as_ref().filter(|_| job.audit) else { return Ok(None) };
    let surrogate =
        state.progress.temperature.and_then(|b| method.surrogate.with_temperature(b)).unwrap_or(method.surrogate);
    audit(job, state, &job.cell.audit_fdg, &surrogate).map(Some)
}

/// Adds gradient fidelity and membranes to a cell's result.
pub fn add_audit(audit: Audit, result: &mut CellResult) {
    for layer in &mut result.layers {
        let share = audit.shares.iter().find(|(name, _)| *name == layer.layer);
        layer.active_gradient_share = share.and_then(|(_, share)| *share);
    }
    result.fidelity.extend(audit.fidelity);
    result.membranes = audit.membranes;
}
