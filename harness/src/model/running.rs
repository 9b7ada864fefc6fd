//! The running statistics of the norms, and how a training pass moves them.

use super::network::{Network, Output};
use candle_core::{Result, Tensor};
use serde::{Deserialize, Serialize};

/// Weight of the newest batch in the running statistics (PyTorch's default).
pub const NORM_MOMENTUM: f64 = 0.1;

/// Running mean and variance of one batch norm, `[channels]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    /// Mean.
    pub mean: Vec<f32>,
    /// Unbiased variance.
    pub variance: Vec<f32>,
}

/// One norm's statistics in a training pass, in host memory.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BatchStatistics {
    norm: usize,
    /// Values a channel.
    count: usize,
    mean: Vec<f64>,
    /// Biased.
    variance: Vec<f64>,
}

impl Output {
    /// The norms' statistics of a training pass. Waits for the device.
    pub fn batch_statistics(&self) -> Result<Vec<BatchStatistics>> {
        if self.statistics.is_empty() {
            return Ok(Vec::new());
        }
        let all: Vec<&Tensor> = self.statistics.iter().flat_map(|(_, s, _)| [&s.mean, &s.variance]).collect();
        let all = Tensor::cat(&all, 0)?.to_vec1::<f64>()?;
        let mut rest = all.as_slice();
        let norms = self.statistics.iter().map(|(norm, batch, count)| {
            let (mean, after) = rest.split_at(batch.mean.elem_count());
            let (variance, after) = after.split_at(batch.variance.elem_count());
            rest = after;
            BatchStatistics { norm: *norm, count: *count, mean: mean.to_vec(), variance: variance.to_vec() }
        });
        Ok(norms.collect())
    }
}

impl Network {
    /// Moves the running statistics, which are in host memory, towards those of a training pass. Waits for the device.
    pub fn update_running(&mut self, output: &Output) -> Result<()> {
        self.move_running(&output.batch_statistics()?);
        Ok(())
    }

    /// Moves the running statistics towards those of a training pass.
    pub fn move_running(&mut self, pass: &[BatchStatistics]) {
        for BatchStatistics { norm, count, mean, variance } in pass {
            let running = &mut self.running[*norm];
            let unbiased = *count as f64 / (count.saturating_sub(1).max(1)) as f64;
            for c in 0..running.mean.len() {
                let blend = |old: f32, new: f64| ((1.0 - NORM_MOMENTUM) * f64::from(old) + NORM_MOMENTUM * new) as f32;
                running.mean[c] = blend(running.mean[c], mean[c]);
                running.variance[c] = blend(running.variance[c], variance[c] * unbiased);
            }
        }
    }
}
