//! The training loop of one cell.

pub(in crate::train) mod memory;
mod pending;
mod temperature;
#[cfg(test)]
mod tests;

use super::evaluate::{Evaluation, evaluate, test_split};
use super::state::{Checkpoints, Progress, State};
use crate::cell::Cell;
use crate::data::{Batch, Batches, Dataset, Draw, InputShape, Split};
use crate::exit;
use crate::model::backward::Gradients;
use crate::model::network::{Network, Neuron, Pass, Statistics};
use crate::model::readout;
use crate::ops::activation::Activation;
use crate::ops::optimizer::{Sgd, cosine};
use crate::rng::{Purpose, Stream};
use anyhow::{Context, Result};
use candle_core::Device;
use memory::halving;
use methods::surrogate::{Dspike, Surrogate};
pub use pending::STEPS_A_LOOK;
use pending::{Part, Pending};
use report::record::CurvePoint;
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

    /// An error (exit 75) once a signal came: for work that is short enough to be done again.
    pub fn check(&self) -> Result<()> {
        if self.requested() {
            return Err(exit::failure(
                exit::Code::Resumable,
                "stopped by a signal; the same command goes on from here",
            ));
        }
        Ok(())
    }
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
    /// Trains the cell, from its newest checkpoint where there is one.
    pub fn run(&self, tick: &mut dyn FnMut(&Tick<'_>)) -> Result<Ended> {
        let config = &self.cell.config;
        let checkpoints = Checkpoints::new(self.folder, &self.cell.config_hash);
        let mut state = match checkpoints.latest(&self.fresh_network()?)? {
            Some(state) => state,
            None => self.initial_state()?,
        };
        let mut saved = Instant::now();
        while state.progress.epoch < config.stage.epochs {
            let mut started = Instant::now();
            if let Some(fdg) = &config.fdg
                && !state.progress.temperature_chosen
            {
                let chosen = match self.choose_temperature(&mut state, fdg) {
                    Err(_) if self.interrupt.requested() => return Ok(Ended::Interrupted),
                    chosen => chosen?,
                };
                if !chosen {
                    let message = divergence(&state.progress, "finite-difference gradient", f64::NAN);
                    return Ok(Ended::Diverged(Box::new(state.progress), message));
                }
                lap(&mut state.progress, &mut started);
            }
            let training = self.training_samples()?;
            let shuffled =
                Stream::new(config.seed, Purpose::Order, (state.progress.epoch as u64, 0)).permutation(training.len());
            let order: Vec<usize> = shuffled.into_iter().map(|i| training[i]).collect();
            let (per_epoch, draw) = (order.len().div_ceil(config.batch), self.draw(state.progress.epoch));
            let (skip, workers) = (state.progress.step, self.loaders());
            let batches =
                Batches::new(self.dataset.clone(), Split::Train, order, config.batch, Some(draw), workers, skip);
            let mut pending = Pending::default();
            for batch in batches {
                self.step(&mut state, &mut pending, &batch?, per_epoch)?;
                let last = state.progress.step == per_epoch;
                if !(self.is_due(&pending) || last || self.interrupt.requested() || saved.elapsed() > self.save_every) {
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
                tick(&Tick { steps: self.steps(&state, per_epoch), epoch, loss, finished_epoch: None });
                if self.interrupt.requested() {
                    checkpoints.save(&state)?;
                    return Ok(Ended::Interrupted);
                }
                if saved.elapsed() > self.save_every {
                    checkpoints.save(&state)?;
                    saved = Instant::now();
                }
            }
            if self.finish_epoch(&mut state)?.is_none() {
                checkpoints.save(&state)?;
                return Ok(Ended::Interrupted);
            }
            checkpoints.save(&state)?;
            saved = Instant::now();
            let point = state.progress.curves.last();
            let (steps, loss) = (self.steps(&state, per_epoch), point.and_then(|p| p.train_loss).unwrap_or(f64::NAN));
            tick(&Tick { steps, epoch: state.progress.epoch, loss, finished_epoch: point });
        }
        let evaluation = self.evaluate(&state, test_split(self.dataset), true);
        let evaluation = match evaluation {
            Err(_) if self.interrupt.requested() => return Ok(Ended::Interrupted),
            evaluation => evaluation?,
        };
        Ok(Ended::Finished(Box::new(state), evaluation))
    }

    fn time_steps(&self) -> usize {
        self.cell.config.time_steps.unwrap_or(1)
    }

    /// Images at once: what the suite asks for, or what a card had room for.
    fn at_once(&self, state: &State) -> usize {
        state.progress.micro_batch.or(self.cell.config.micro_batch).unwrap_or(self.cell.config.batch)
    }

    /// Evaluates the state; its running statistics make the number of images at once of no account.
    fn evaluate(&self, state: &State, samples: (Split, Vec<usize>), count_synops: bool) -> Result<Evaluation> {
        let attempt = |images| {
            let samples = samples.clone();
            let time_steps = self.time_steps();
            evaluate(&state.network, self.dataset, samples, time_steps, images, count_synops, self.interrupt)
        };
        halving(self.at_once(state), attempt).map(|(evaluation, _)| evaluation)
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
            if let Some(inherited) = parent.progress.temperature.filter(|_| self.cell.config.fdg.is_some()) {
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
    fn step(&self, state: &mut State, pending: &mut Pending, batch: &Batch, per_epoch: usize) -> Result<()> {
        let config = &self.cell.config;
        let at_once = self.at_once(state);
        let ((parts, gradients), images) = halving(at_once, |images| self.gradients(state, batch, images))?;
        if images < at_once {
            tracing::warn!(
                "the card's memory ran out at {at_once} images; from here on {images} at once, the batch stays"
            );
            state.progress.micro_batch = Some(images);
        }
        let (steps, all) = self.steps(state, per_epoch);
        let lr = cosine(config.stage.lr, steps, all);
        let sgd = Sgd { lr, momentum: config.momentum, weight_decay: config.stage.weight_decay };
        sgd.step(&state.network.params, &state.velocities, &gradients)?;
        state.progress.step += 1;
        pending.0.push(parts);
        Ok(())
    }

    /// A batch's gradient, taken in parts of `images`: that of the mean loss over all of it, where each norm takes a part's
    /// statistics, and the running ones move once a part.
    fn gradients(&self, state: &State, batch: &Batch, images: usize) -> Result<(Vec<Part>, Gradients)> {
        let (mut parts, mut sum): (Vec<Part>, Option<Gradients>) = (Vec::new(), None);
        for first in (0..batch.len).step_by(images) {
            let range = first..batch.len.min(first + images);
            let part = batch.part(range, self.dataset.input().time_steps.unwrap_or(1));
            let share = part.len as f64 / batch.len as f64;
            let (seen, gradients) = self.part(state, &part, share)?;
            sum = Some(match sum {
                None => gradients,
                Some(sum) => sum.iter().zip(&gradients).map(|(a, b)| a + b).collect::<candle_core::Result<_>>()?,
            });
            parts.push(seen);
        }
        Ok((parts, sum.context("a batch without samples")?))
    }

    /// Forward and backward of a part of a batch, its gradients times its share.
    fn part(&self, state: &State, batch: &Batch, share: f64) -> Result<(Part, Gradients)> {
        let time_steps = self.time_steps();
        let input = input_of(batch, self.dataset.input(), self.device)?;
        let pass = Pass { time_steps, statistics: Statistics::Batch, keep_tape: true, count_synops: false };
        let mut output = state.network.forward(&input, batch.len, &pass)?;
        let loss = readout::cross_entropy(&output.logits, &batch.labels, time_steps, self.dataset.classes())?;
        // The ReLU twin asks no surrogate; any stands in for it.
        let twin = Surrogate::Dspike(Dspike { temperature: 1.0 });
        let surrogate = self.surrogate_at(state.progress.temperature).unwrap_or(twin);
        let grad_logits = if share < 1.0 { (&loss.grad_logits * share)? } else { loss.grad_logits.clone() };
        let gradients = state.network.backward(&output, &grad_logits, time_steps, batch.len, &surrogate)?;
        output.tape.clear();
        Ok((Part { output, loss, images: batch.len }, gradients))
    }

    /// Tests the epoch's weights and starts the next; `None` where a signal came first.
    fn finish_epoch(&self, state: &mut State) -> Result<Option<()>> {
        let config = &self.cell.config;
        let test = self.evaluate(state, test_split(self.dataset), false);
        let test = match test {
            Err(_) if self.interrupt.requested() => return Ok(None),
            test => test?,
        };
        let (held_out, training) = self.split_training();
        let samples = training.len() as f64;
        if !held_out.is_empty() {
            let chosen = match self.evaluate(state, (Split::Train, held_out), false) {
                Err(_) if self.interrupt.requested() => return Ok(None),
                chosen => chosen?.top1,
            };
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
            ..std::mem::take(progress)
        };
        Ok(Some(()))
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
