//! What no peer shows of a trained cell: how well surrogate gradients agree with finite differences, and where the
//! membranes lie under the surrogate's derivative.

use super::fdg::Probe;
use super::state::State;
use super::trainer::{Job, Saver, input_of};
use crate::cell::Cell;
use crate::data::{Batch, Batches, Dataset, Draw, Split};
use crate::model::network::{Network, Neuron, Pass, Statistics};
use crate::model::probe::{self, Seen};
use crate::ops::pad8;
use crate::rng::{Purpose, Stream};
use anyhow::{Context, Result};
use methods::fdg::{Fdg, fidelity};
use methods::lif::{Lif, Reset};
use methods::surrogate::{Arctan, Dspike, Rectangle, Sigmoid, Surrogate, Triangle};
use report::record::{FidelityPoint, MembraneBin};
use std::sync::Arc;

/// Edges of the membrane histogram: from -2 to 2 around the threshold, a tenth each.
const BINS: usize = 40;
const LOWEST: f64 = -2.0;
const BIN: f64 = 0.1;
/// Weights sampled in a layer deeper than the first.
const SAMPLED: usize = 32;
/// Temperatures of Dspike's curve.
const CURVE: [f64; 9] = [0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0, 7.0, 10.0];
/// Resamples of the interval of a sampled cosine.
const RESAMPLES: usize = 1000;

/// The audit of one cell.
#[derive(Clone, Debug, Default)]
pub struct Audit {
    /// Surrogate gradients held against finite differences.
    pub fidelity: Vec<FidelityPoint>,
    /// Membranes of each layer on one test batch.
    pub membranes: Vec<MembraneBin>,
    /// Share of the membranes within the surrogate's support, a layer; `None` for an endless support.
    pub shares: Vec<(String, Option<f64>)>,
}

/// Audits a trained spiking cell. `fdg` gives ε and the batch; `surrogate` is the one that training ended with.
///
/// # Errors
/// Exit code 75 once a signal came; `state` is saved with the differences taken so far, and the next audit goes on from them.
pub fn audit(job: &Job<'_>, state: &mut State, fdg: &Fdg, surrogate: &Surrogate) -> Result<Audit> {
    let mut audit = Audit::default();
    let (cell, dataset, network) = (job.cell, job.dataset, state.network.clone());
    let Neuron::Lif(lif) = network.neuron else { return Ok(audit) };
    let time_steps = cell.config.time_steps.unwrap_or(1);
    membranes(cell, &network, dataset, &lif, surrogate, &mut audit)?;

    let epochs = cell.config.stage.epochs;
    let mut order =
        Stream::new(cell.config.seed, Purpose::FdgBatch, (epochs as u64, 0)).permutation(dataset.len(Split::Train));
    order.truncate(fdg.batch);
    let batch = first_batch(dataset, Split::Train, order, Some(Draw { seed: cell.config.seed, epoch: epochs as u64 }))?;
    let input = input_of(&batch, dataset.input(), network.device())?;
    let probe = Probe { input: &input, labels: &batch.labels, time_steps, classes: dataset.classes() };
    let surrogates = audited(surrogate, &CURVE);
    let layers = sampled_layers(&network, cell.config.seed);
    let params: Vec<usize> = layers.iter().map(|(param, _)| *param).collect();
    let gradients = probe.surrogate_gradients(&network, &surrogates, &params)?;
    // Differences are kept one layer after the other: those of an earlier attempt, and those taken or taken over by now.
    let (mut earlier, mut taken) = (std::mem::take(&mut state.progress.differences), Vec::new());
    let mut saver = Saver::new(job);
    for (place, (param, indices)) in layers.iter().enumerate() {
        let known = earlier.drain(..indices.len().min(earlier.len())).collect();
        let mut pause = |differences: &[f64]| job.pause(state, &mut saver, &[&taken, differences].concat());
        let reference = job.differences(&probe, &network, (*param, fdg.epsilon), indices, known, &mut pause)?;
        taken.extend_from_slice(&reference);
        for (surrogate, gradients) in surrogates.iter().zip(&gradients) {
            let ours: Vec<f32> = indices.iter().map(|i| gradients[place][*i]).collect();
            let compared = Compared { param: *param, epoch: epochs, epsilon: fdg.epsilon, reference: &reference };
            audit.fidelity.push(point(cell, &network, surrogate, &ours, &compared));
        }
    }
    state.progress.differences.clear();
    Ok(audit)
}

