//! A short calibration: what one image costs on this device, by the very network of a cell.

use crate::cell::CellConfig;
use crate::device;
use crate::environment::peak_memory_bytes;
use crate::exit;
use crate::model::cost::layer_macs;
use crate::model::layout::Layout;
use crate::model::network::{Network, Neuron, Pass, Statistics};
use crate::model::readout;
use crate::ops::activation::Activation;
use crate::ops::optimizer::Sgd;
use crate::ops::with_spinning_workers;
use crate::rng::{Purpose, Stream};
use crate::train::fdg::Probe;
use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use methods::surrogate::{Dspike, Surrogate};
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

/// Seconds and bytes an image, measured at some T; both grow with T.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rates {
    /// T of the measurement; 1 for an ANN.
    pub time_steps: usize,
    /// Forward, backward, optimiser.
    pub train_seconds: f64,
    /// Forward with running statistics.
    pub eval_seconds: f64,
    /// One loss of the finite-difference gradient; `None` where the cell has none.
    pub fdg_seconds: Option<f64>,
    /// `None` on a card, whose memory is not measured.
    pub memory: Option<Memory>,
}

/// Peak memory over the batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Memory {
    /// What does not grow with the batch.
    pub base_bytes: f64,
    /// A further image.
    pub image_bytes: f64,
}

/// Steps before the clock starts, and steps that count: the fastest does, for others only add to it.
const WARMUP: usize = 1;
const STEPS: usize = 3;
/// Images of the calibration, fewer where one takes seconds: a forward pass of more multiply-accumulates than that.
const IMAGES: usize = 8;
const FEW_IMAGES: usize = 2;
const HEAVY_MACS: f64 = 5e9;

/// Measures on `threads` in a process of its own, whose peak memory is the cell's.
pub fn in_own_process(config: &CellConfig, threads: usize) -> Result<Rates> {
    let file = tempfile::Builder::new().suffix(".toml").tempfile()?;
    std::fs::write(file.path(), toml::to_string(config)?)?;
    let mut command = Command::new(std::env::current_exe()?);
    let output = command.args(["--threads", &threads.to_string(), "bench", "cell"]).arg(file.path()).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(exit::failure(
            exit::Code::CellFailed,
            format!("the calibration ended early ({}): {said}", output.status),
        ));
    }
    serde_json::from_slice(&output.stdout).context("the calibration's answer")
}

/// `harness bench cell FILE`: one JSON line.
pub fn of_file(path: &Path) -> Result<String> {
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let config = toml::from_str(&text)
        .map_err(|error| exit::data(format!("{}: {error}; expected a cell's config.toml", path.display())))?;
    Ok(serde_json::to_string(&measure(&config)?)?)
}

/// On the device that the cell's identity names.
fn measure(config: &CellConfig) -> Result<Rates> {
    let device = device::open_class(&config.precision)?;
    let (channels, classes) = (config.data.dataset.channels(), config.data.dataset.classes());
    let neuron = config.time_steps.map_or(Neuron::Relu, |_| Neuron::Lif(config.network.neuron));
    let mut network = Network::new(&config.network, neuron, channels, classes, config.seed)?.to_device(&device)?;
    let time_steps = config.time_steps.unwrap_or(1);
    let layout = Layout::new(&config.network, channels, classes, None);
    let macs = layer_macs(&layout, config.data.size).1 * time_steps as f64;
    let images = if macs > HEAVY_MACS { FEW_IMAGES } else { IMAGES };
    let velocities = network.params.iter().map(Tensor::zeros_like).collect::<candle_core::Result<Vec<_>>>()?;
    let surrogate = config.method.as_ref().map_or(Surrogate::Dspike(Dspike { temperature: 1.0 }), |m| m.surrogate);
    let pass = |statistics, keep_tape| Pass { time_steps, statistics, keep_tape, count_synops: false };
    let batch = |images: usize| synthetic(config, channels, classes, images, &device);
    let mut step = |images: usize| -> Result<()> {
        let (input, labels) = batch(images)?;
        let (output, gradients) = with_spinning_workers(&device, || {
            let output = network.forward(&input, images, &pass(Statistics::Batch, true))?;
            let loss = readout::cross_entropy(&output.logits, &labels, time_steps, classes)?;
            let gradients = network.backward(&output, &loss.grad_logits, time_steps, images, &surrogate)?;
            anyhow::Ok((output, gradients))
        })?;
        network.update_running(&output)?;
        Sgd { lr: 0.01, momentum: 0.9, weight_decay: 1e-4 }.step(&network.params, &velocities, &gradients)?;
        Ok(device.synchronize()?)
    };
    // Half the batch first: the peak's growth from there is what further images take.
    step(images / 2)?;
    let half = peak_memory_bytes().unwrap_or(0) as f64;
    let train_seconds = fastest(|| step(images))? / images as f64;
    let whole = peak_memory_bytes().unwrap_or(0) as f64;
    let image_bytes = (whole - half) / (images - images / 2) as f64;
    let (input, labels) = batch(images)?;
    let eval = || {
        with_spinning_workers(&device, || network.forward(&input, images, &pass(Statistics::Running, false)))?;
        Ok(device.synchronize()?)
    };
    let eval_seconds = fastest(eval)? / images as f64;
    let probe = Probe { input: &input, labels: &labels, time_steps, classes };
    // As many weights as threads twice over: they share the work as all of them would.
    let weights: Vec<usize> = (0..(2 * rayon::current_num_threads()).min(network.params[0].elem_count())).collect();
    // And one of the unperturbed weights.
    let losses = 2.0 * weights.len() as f64 + 1.0;
    let differences =
        |epsilon| probe.differences(&network, 0, epsilon, &weights, Vec::new(), &mut |_| Ok(())).map(drop);
    let fdg = |fdg: methods::fdg::Fdg| fastest(|| differences(fdg.epsilon));
    let fdg_seconds = config.fdg.map(fdg).transpose()?.map(|seconds| seconds / losses / images as f64);
    let memory = Memory { base_bytes: whole - image_bytes * images as f64, image_bytes };
    let memory = (!device.is_cuda()).then_some(memory);
    Ok(Rates { time_steps, train_seconds, eval_seconds, fdg_seconds, memory })
}

/// Standard-normal images, or frames of all T, and labels.
fn synthetic(
    config: &CellConfig,
    channels: usize,
    classes: usize,
    images: usize,
    device: &Device,
) -> Result<(Activation, Vec<u32>)> {
    let (size, mut stream) = (config.data.size, Stream::new(0, Purpose::Synthetic, (0, 0)));
    let frames = if config.data.dataset.is_event() { config.time_steps.unwrap_or(1) * images } else { images };
    let pixels: Vec<f32> = (0..frames * size * size * channels).map(|_| stream.normal() as f32).collect();
    let labels = (0..images).map(|_| stream.below(classes) as u32).collect();
    Ok((Activation::from_images(&pixels, [frames, size, size, channels], device)?, labels))
}

fn fastest(mut work: impl FnMut() -> Result<()>) -> Result<f64> {
    let mut best = f64::INFINITY;
    for i in 0..WARMUP + STEPS {
        let start = Instant::now();
        work()?;
        if i >= WARMUP {
            best = best.min(start.elapsed().as_secs_f64());
        }
    }
    Ok(best)
}
