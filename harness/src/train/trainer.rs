//! The training loop of one cell.

pub(in crate::train) mod memory;
mod parts;
mod pending;
mod saver;
mod temperature;
#[cfg(test)]
mod tests;

use super::evaluate::{Depth, Evaluation, Manner, evaluate, test_split};
use super::state::{Checkpoints, Progress, State};
use crate::cell::Cell;
use crate::data::{Batch, Batches, Dataset, Draw, InputShape, Split};
use crate::environment::Environment;
use crate::exit;
use crate::model::backward::Gradients;
use crate::model::network::{Network, Neuron, Pass, Statistics};
use crate::model::readout;
use crate::ops::activation::Activation;
use crate::ops::optimizer::{Sgd, cosine};
use crate::ops::with_spinning_workers;
use crate::ranks::Ranks;
use crate::rng::{Purpose, Stream};
use anyhow::{Context, Result};
use candle_core::Device;
use methods::surrogate::{Dspike, Surrogate};
use parts::Part;
use pending::Pending;
pub use pending::STEPS_A_LOOK;
use report::record::CurvePoint;
pub(super) use saver::Saver;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Set by a signal: save and stop.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(pub Arc<AtomicUsize>);

impl Interrupt {
    /// Whether a signal came.
    pub fn requested(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }

    /// As a signal would.
    pub fn ask(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// An error (exit 75) once a signal came: for work that is short enough to be done again.
    pub fn check(&self) -> Result<()> {
        if self.requested() { Err(stopped()) } else { Ok(()) }
    }
}

fn stopped() -> anyhow::Error {
    exit::failure(exit::Code::Resumable, "stopped by a signal; the same command goes on from here")
}

/// What a progress display is told after every step.
pub struct Tick<'a> {
    /// Steps taken and steps in all, over the whole stage.
    pub steps: (usize, usize),
    /// The epoch under way, from 0.
    pub epoch: usize,
    /// Loss of the step.
    pub loss: f64,
    /// The epoch that this step ended, if it did.
    pub finished_epoch: Option<&'a CurvePoint>,
}

/// One cell to train.
pub struct Job<'a> {
    /// What.
    pub cell: &'a Cell,
    /// On what.
    pub dataset: &'a Arc<dyn Dataset>,
    /// Where.
    pub device: &'a Device,
    /// Weights of the parent cell.
    pub parent: Option<PathBuf>,
    /// Where its checkpoints go.
    pub folder: &'a Path,
    /// Whether each finite-difference gradient is held against every surrogate's, not the candidates' alone.
    pub audit: bool,
    /// Time between checkpoints within an epoch.
    pub save_every: Duration,
    /// Set by a signal.
    pub interrupt: &'a Interrupt,
    /// The processes that train it.
    pub ranks: &'a Ranks,
}

/// How a training ended.
pub enum Ended {
    /// All epochs; evaluated on the test split.
    Finished(Box<State>, Evaluation),
    /// The loss left the finite numbers; the sentence names the last finite step.
    Diverged(Box<Progress>, String),
    /// A signal; the state is saved.
    Interrupted,
}