fn first_batch(dataset: &Arc<dyn Dataset>, split: Split, order: Vec<usize>, draw: Option<Draw>) -> Result<Batch> {
    let size = order.len().max(1);
    Batches::new(dataset.clone(), split, order, size, draw, 0, 0).next().context("the split is empty")?
}

/// Dspike at these temperatures, each other surrogate at its usual parameter, and the cell's own.
fn audited(own: &Surrogate, temperatures: &[f64]) -> Vec<Surrogate> {
    let mut list: Vec<Surrogate> =
        temperatures.iter().map(|&temperature| Surrogate::Dspike(Dspike { temperature })).collect();
    list.push(Surrogate::Rectangle(Rectangle { width: 1.0 }));
    list.push(Surrogate::Sigmoid(Sigmoid { alpha: 4.0 }));
    list.push(Surrogate::Triangle(Triangle { gamma: 1.0 }));
    list.push(Surrogate::Arctan(Arctan { alpha: 2.0 }));
    if !list.contains(own) {
        list.push(*own);
    }
    list
}

/// All weights of the first convolution; a random sample of one in the middle of the network and of the last.
fn sampled_layers(network: &Network, seed: u64) -> Vec<(usize, Vec<usize>)> {
    let specs = network.layout.params.iter().enumerate();
    let convolutions: Vec<usize> = specs.filter(|(_, spec)| spec.shape.len() == 4).map(|(i, _)| i).collect();
    let mut layers = vec![(convolutions[0], (0..network.params[convolutions[0]].elem_count()).collect::<Vec<usize>>())];
    for place in [convolutions.len() / 2, convolutions.len() - 1] {
        let param = convolutions[place];
        if layers.iter().all(|(known, _)| *known != param) {
            let mut stream = Stream::new(seed, Purpose::Synthetic, (param as u64, 1));
            let mut indices = stream.permutation(network.params[param].elem_count());
            indices.truncate(SAMPLED);
            indices.sort_unstable();
            layers.push((param, indices));
        }
    }
    layers
}

/// The first layer's gradient by every audited surrogate held against `reference`, before the training of `epoch`.
pub fn first_layer(
    cell: &Cell,
    network: &Network,
    probe: &Probe<'_>,
    own: &Surrogate,
    (epoch, epsilon): (usize, f64),
    reference: &[f64],
) -> Result<Vec<FidelityPoint>> {
    let surrogates = audited(own, &[1.0]);
    let gradients = probe.surrogate_gradients(network, &surrogates, &[0])?;
    let compared = Compared { param: 0, epoch, epsilon, reference };
    let points = surrogates.iter().zip(&gradients);
    Ok(points.map(|(surrogate, ours)| point(cell, network, surrogate, &ours[0], &compared)).collect())
}

/// A finite-difference gradient: of which parameter, after how many epochs, with which ε.
struct Compared<'a> {
    param: usize,
    epoch: usize,
    epsilon: f64,
    reference: &'a [f64],
}

fn point(
    cell: &Cell,
    network: &Network,
    surrogate: &Surrogate,
    ours: &[f32],
    compared: &Compared<'_>,
) -> FidelityPoint {
    let Compared { param, epoch, epsilon, reference } = *compared;
    let all = network.params[param].elem_count();
    let agreement = fidelity(ours, reference);
    let interval = (ours.len() < all).then(|| bootstrap(ours, reference));
    let comparable = ours.iter().zip(reference).any(|(s, f)| *s != 0.0 && *f != 0.0);
    FidelityPoint {
        cell_id: cell.id.clone(),
        stage: cell.stage.clone(),
        epoch,
        time_steps: cell.config.time_steps.unwrap_or(1),
        surrogate: surrogate.name().to_string(),
        parameter: Some(surrogate.parameter()),
        layer: network.layout.params[param].name.trim_end_matches(".weight").to_string(),
        sampled: ours.len(),
        weights: all,
        cosine: agreement.cosine,
        cosine_low: interval.map(|(low, _)| low),
        cosine_high: interval.map(|(_, high)| high),
        norm_ratio: agreement.norm_ratio,
        sign_agreement: comparable.then_some(agreement.sign_agreement),
        epsilon,
    }
}

