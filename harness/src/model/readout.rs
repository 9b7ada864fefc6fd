//! The readout: global average pool, fully connected layer without neuron, mean over T, cross-entropy.

use crate::ops::activation::{Activation, host};
use crate::ops::matmul::matmul;
use crate::ops::{cuda, pool};
use candle_core::{Device, Result, Tensor};

/// `[T·B, H, W, C]` to logits `[T·B, classes]`.
pub fn logits(x: &Activation, weight: &Tensor, bias: &Tensor) -> Result<Tensor> {
    let logits = matmul(&pool::global_average(x)?, &weight.t()?)?;
    if cuda::runs_on_cuda(&logits) {
        cuda::train::add_bias(&logits, bias)?;
        return Ok(logits);
    }
    logits.broadcast_add(bias)
}

/// Gradients of weight, bias and of the last activation, from those of the logits `[T·B, classes]`.
pub fn backward(x: &Activation, weight: &Tensor, grad: &Tensor) -> Result<(Tensor, Tensor, Activation)> {
    let features = pool::global_average(x)?;
    let grad_weight = matmul(&grad.t()?, &features)?;
    let grad_bias = if cuda::runs_on_cuda(grad) { cuda::train::bias_gradient(grad)? } else { grad.sum(0)? };
    let grad_input = pool::global_average_backward(x, &matmul(grad, weight)?)?;
    Ok((grad_weight, grad_bias, grad_input))
}

/// Mean over the first `steps` of T: `[T, B, classes]` to `[B, classes]`.
pub fn mean_logits(logits: &[f32], steps: usize, batch: usize, classes: usize) -> Vec<f32> {
    let mut mean = vec![0f64; batch * classes];
    for step in logits.chunks_exact(batch * classes).take(steps) {
        for (m, l) in mean.iter_mut().zip(step) {
            *m += f64::from(*l);
        }
    }
    mean.iter().map(|m| (m / steps as f64) as f32).collect()
}

/// The loss of a batch, on the device that computed it.
#[derive(Debug)]
pub struct Loss {
    /// Gradient of the logits `[T·B, classes]`.
    pub grad_logits: Tensor,
    /// Cross-entropy of each sample, f64 `[B]`.
    pub losses: Tensor,
    /// Classes that come before each sample's label, u32 `[B]`.
    pub ranks: Tensor,
}

/// Loss, and how often the label was right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Score {
    /// Mean cross-entropy over the batch, in f64: FDG takes differences of it.
    pub loss: f64,
    /// Samples whose label has the largest mean logit.
    pub top1: usize,
    /// Samples whose label is among the five largest.
    pub top5: usize,
}

impl Loss {
    /// Waits for the device and reads the samples' losses and ranks.
    pub fn score(&self) -> Result<Score> {
        let (losses, ranks) = (self.losses.to_vec1::<f64>()?, self.ranks.to_vec1::<u32>()?);
        let among = |most: u32| ranks.iter().filter(|rank| **rank < most).count();
        Ok(Score { loss: losses.iter().sum::<f64>() / losses.len() as f64, top1: among(1), top5: among(5) })
    }
}

/// Cross-entropy of the mean over T of the logits `[T·B, classes]`.
pub fn cross_entropy(logits: &Tensor, labels: &[u32], time_steps: usize, classes: usize) -> Result<Loss> {
    if cuda::runs_on_cuda(logits) {
        return cuda::train::cross_entropy(logits, labels, time_steps, classes);
    }
    let batch = labels.len();
    let mean = mean_logits(&host::<f32>(logits)?, time_steps, batch, classes);
    let (mut losses, mut ranks) = (Vec::with_capacity(batch), Vec::with_capacity(batch));
    let mut grad = vec![0f32; batch * classes];
    for ((row, grad), &label) in mean.chunks_exact(classes).zip(grad.chunks_exact_mut(classes)).zip(labels) {
        let label = label as usize;
        let highest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exps: Vec<f64> = row.iter().map(|l| f64::from(l - highest).exp()).collect();
        let sum: f64 = exps.iter().sum();
        losses.push(sum.ln() - f64::from(row[label] - highest));
        for (k, (g, e)) in grad.iter_mut().zip(exps).enumerate() {
            *g = ((e / sum - f64::from(u8::from(k == label))) / (batch * time_steps) as f64) as f32;
        }
        ranks.push(rank(row, label) as u32);
    }
    Ok(Loss {
        grad_logits: Tensor::from_vec(grad.repeat(time_steps), (time_steps * batch, classes), &Device::Cpu)?,
        losses: Tensor::from_vec(losses, batch, &Device::Cpu)?,
        ranks: Tensor::from_vec(ranks, batch, &Device::Cpu)?,
    })
}

/// Classes that come before the label: those with a larger logit, and of equal ones those with a lower index.
pub fn rank(row: &[f32], label: usize) -> usize {
    row.iter().enumerate().filter(|(k, l)| **l > row[label] || (**l == row[label] && *k < label)).count()
}

/// Values of a tensor that a caller keeps.
pub fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cross_entropy_of_equal_logits_is_the_log_of_the_classes() {
        let logits = Tensor::zeros((2 * 3, 10), candle_core::DType::F32, &Device::Cpu).unwrap();
        let result = cross_entropy(&logits, &[0, 3, 9], 2, 10).unwrap().score().unwrap();
        assert!((result.loss - 10f64.ln()).abs() < 1e-12);
        assert_eq!((result.top1, result.top5), (1, 2)); // ties go to the lower index
    }

    #[test]
    fn the_gradient_is_the_central_difference_of_the_loss() {
        let logits: Vec<f32> = (0..2 * 2 * 3).map(|i| (i as f32 * 0.7).sin()).collect();
        let labels = [2, 0];
        let loss = |logits: &[f32]| {
            let logits = Tensor::from_slice(logits, (2 * 2, 3), &Device::Cpu).unwrap();
            cross_entropy(&logits, &labels, 2, 3).unwrap()
        };
        let gradient = values(&loss(&logits).grad_logits).unwrap();
        for i in 0..logits.len() {
            let at = |delta: f32| {
                let mut moved = logits.clone();
                moved[i] += delta;
                loss(&moved).score().unwrap().loss
            };
            let difference = (at(1e-2) - at(-1e-2)) / 2e-2;
            assert!((difference - f64::from(gradient[i])).abs() < 1e-5, "{i}");
        }
    }

    #[test]
    fn the_mean_over_fewer_steps_is_the_anytime_readout() {
        let logits = [1.0, 0.0, 3.0, 2.0];
        assert_eq!(mean_logits(&logits, 1, 1, 2), [1.0, 0.0]);
        assert_eq!(mean_logits(&logits, 2, 1, 2), [2.0, 1.0]);
    }
}
