//! The temperature of an epoch, chosen by the finite-difference gradient.

use super::{Job, Saver, input_of};
use crate::data::{Batches, Split};
use crate::model::network::Network;
use crate::rng::{Purpose, Stream};
use crate::train::audit::first_layer;
use crate::train::fdg::{Probe, choose_temperature};
use crate::train::state::State;
use anyhow::{Context, Result};
use methods::Schedule;
use report::record::FdgPoint;
use std::time::Duration;

/// Differences are cheap to take again for some seconds, and a checkpoint holds all weights.
const SELDOM: Duration = Duration::from_secs(10);

/// Weights of one process between two exchanges: each turn packs the weights and takes the unperturbed pass anew.
const WEIGHTS_A_TURN: usize = 64;

impl Job<'_> {
    /// Heeds a signal between two finite differences. The state keeps those that are known: at a signal, and now and then.
    pub(in crate::train) fn pause(&self, state: &mut State, saver: &mut Saver, differences: &[f64]) -> Result<()> {
        saver.pause(SELDOM, move || {
            state.progress.differences = differences.to_vec();
            state
        })
    }

    /// [`Probe::differences`], dealt out to the processes, some weights to each in turn.
    pub(in crate::train) fn differences(
        &self,
        probe: &Probe<'_>,
        network: &Network,
        (param, epsilon): (usize, f64),
        indices: &[usize],
        known: Vec<f64>,
        pause: &mut dyn FnMut(&[f64]) -> Result<()>,
    ) -> Result<Vec<f64>> {
        if self.ranks.size() == 1 {
            return probe.differences(network, param, epsilon, indices, known, pause);
        }
        let mut differences = known;
        while differences.len() < indices.len() {
            let rest = &indices[differences.len()..];
            let turn = &rest[..rest.len().min(WEIGHTS_A_TURN * self.ranks.size())];
            let mine = self.ranks.deal(turn, WEIGHTS_A_TURN);
            let found = probe.differences(network, param, epsilon, &mine, Vec::new(), &mut |_| Ok(()));
            differences.extend(self.ranks.gather(found)?.concat());
            pause(&differences)?;
        }
        Ok(differences)
    }

    /// Moves the temperature of an arm whose schedule needs no gradient, once per epoch.
    pub(super) fn move_temperature(&self, state: &mut State) {
        let (config, progress) = (&self.cell.config, &mut state.progress);
        let schedule = config.method.as_ref().and_then(|method| method.temperature);
        let (Some(schedule), Some(grid), Some(b)) = (schedule, config.temperature_grid, progress.temperature) else {
            return;
        };
        if progress.temperature_chosen {
            return; // resumed within the epoch
        }
        progress.temperature_chosen = true;
        progress.temperature = Some(match schedule {
            Schedule::RandomWalk => {
                let index = (progress.epoch as u64, self.time_steps() as u64);
                grid.moved(b, Stream::new(config.seed, Purpose::TemperatureWalk, index).below(2) == 1)
            }
            // The first epoch trains where the stage starts; each later one goes an equal part of the way that is left.
            Schedule::Ramp(_) if progress.epoch == 0 => b,
            Schedule::Ramp(to) => grid.settled(b + (to - b) / (config.stage.epochs - progress.epoch) as f64),
        });
    }

    /// Whether a temperature could be chosen: not where a loss left the finite numbers. An error with the state saved
    /// where a signal came first.
    pub(super) fn choose_temperature(
        &self,
        state: &mut State,
        fdg: &methods::fdg::Fdg,
        saver: &mut Saver,
    ) -> Result<bool> {
        let config = &self.cell.config;
        let epoch = state.progress.epoch;
        let mut stream = Stream::new(config.seed, Purpose::FdgBatch, (epoch as u64, 0));
        let training = self.training_samples()?;
        let mut order = stream.permutation(training.len());
        order.truncate(fdg.batch);
        let order: Vec<usize> = order.into_iter().map(|i| training[i]).collect();
        let draw = self.draw(epoch);
        let size = order.len();
        let batch = Batches::new(self.dataset.clone(), Split::Train, order, size, Some(draw), 0, 0).next();
        let batch = batch.context("the training split is empty")??;
        let input = input_of(&batch, self.dataset.input(), self.device)?;
        let (time_steps, classes) = (self.time_steps(), self.dataset.classes());
        let probe = Probe { input: &input, labels: &batch.labels, time_steps, classes };
        let surrogate = self.surrogate_at(state.progress.temperature).context("FDG needs a spiking stage")?;
        let network = state.network.clone();
        let all: Vec<usize> = (0..network.params[0].elem_count()).collect();
        let known = std::mem::take(&mut state.progress.differences);
        let mut pause = |differences: &[f64]| self.pause(state, saver, differences);
        let reference = self.differences(&probe, &network, (0, fdg.epsilon), &all, known, &mut pause)?;
        state.progress.differences.clear();
        let Some(candidates) = choose_temperature(&probe, &network, &surrogate, fdg, &reference)? else {
            return Ok(false);
        };
        if self.audit {
            let at = (epoch, fdg.epsilon);
            state.progress.fidelity.extend(first_layer(self.cell, &network, &probe, &surrogate, at, &reference)?);
        }
        for candidate in candidates {
            if candidate.chosen {
                state.progress.temperature = Some(candidate.temperature);
            }
            state.progress.fdg.push(FdgPoint {
                cell_id: self.cell.id.clone(),
                stage: self.cell.stage.clone(),
                epoch,
                candidate: candidate.temperature,
                cosine: candidate.fidelity.cosine,
                norm_ratio: candidate.fidelity.norm_ratio,
                chosen: candidate.chosen,
            });
        }
        state.progress.temperature_chosen = true;
        Ok(true)
    }
}
