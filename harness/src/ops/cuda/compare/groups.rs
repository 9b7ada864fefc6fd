//! Compares the kernels that have no counterpart on the CPU with the operations that they
//! replace.

use super::Compare;
use crate::model::network::Shortcut;
use crate::ops::activation::Activation;
use crate::ops::cuda::{self, runs_on_cuda};
use crate::ops::{neuron, norm, pad8};
use candle_core::{Result, Tensor};
use methods::lif::{Lif, Reset};

impl Compare {
    /// Several batches side by side, the bias, uploads and copies.
    pub(super) fn groups(&mut self) -> Result<()> {
        for [time_steps, groups, batch, side, channels] in [[2, 3, 2, 5, 13], [1, 5, 1, 3, 8], [4, 2, 3, 4, 32]] {
            let dims = [time_steps * groups * batch, side, side, channels];
            let (x, (gamma, beta)) =
                (self.map(dims)?, (self.vector(channels, 1.0, 0.2)?, self.vector(channels, 0.3, 0.2)?));
            let lif = Lif { tau: 0.25, v_th: 0.5, reset: Reset::Hard, detach_reset: false };
            self.case(
                format!("groups: norm and spikes, T {time_steps}, {groups} of {batch}, {channels} channels"),
                0.0,
                |device| {
                    let (x, gamma, beta) = (x.to_device(device)?, gamma.to_device(device)?, beta.to_device(device)?);
                    if runs_on_cuda(&x.tensor) {
                        let statistics = cuda::norm::grouped_statistics(&x, groups, time_steps)?;
                        let normed = norm::fold(x, &statistics, &gamma, &beta, 0.5)?;
                        let spikes = neuron::lif(&lif, time_steps, groups * batch, &normed, &Shortcut::None)?;
                        return Ok(vec![spikes.tensor]);
                    }
                    // On the CPU, each batch is computed alone.
                    let parts = x.tensor.reshape((time_steps, groups, batch, side, side, pad8(channels)))?;
                    let alone = (0..groups).map(|group| {
                        let tensor =
                            parts.narrow(1, group, 1)?.reshape((time_steps * batch, side, side, pad8(channels)))?;
                        let x = Activation { tensor, channels };
                        let statistics = norm::statistics(&x)?;
                        let normed = norm::fold(x, &statistics, &gamma, &beta, 0.5)?;
                        let spikes = neuron::lif(&lif, time_steps, batch, &normed, &Shortcut::None)?.tensor;
                        spikes.reshape((time_steps, 1, batch, side, side, pad8(channels) / 8))
                    });
                    Ok(vec![Tensor::cat(&alone.collect::<Result<Vec<_>>>()?, 1)?.flatten(0, 2)?])
                },
            )?;
        }
        for [count, classes] in [[1, 2], [24, 10], [300, 1000]] {
            let (rows, bias) =
                (self.vector(count * classes, 0.0, 1.0)?.reshape((count, classes))?, self.vector(classes, 0.0, 1.0)?);
            self.case(format!("bias: {count} rows of {classes}"), 1e-6, |device| {
                let (rows, bias) = (rows.to_device(device)?.copy()?, bias.to_device(device)?);
                if runs_on_cuda(&rows) {
                    let sums = cuda::train::bias_gradient(&rows)?;
                    cuda::train::add_bias(&rows, &bias)?;
                    return Ok(vec![rows, sums]);
                }
                Ok(vec![rows.broadcast_add(&bias)?, rows.sum(0)?])
            })?;
        }
        for dims in [[1, 1, 1, 1], [3, 5, 4, 3], [2, 3, 3, 8], [1, 2, 7, 13]] {
            let values = self.vector(dims.iter().product(), 0.0, 1.0)?.to_vec1::<f32>()?;
            self.case(format!("images: {dims:?} to a padded map"), 0.0, |device| {
                Ok(vec![Activation::from_images(&values, dims, device)?.tensor])
            })?;
        }
        for count in [4, 1 << 12] {
            let from = self.vector(count, 0.0, 1.0)?;
            self.case(format!("copy: {count} values"), 0.0, |device| {
                let from = from.to_device(device)?;
                let to = from.zeros_like()?;
                if !runs_on_cuda(&from) {
                    return Ok(vec![from]);
                }
                cuda::train::copy(&from, &to)?;
                Ok(vec![to])
            })?;
        }
        Ok(())
    }
}
