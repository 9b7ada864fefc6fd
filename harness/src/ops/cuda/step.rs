//! Compares a whole training step on a device with one on the CPU.

use super::Precision;
use super::compare::{Comparison, with_cuda_kernels};
use crate::model::config::{Architecture, NetworkConfig, Norm};
use crate::model::network::{Network, Neuron, Pass, Statistics};
use crate::model::readout;
use crate::ops::activation::Activation;
use crate::ops::optimizer::Sgd;
use crate::rng::{Purpose, Stream};
use candle_core::{Device, Result, Tensor};
use methods::lif::{Lif, Reset};
use methods::surrogate::{Dspike, Surrogate};
use std::time::Instant;

const BATCH: usize = 8;
const TIME_STEPS: usize = 3;
const SIDE: usize = 16;
const CLASSES: usize = 10;

/// One step of a narrow ResNet-18. The error is 1 − cosine between the changes of all
/// parameters and those on the CPU in f32.
///
/// Rounding moves membranes across the threshold, so bf16 rotates the step: by 0.16 to 0.26
/// with these kernels on the host, over eight seeds. The tolerance for bf16 is above that.
/// Those for f32 and TF32 are estimates, because the step has not been measured on a device; a
/// wrong kernel gives far more.
pub fn compare(device: &Device, precision: Precision) -> Result<Comparison> {
    let start = Instant::now();
    let expected = step(&Device::Cpu, 1)?;
    let cpu = start.elapsed();
    with_cuda_kernels(device, || step(device, 1))?;
    device.synchronize()?;
    let start = Instant::now();
    let got = with_cuda_kernels(device, || step(device, 1))?;
    let elapsed = start.elapsed();
    let tolerance = match precision {
        Precision::F32 => 0.01,
        Precision::Tf32 => 0.1,
        Precision::Bf16 => 0.4,
    };
    let name = format!("training step: {BATCH} images, T {TIME_STEPS}, {}", precision.name());
    Ok(Comparison { name, error: distance(&got, &expected), tolerance, cpu, device: elapsed })
}

/// 1 − cosine; NaN if either vector contains one.
pub(super) fn distance(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    1.0 - dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The change of all parameters in one step of SGD.
pub(super) fn step(device: &Device, seed: u64) -> Result<Vec<f32>> {
    let neuron = Lif { tau: 0.25, v_th: 0.5, reset: Reset::Hard, detach_reset: false };
    let (architecture, norm) = (Architecture::Resnet18Plain, Norm::Tdbn);
    let config = NetworkConfig { architecture, width: 8, norm, neuron, imagenet_stem: false };
    let network = Network::new(&config, Neuron::Lif(neuron), 3, CLASSES, seed)?.to_device(device)?;
    let mut stream = Stream::new(seed, Purpose::Synthetic, (1, 0));
    let pixels: Vec<f32> = (0..BATCH * SIDE * SIDE * 3).map(|_| stream.normal() as f32).collect();
    let input = Activation::from_images(&pixels, [BATCH, SIDE, SIDE, 3], device)?;
    let labels: Vec<u32> = (0..BATCH).map(|_| stream.below(CLASSES) as u32).collect();
    let pass = Pass { time_steps: TIME_STEPS, statistics: Statistics::Batch, keep_tape: true, count_synops: false };
    let before = values(&network.params)?;
    let output = network.forward(&input, BATCH, &pass)?;
    let loss = readout::cross_entropy(&output.logits, &labels, TIME_STEPS, CLASSES)?;
    let surrogate = Surrogate::Dspike(Dspike { temperature: 3.0 });
    let gradients = network.backward(&output, &loss.grad_logits, TIME_STEPS, BATCH, &surrogate)?;
    let velocities = network.params.iter().map(Tensor::zeros_like).collect::<Result<Vec<_>>>()?;
    Sgd { lr: 0.1, momentum: 0.9, weight_decay: 0.0 }.step(&network.params, &velocities, &gradients)?;
    let after = values(&network.params)?;
    Ok(after.iter().zip(&before).map(|(after, before)| after - before).collect())
}

fn values(tensors: &[Tensor]) -> Result<Vec<f32>> {
    let parts = tensors.iter().map(readout::values).collect::<Result<Vec<_>>>()?;
    Ok(parts.concat())
}
