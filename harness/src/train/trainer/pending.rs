//! Steps that a card was given and nobody has looked at yet. To read a result is to wait for the card, which then has nothing to do.

use super::Job;
use super::parts::{self, Part};
use crate::train::state::State;
use anyhow::Result;

/// Steps between two looks at a card's results.
pub const STEPS_A_LOOK: usize = 32;

/// The parts of each step, oldest first.
#[derive(Default)]
pub(super) struct Pending(pub Vec<Vec<Part>>);

impl Job<'_> {
    /// Whether the results are to be read now: on the CPU they are there after every step, and processes look
    /// together.
    pub(super) fn is_due(&self, pending: &Pending) -> bool {
        !self.device.is_cuda() || self.ranks.size() > 1 || pending.0.len() >= STEPS_A_LOOK
    }

    /// Reads the results of all pending steps, in order: losses, right answers, spikes, running statistics. Returns the last
    /// loss, or the first that is not finite: its step and those after it do not count, and the weights are spoilt.
    pub(super) fn settle(&self, state: &mut State, pending: &mut Pending) -> Result<f64> {
        let mut last = f64::NAN;
        let steps = std::mem::take(&mut pending.0);
        for (i, parts) in steps.iter().enumerate() {
            let seen = parts::read(parts, self.ranks)?;
            let (images, mut loss) = (seen.iter().map(|part| part.images).sum::<usize>() as f64, 0.0);
            for part in seen {
                if !part.loss.is_finite() {
                    state.progress.step -= steps.len() - i;
                    return Ok(part.loss);
                }
                loss += part.loss * part.images as f64 / images;
                state.network.move_running(&part.statistics);
                let progress = &mut state.progress;
                progress.loss_sum += part.loss * part.images as f64;
                progress.right += part.top1;
                progress.spikes.0 += part.spikes.0;
                progress.spikes.1 += part.spikes.1;
            }
            last = loss;
        }
        Ok(last)
    }
}