impl Job<'_> {
    /// Trains the cell, from its newest checkpoint where there is one. All processes do the same with the same bits, but
    /// for the parts of batches, the finite differences and the batches of evaluations, which they deal out.
    pub fn run(&self, tick: &mut dyn FnMut(&Tick<'_>) -> Result<()>) -> Result<Ended> {
        let config = &self.cell.config;
        let mut state = self.starting_state()?;
        state.progress.computed_by(Environment::new().git_revision);
        state.progress.data_hash = Some(self.dataset.data_hash().to_string());
        let mut saver = Saver::new(self);
        while state.progress.epoch < config.stage.epochs {
            let mut started = Instant::now();
            if let Some(fdg) = &config.fdg
                && !state.progress.temperature_chosen
            {
                let Some(chosen) = unless_stopped(self.choose_temperature(&mut state, fdg, &mut saver))? else {
                    return Ok(Ended::Interrupted);
                };
                if !chosen {
                    let message = divergence(&state.progress, "finite-difference gradient", f64::NAN);
                    return Ok(Ended::Diverged(Box::new(state.progress), message));
                }
                lap(&mut state.progress, &mut started);
            }
            self.move_temperature(&mut state);
            let training = self.training_samples()?;
            let shuffled =
                Stream::new(config.seed, Purpose::Order, (state.progress.epoch as u64, 0)).permutation(training.len());
            let order: Vec<usize> = shuffled.into_iter().map(|i| training[i]).collect();
            let per_epoch = order.len().div_ceil(config.batch);
            let (mut batches, mut pending) = (self.batches(&order, &state.progress), Pending::default());
            for whole in order.chunks(config.batch).skip(state.progress.step) {
                let batch = batches.next().unwrap_or_else(|| Ok(Batch::default()));
                self.step(&mut state, &mut pending, &self.ranks.agree(batch)?, whole.len(), per_epoch)?;
                let last = state.progress.step == per_epoch;
                if !(self.is_due(&pending) || last || saver.is_due()) {
                    continue;
                }
                let loss = self.settle(&mut state, &mut pending)?;
                lap(&mut state.progress, &mut started);
                if !loss.is_finite() {
                    return Ok(Ended::Diverged(
                        Box::new(state.progress.clone()),
                        divergence(&state.progress, "loss", loss),
                    ));
                }
                let epoch = state.progress.epoch;
                tick(&Tick { steps: self.steps(&state, per_epoch), epoch, loss, finished_epoch: None })?;
                if unless_stopped(saver.pause(Duration::ZERO, || &state))?.is_none() {
                    return Ok(Ended::Interrupted);
                }
            }
            if unless_stopped(self.finish_epoch(&mut state, &mut saver))?.is_none() {
                return Ok(Ended::Interrupted);
            }
            saver.end_epoch(&state)?;
            let point = state.progress.curves.last();
            let (steps, loss) = (self.steps(&state, per_epoch), point.and_then(|p| p.train_loss).unwrap_or(f64::NAN));
            tick(&Tick { steps, epoch: state.progress.epoch, loss, finished_epoch: point })?;
        }
        let evaluation = self.evaluate(&mut state, 0, test_split(self.dataset), Depth::Final, &mut saver);
        let Some(evaluation) = unless_stopped(evaluation)? else { return Ok(Ended::Interrupted) };
        state.progress.evaluated.clear();
        Ok(Ended::Finished(Box::new(state), evaluation))
    }

    /// The newest checkpoint or, without one, the state before the first step: the first process's, to the bit, in all.
    fn starting_state(&self) -> Result<State> {
        let (hash, network) = (&self.cell.config_hash, self.fresh_network()?);
        let read = || match Checkpoints::new(self.folder, hash).latest(&network)? {
            Some(state) => Ok(state),
            None => self.initial_state(),
        };
        if self.ranks.size() == 1 {
            return read();
        }
        let bytes = if self.ranks.is_first() { read().and_then(|state| state.to_bytes(hash)) } else { Ok(Vec::new()) };
        State::parse(&self.ranks.bytes_of_first(bytes)?, network.clone(), Some(hash))
    }

    /// This process's parts of the epoch's batches, as batches of their own.
    fn batches(&self, order: &[usize], progress: &Progress) -> Batches {
        let (ranks, batch, at_once) = (self.ranks, self.cell.config.batch, self.cell.config.at_once());
        let mine: Vec<usize> = order.chunks(batch).flat_map(|whole| ranks.deal(whole, at_once)).collect();
        let size = ranks.deal(&(0..batch).collect::<Vec<_>>(), at_once).len();
        let draw = self.draw(progress.epoch);
        Batches::new(self.dataset.clone(), Split::Train, mine, size, Some(draw), self.loaders(), progress.step)
    }

    /// Evaluates the state's network. The state keeps the sums so far, as those of the `nth` evaluation since the last
    /// step.
    fn evaluate(
        &self,
        state: &mut State,
        nth: usize,
        samples: (Split, Vec<usize>),
        depth: Depth,
        saver: &mut Saver,
    ) -> Result<Evaluation> {
        let (network, at_once) = (state.network.clone(), self.at_once(state));
        let attempt = |images| {
            let manner = Manner { time_steps: self.time_steps(), batch: images, depth };
            let known = state.progress.evaluated.get(nth).cloned().unwrap_or_default();
            evaluate(&network, self.dataset, samples.clone(), manner, known, self.ranks, &mut |sums| {
                if sums.is_finite() {
                    state.progress.evaluated.truncate(nth);
                    state.progress.evaluated.push(sums.clone());
                }
                saver.pause(Duration::ZERO, || state)
            })
        };
        self.fitting(at_once, attempt).map(|(evaluation, _)| evaluation)
    }

    fn time_steps(&self) -> usize {
        self.cell.config.time_steps.unwrap_or(1)
    }

    /// Images at once: what the suite asks for, or what a card had room for.
    fn at_once(&self, state: &State) -> usize {
        state.progress.micro_batch.unwrap_or(self.cell.config.at_once())
    }

    /// Training samples in two parts: those held out, and those trained on; the same for every method of a seed.
    fn split_training(&self) -> (Vec<usize>, Vec<usize>) {
        let samples = self.dataset.len(Split::Train);
        let held_out = self.cell.config.held_out;
        if held_out == 0 {
            return (Vec::new(), (0..samples).collect());
        }
        let mut order = Stream::new(self.cell.config.seed, Purpose::Split, (u64::MAX, 0)).permutation(samples);
        let training = order.split_off(held_out.min(samples));
        (order, training)
    }

    fn training_samples(&self) -> Result<Vec<usize>> {
        let (held_out, training) = self.split_training();
        if training.is_empty() {
            return Err(exit::usage(format!(
                "held-out = {}, but there are only {} training samples",
                self.cell.config.held_out,
                held_out.len()
            )));
        }
        Ok(training)
    }

    /// Threads that load: while a card computes, all the others.
    fn loaders(&self) -> usize {
        if self.device.is_cuda() { rayon::current_num_threads().max(2) - 1 } else { 1 }
    }

    fn draw(&self, epoch: usize) -> Draw {
        Draw { seed: self.cell.config.seed, epoch: epoch as u64 }
    }

    fn steps(&self, state: &State, per_epoch: usize) -> (usize, usize) {
        (state.progress.epoch * per_epoch + state.progress.step, self.cell.config.stage.epochs * per_epoch)
    }

    fn fresh_network(&self) -> Result<Network> {
        let config = &self.cell.config;
        let neuron = config.time_steps.map_or(Neuron::Relu, |_| Neuron::Lif(config.network.neuron));
        let channels = self.dataset.input().channels;
        let network = Network::new(&config.network, neuron, channels, self.dataset.classes(), config.seed)?;
        Ok(network.to_device(self.device)?)
    }

    /// Random weights, or the parent's: all of an SNN's; of the ANN's all but the running statistics.
    fn initial_state(&self) -> Result<State> {
        let mut network = self.fresh_network()?;
        let mut temperature =
            self.surrogate_at(None).and_then(|s| s.with_temperature(s.parameter())).map(|s| s.parameter());
        if let Some(path) = &self.parent {
            let parent = State::load(path, network.clone(), None)?;
            network.params = parent.network.params;
            if let Some(inherited) = parent.progress.temperature.filter(|_| self.cell.config.moves_temperature()) {
                temperature = Some(inherited);
            }
            if !parent.progress.curves.iter().any(|point| point.stage == "ann") {
                network.running = parent.network.running;
            }
        }
        State::new(network, temperature)
    }

    /// The arm's surrogate, at a temperature that FDG chose.
    fn surrogate_at(&self, temperature: Option<f64>) -> Option<Surrogate> {
        let surrogate = self.cell.config.method.as_ref()?.surrogate;
        Some(temperature.and_then(|b| surrogate.with_temperature(b)).unwrap_or(surrogate))
    }

    /// Forward, backward, optimiser; waits for nothing. [`Job::settle`] reads what came of it.
    ///
    /// `batch`: this process's parts of one of `images`.
    fn step(
        &self,
        state: &mut State,
        pending: &mut Pending,
        batch: &Batch,
        images: usize,
        per_epoch: usize,
    ) -> Result<()> {
        let config = &self.cell.config;
        let most = self.at_once(state);
        let attempt = |at_once| self.gradients(state, batch, images, at_once);
        let ((parts, gradients), at_once) = self.fitting(most, attempt)?;
        if at_once < most {
            tracing::warn!(
                "the card's memory ran out at {most} images; from here on {at_once} at once, the batch stays"
            );
            state.progress.micro_batch = Some(at_once);
        }
        let (steps, all) = self.steps(state, per_epoch);
        let lr = cosine(config.stage.lr, steps, all);
        let sgd = Sgd { lr, momentum: config.momentum, weight_decay: config.stage.weight_decay };
        sgd.step(&state.network.params, &state.velocities, &gradients)?;
        state.progress.step += 1;
        pending.0.push(parts);
        Ok(())
    }

    /// The gradient of the mean loss over a batch of `images`, of which `batch` has this process's parts of `at_once`.
    ///
    /// Each norm takes a part's statistics, and the running ones move once a part. The processes take the parts in turn, and
    /// each adds up all parts' gradients in the order of the parts: the bits of one process.
    fn gradients(&self, state: &State, batch: &Batch, images: usize, at_once: usize) -> Result<(Vec<Part>, Gradients)> {
        let processes = self.ranks.size();
        let (mut parts, mut sum): (Vec<Part>, Option<Gradients>) = (Vec::new(), None);
        for turn in 0..images.div_ceil(at_once).div_ceil(processes) {
            let range = (turn * at_once).min(batch.len)..((turn + 1) * at_once).min(batch.len);
            let mine = (!range.is_empty()).then(|| self.part(state, batch, range, images)).transpose();
            let mine = mine.map(|mine| {
                mine.map(|(part, gradients)| {
                    parts.push(part);
                    gradients
                })
            });
            let left = images.div_ceil(at_once) - turn * processes;
            for gradients in self.ranks.gather_tensors(mine, &state.network.params)?.into_iter().take(left) {
                sum = Some(match sum {
                    None => gradients,
                    Some(sum) => sum.iter().zip(&gradients).map(|(a, b)| a + b).collect::<candle_core::Result<_>>()?,
                });
            }
        }
        Ok((parts, sum.context("a batch without samples")?))
    }

    /// Forward and backward of the samples `range` of `batch`, gradients times their share of `images`.
    fn part(&self, state: &State, batch: &Batch, range: Range<usize>, images: usize) -> Result<(Part, Gradients)> {
        let batch = batch.part(range, self.dataset.input().time_steps.unwrap_or(1));
        let (time_steps, share) = (self.time_steps(), batch.len as f64 / images as f64);
        let input = input_of(&batch, self.dataset.input(), self.device)?;
        let pass = Pass { time_steps, statistics: Statistics::Batch, keep_tape: true, count_synops: false };
        // The ReLU twin asks no surrogate; any stands in for it.
        let twin = Surrogate::Dspike(Dspike { temperature: 1.0 });
        let surrogate = self.surrogate_at(state.progress.temperature).unwrap_or(twin);
        with_spinning_workers(self.device, || {
            let mut output = state.network.forward(&input, batch.len, &pass)?;
            let loss = readout::cross_entropy(&output.logits, &batch.labels, time_steps, self.dataset.classes())?;
            let grad_logits = if share < 1.0 { (&loss.grad_logits * share)? } else { loss.grad_logits.clone() };
            let gradients = state.network.backward(&output, &grad_logits, time_steps, batch.len, &surrogate)?;
            output.tape.clear();
            Ok((Part { output, loss, images: batch.len }, gradients))
        })
    }

    /// Evaluates, and begins the next epoch. An error with the state saved where a signal came first.
    fn finish_epoch(&self, state: &mut State, saver: &mut Saver) -> Result<()> {
        let config = &self.cell.config;
        let test = self.evaluate(state, 0, test_split(self.dataset), Depth::Epoch, saver)?;
        let (held_out, training) = self.split_training();
        let samples = training.len() as f64;
        if !held_out.is_empty() {
            let chosen = self.evaluate(state, 1, (Split::Train, held_out), Depth::Epoch, saver)?.top1;
            let best = state.progress.held_out_choice.filter(|(best, _)| *best > chosen);
            state.progress.held_out_choice = best.or(Some((chosen, test.top1)));
        }
        let progress = &mut state.progress;
        let (spikes, neuron_steps) = progress.spikes;
        progress.curves.push(CurvePoint {
            cell_id: self.cell.id.clone(),
            stage: self.cell.stage.clone(),
            epoch: progress.epoch,
            lr: cosine(config.stage.lr, progress.epoch, config.stage.epochs),
            train_loss: Some(progress.loss_sum / samples),
            train_top1: Some(progress.right as f64 / samples),
            test_loss: Some(test.loss),
            test_top1: Some(test.top1),
            temperature: progress.temperature,
            firing_rate: (neuron_steps > 0).then(|| spikes as f64 / neuron_steps as f64),
            seconds: Some(progress.epoch_seconds),
        });
        progress.top1_best = Some(progress.top1_best.unwrap_or(0.0).max(test.top1));
        *progress = Progress {
            epoch: progress.epoch + 1,
            step: 0,
            temperature_chosen: false,
            loss_sum: 0.0,
            right: 0,
            spikes: (0, 0),
            epoch_seconds: 0.0,
            evaluated: Vec::new(),
            ..std::mem::take(progress)
        };
        Ok(())
    }
}

