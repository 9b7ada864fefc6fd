//! Batch norm and tdBN over (T, B, H, W), folded into an affine function that the neuron
//! applies.

use super::activation::{Activation, host, modify};
use super::cpu::norm::{Coefficients, new_norm_backward, norm_backward};
use super::{cpu, cuda, pad8};
use crate::model::network::{NORM_EPSILON, Normed};
use crate::model::running::Running;
use candle_core::{Device, Result, Tensor, WithDType};

/// The mean and biased variance of each padded channel, f64 `[pad8(C)]`.
#[derive(Clone, Debug)]
pub struct Statistics {
    pub mean: Tensor,
    pub variance: Tensor,
}

/// The mean and biased variance of each channel.
pub fn statistics(map: &Activation) -> Result<Statistics> {
    if cuda::runs_on_cuda(&map.tensor) {
        return cuda::norm::statistics(map);
    }
    let cpu::norm::Statistics { mean, variance } =
        cpu::norm::statistics(&host::<f32>(&map.tensor)?, pad8(map.channels));
    Ok(Statistics { mean: vector(mean)?, variance: vector(variance)? })
}

/// A vector of one value per channel, in host memory.
fn vector<T: WithDType>(values: Vec<T>) -> Result<Tensor> {
    let n = values.len();
    Tensor::from_vec(values, n, &Device::Cpu)
}

impl Statistics {
    /// The running statistics, for evaluation.
    pub fn from_running(running: &Running, device: &Device) -> Result<Self> {
        let padded = pad8(running.mean.len());
        let widen = |values: &[f32]| {
            let mut values: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
            values.resize(padded, 0.0);
            Tensor::from_vec(values, padded, device)
        };
        Ok(Self { mean: widen(&running.mean)?, variance: widen(&running.variance)? })
    }
}

/// Folds `gain·γ·(x − mean)/√(var + ε) + β` into scale and shift.
pub fn fold(conv_out: Activation, statistics: &Statistics, gamma: &Tensor, beta: &Tensor, gain: f64) -> Result<Normed> {
    if cuda::runs_on_cuda(&conv_out.tensor) {
        return cuda::norm::fold(conv_out, statistics, gamma, beta, gain);
    }
    let Folded { scale, shift } = Folded::new(statistics, gamma, beta, gain)?;
    let channels = gamma.elem_count();
    let (batch_mean, variance) = (host::<f64>(&statistics.mean)?, host::<f64>(&statistics.variance)?);
    let (mut mean, mut inverse_std) = (vec![0f64; scale.len()], vec![0f64; scale.len()]);
    for c in 0..channels {
        mean[c] = batch_mean[c];
        inverse_std[c] = inverse_of(variance[c]);
    }
    let (scale, shift, mean, inverse_std) = (vector(scale)?, vector(shift)?, vector(mean)?, vector(inverse_std)?);
    Ok(Normed { conv_out, scale, shift, mean, inverse_std })
}

fn inverse_of(variance: f64) -> f64 {
    1.0 / (variance + NORM_EPSILON).sqrt()
}

/// The scale and shift of [`fold`] in host memory.
pub struct Folded {
    /// `[pad8(C)]`, 0 in the padding.
    pub scale: Vec<f32>,
    /// `[pad8(C)]`, 0 in the padding.
    pub shift: Vec<f32>,
}

impl Folded {
    /// A view for the CPU kernels.
    pub fn view(&self) -> cpu::lif::Folded<'_> {
        cpu::lif::Folded { scale: &self.scale, shift: &self.shift }
    }

    /// Folds statistics and parameters that are in host memory.
    pub fn new(statistics: &Statistics, gamma: &Tensor, beta: &Tensor, gain: f64) -> Result<Self> {
        let (mean, variance) = (host::<f64>(&statistics.mean)?, host::<f64>(&statistics.variance)?);
        let (gamma, beta) = (host::<f32>(gamma)?, host::<f32>(beta)?);
        let (mut scale, mut shift) = (vec![0f32; mean.len()], vec![0f32; mean.len()]);
        for c in 0..gamma.len() {
            let factor = f64::from(gamma[c]) * gain * inverse_of(variance[c]);
            scale[c] = factor as f32;
            shift[c] = (f64::from(beta[c]) - mean[c] * factor) as f32;
        }
        Ok(Self { scale, shift })
    }
}

/// The gradients that [`backward`] computes.
pub struct NormGradients {
    pub gamma: Tensor,
    pub beta: Tensor,
    pub conv_out: Activation,
}

/// The gradient of a norm's output.
pub enum Grad<'a> {
    /// An owned gradient: its memory is reused for the gradient of the input.
    Owned(Activation),
    /// A gradient that is still needed, because the shortcut receives it too.
    Borrowed(&'a Activation),
}

/// The backward pass of a norm with batch statistics.
///
/// `current` is the gradient of the norm's output. `sum` = Σ g and `sum_map` = Σ g·conv_out are
/// its sums per channel.
pub fn backward(
    normed: &Normed,
    current: Grad<'_>,
    sum: &Tensor,
    sum_map: &Tensor,
    gamma: &Tensor,
    gain: f64,
) -> Result<NormGradients> {
    let map = &normed.conv_out;
    if cuda::runs_on_cuda(&map.tensor) {
        return cuda::norm::backward(normed, current, sum, sum_map, gamma, gain);
    }
    let (sum, sum_map) = (host::<f64>(sum)?, host::<f64>(sum_map)?);
    let (means, inverse_std) = (host::<f64>(&normed.mean)?, host::<f64>(&normed.inverse_std)?);
    let (channels, padded) = (map.channels, pad8(map.channels));
    let count = (map.images() * map.height() * map.width()) as f64;
    let gamma = host::<f32>(gamma)?;
    let (mut grad_gamma, mut grad_beta) = (vec![0f32; channels], vec![0f32; channels]);
    let (mut k1, mut k2, mut k3) = (vec![0f32; padded], vec![0f32; padded], vec![0f32; padded]);
    for c in 0..channels {
        let (mean, inverse) = (means[c], inverse_std[c]);
        // Σ g·x̂, from Σ g·x and Σ g.
        let sum_normalised = inverse * (sum_map[c] - mean * sum[c]);
        grad_gamma[c] = (gain * sum_normalised) as f32;
        grad_beta[c] = sum[c] as f32;
        // dx = γ·inverse·(g − Σg/n − x̂·Σ(g·x̂)/n)
        let factor = f64::from(gamma[c]) * gain * inverse;
        let slope = factor * inverse * sum_normalised / count;
        k1[c] = factor as f32;
        k2[c] = -slope as f32;
        k3[c] = (slope * mean - factor * sum[c] / count) as f32;
    }
    let values = host::<f32>(&map.tensor)?;
    let coefficients = Coefficients { k1: &k1, k2: &k2, k3: &k3 };
    let conv_out = match current {
        Grad::Owned(current) => {
            modify(&current.tensor, |grad| norm_backward(&coefficients, &values, grad))?;
            current
        }
        Grad::Borrowed(current) => {
            let out = new_norm_backward(&coefficients, &values, &host::<f32>(&current.tensor)?);
            Activation { tensor: Tensor::from_vec(out, map.tensor.dims(), &Device::Cpu)?, ..*current }
        }
    };
    Ok(NormGradients { gamma: vector(grad_gamma)?, beta: vector(grad_beta)?, conv_out })
}
