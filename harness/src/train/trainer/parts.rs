//! What the parts of a batch leave, read from the device and told to all processes.

use crate::model::network::Output;
use crate::model::readout;
use crate::model::running::BatchStatistics;
use crate::ranks::Ranks;
use anyhow::Result;
use serde::{Deserialize, Serialize};

/// A part of a batch once its tape is gone, on the device.
pub struct Part {
    pub output: Output,
    pub loss: readout::Loss,
    pub images: usize,
}

/// What is kept of a part.
#[derive(Serialize, Deserialize)]
pub struct Seen {
    /// Mean over its images.
    pub loss: f64,
    /// Right answers.
    pub top1: usize,
    pub images: usize,
    /// Spikes and neuron steps of all layers.
    pub spikes: (u64, u64),
    pub statistics: Vec<BatchStatistics>,
}

impl Part {
    fn read(&self) -> Result<Seen> {
        let score = self.loss.score()?;
        let layers = self.output.activity()?;
        let spikes = layers.iter().fold((0, 0), |(s, n), layer| (s + layer.spikes, n + layer.neuron_steps));
        let statistics = self.output.batch_statistics()?;
        Ok(Seen { loss: score.loss, top1: score.top1, images: self.images, spikes, statistics })
    }
}

/// All parts of a batch in their order, of which the processes took one each in turn. Waits for the device.
pub fn read(mine: &[Part], ranks: &Ranks) -> Result<Vec<Seen>> {
    let told = ranks.gather(mine.iter().map(Part::read).collect::<Result<Vec<_>>>())?;
    Ok(ranks.in_turn(told))
}