/// `None` where a signal, to any process, stopped the work.
fn unless_stopped<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Err(error) if exit::code_of(&error) == exit::Code::Resumable => Ok(None),
        result => result.map(Some),
    }
}

/// Adds the time since `started` to the clocks.
fn lap(progress: &mut Progress, started: &mut Instant) {
    let seconds = started.elapsed().as_secs_f64();
    progress.train_seconds += seconds;
    progress.epoch_seconds += seconds;
    *started = Instant::now();
}

fn divergence(progress: &Progress, what: &str, value: f64) -> String {
    let seen = match (progress.epoch, progress.step) {
        (0, 0) => "no step had a finite loss".to_string(),
        (epoch, 0) => format!("the last finite step was the last of epoch {}", epoch - 1),
        (_, step) => format!("the last finite step was {} of that epoch", step - 1),
    };
    format!("the {what} became {value} in epoch {}, before step {}; {seen}", progress.epoch, progress.step)
}

/// The network's input from a loaded batch.
pub fn input_of(batch: &Batch, shape: InputShape, device: &Device) -> Result<Activation> {
    let images = shape.time_steps.unwrap_or(1) * batch.len;
    let dims = [images, shape.height, shape.width, shape.channels];
    Ok(Activation::from_images(&batch.input, dims, device)?)
}
