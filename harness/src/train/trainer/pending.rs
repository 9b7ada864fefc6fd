//! Steps that a card was given and nobody has looked at yet. To read a result is to wait for the card, which then has nothing to do.

use super::Job;
use crate::model::network::Output;
use crate::model::readout::Loss;
use crate::train::state::State;
use anyhow::Result;

/// Steps between two looks at a card's results.
pub const STEPS_A_LOOK: usize = 32;

/// What a part of a batch leaves once its tape is gone.
pub(super) struct Part {
    pub output: Output,
    pub loss: Loss,
    pub images: usize,
}

/// The parts of each step, oldest first.
#[derive(Default)]
pub(super) struct Pending(pub Vec<Vec<Part>>);

impl Job<'_> {
    /// Whether the results are to be read now: on the CPU they are there after every step.
    pub(super) fn is_due(&self, pending: &Pending) -> bool {
        !self.device.is_cuda() || pending.0.len() >= STEPS_A_LOOK
    }

    /// Reads the results of all pending steps, in order: losses, right answers, spikes, running statistics. Returns the last
    /// loss, or the first that is not finite: its step and those after it do not count, and the weights are spoilt.
    pub(super) fn settle(&self, state: &mut State, pending: &mut Pending) -> Result<f64> {
        let mut last = f64::NAN;
        let steps = std::mem::take(&mut pending.0);
        for (i, parts) in steps.iter().enumerate() {
            let (images, mut loss) = (parts.iter().map(|part| part.images).sum::<usize>() as f64, 0.0);
            for part in parts {
                let score = part.loss.score()?;
                if !score.loss.is_finite() {
                    state.progress.step -= steps.len() - i;
                    return Ok(score.loss);
                }
                loss += score.loss * part.images as f64 / images;
                state.network.update_running(&part.output)?;
                let progress = &mut state.progress;
                progress.loss_sum += score.loss * part.images as f64;
                progress.right += score.top1;
                for layer in part.output.activity()? {
                    progress.spikes.0 += layer.spikes;
                    progress.spikes.1 += layer.neuron_steps;
                }
            }
            last = loss;
        }
        Ok(last)
    }
}