/// 95 % percentile interval of the cosine over resampled weights; the stream is fixed, so it repeats.
fn bootstrap(ours: &[f32], reference: &[f64]) -> (f64, f64) {
    let mut stream = Stream::new(0, Purpose::Synthetic, (ours.len() as u64, 2));
    let mut cosines: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let pairs: Vec<usize> = (0..ours.len()).map(|_| stream.below(ours.len())).collect();
            let (s, f): (Vec<f32>, Vec<f64>) = pairs.iter().map(|i| (ours[*i], reference[*i])).unzip();
            fidelity(&s, &f).cosine
        })
        .collect();
    cosines.sort_by(f64::total_cmp);
    (cosines[RESAMPLES / 40], cosines[RESAMPLES - 1 - RESAMPLES / 40])
}

fn membranes(
    cell: &Cell,
    network: &Network,
    dataset: &Arc<dyn Dataset>,
    lif: &Lif,
    surrogate: &Surrogate,
    audit: &mut Audit,
) -> Result<()> {
    let time_steps = cell.config.time_steps.unwrap_or(1);
    let order = (0..dataset.len(Split::Test).min(cell.config.batch)).collect();
    let batch = first_batch(dataset, Split::Test, order, None)?;
    let pass = Pass { time_steps, statistics: Statistics::Running, keep_tape: true, count_synops: false };
    let output = network.forward(&input_of(&batch, dataset.input(), network.device())?, batch.len, &pass)?;
    let support = surrogate.half_support();
    for seen in probe::neurons(&network.layout, &output)? {
        let (mut counts, mut inside, mut all) = ([0u64; BINS], 0u64, 0u64);
        each_membrane(&seen, lif, time_steps, |v| {
            let bin = ((v - LOWEST) / BIN).floor().clamp(0.0, (BINS - 1) as f64) as usize;
            counts[bin] += 1;
            inside += u64::from(v.abs() <= support);
            all += 1;
        });
        audit.shares.push((seen.name.to_string(), support.is_finite().then(|| inside as f64 / all.max(1) as f64)));
        for (i, count) in counts.into_iter().enumerate() {
            let low = LOWEST + i as f64 * BIN;
            audit.membranes.push(MembraneBin {
                cell_id: cell.id.clone(),
                layer: seen.name.to_string(),
                bin_low: low,
                bin_high: low + BIN,
                count,
                derivative: (surrogate.primitive(low + BIN) - surrogate.primitive(low)) / BIN,
            });
        }
    }
    Ok(())
}

/// Calls `each` with u − v_th of every neuron and time step.
fn each_membrane(seen: &Seen<'_>, lif: &Lif, time_steps: usize, mut each: impl FnMut(f64)) {
    let padded = pad8(seen.spikes.channels);
    let step = seen.spikes.tensor.dims()[..3].iter().product::<usize>() / time_steps * padded;
    for i in (0..step).filter(|i| i % padded < seen.spikes.channels) {
        let (mut u, mut fired) = (0.0, false);
        for t in 0..time_steps {
            // Where one current holds at every t, it was written once.
            let current = f64::from(seen.current[(t * step + i) % seen.current.len()]);
            let kept = match (fired, lif.reset) {
                (false, _) => u,
                (true, Reset::Hard) => 0.0,
                (true, Reset::Soft) => u - lif.v_th,
            };
            u = lif.tau * kept + current;
            fired = u >= lif.v_th;
            each(u - lif.v_th);
        }
    }
}
