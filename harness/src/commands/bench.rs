//! `harness bench`: one JSON line a measurement, on synthetic standard-normal images.

mod card;

use crate::budget::measure;
use crate::cli::{BenchArgs, BenchCommand};
use crate::data::bench as data_bench;
use crate::data::frames::Framing;
use crate::data::{Integration, Resize};
use crate::device;
use crate::environment::peak_memory_bytes;
use crate::exit;
use crate::gpu_specs;
use crate::model::config::NetworkConfig;
use crate::model::cost::{self, StepCost};
use crate::model::network::{LayerActivity, Network, Neuron, Pass, Statistics};
use crate::model::readout;
use crate::ops::activation::Activation;
use crate::ops::cuda::launch::host_waits;
use crate::ops::optimizer::Sgd;
use crate::ops::with_spinning_workers;
use crate::rng::{Purpose, Stream};
use crate::suite::Suite;
use crate::train::fdg::Probe;
use crate::train::trainer::STEPS_A_LOOK;
use anyhow::Result;
use candle_core::Tensor;
use methods::lif::{Lif, Reset};
use methods::surrogate::{Dspike, Surrogate};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const CLASSES: usize = 10;
/// Images of the epoch that the FDG is held against.
const EPOCH_IMAGES: f64 = 50_000.0;

/// Measures and prints.
pub fn bench(command: &BenchCommand) -> Result<()> {
    let line = match command {
        BenchCommand::Step(args) => step(&Bench::new(args)?)?,
        BenchCommand::Kernels(args) => kernels(&Bench::new(args)?)?,
        BenchCommand::Eval(args) => eval(&Bench::new(args)?)?,
        BenchCommand::Fdg { bench, weights } => fdg(&Bench::new(bench)?, *weights)?,
        BenchCommand::Cell { config } => measure::of_file(config)?,
        BenchCommand::Data { suite, data_dir, augment, workers, seconds, recordings, .. } => {
            let duration = Duration::try_from_secs_f64(*seconds)
                .map_err(|error| exit::usage(format!("--seconds {seconds}: {error}")))?;
            if recordings.is_empty() {
                loading(suite, data_dir.as_deref(), augment.as_deref(), *workers, duration)?
            } else {
                let files: Vec<&Path> = recordings.iter().map(PathBuf::as_path).collect();
                let (integration, resize) = (Integration::Number, Some(Resize::Nearest));
                let framing = Framing { time_steps: 10, integration, size: 48, resize };
                serde_json::to_string(&data_bench::recordings(&files, framing, duration)?)?
            }
        }
    };
    println!("{line}");
    Ok(())
}

/// The network, its input, and the settings that the Python peers use too: tau 0.25, v_th 0.5, Dspike b = 3.
struct Bench<'a> {
    args: &'a BenchArgs,
    network: Network,
    input: Activation,
    labels: Vec<u32>,
    surrogate: Surrogate,
}

impl<'a> Bench<'a> {
    fn new(args: &'a BenchArgs) -> Result<Self> {
        let device = device::open(args.device, args.precision)?;
        let [channels, height, width] = parse_input(&args.input)?;
        let positive = [("--batch", args.batch), ("--time-steps", args.time_steps), ("--steps", args.steps)];
        if let Some((flag, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(exit::usage(format!("{flag} 0: at least 1 is needed")));
        }
        let neuron = Lif { tau: 0.25, v_th: 0.5, reset: Reset::Hard, detach_reset: false };
        let config = NetworkConfig {
            architecture: args.architecture,
            width: args.width,
            norm: args.norm,
            neuron,
            imagenet_stem: args.imagenet_stem,
        };
        config.validate().map_err(exit::usage)?;
        let network = Network::new(&config, Neuron::Lif(neuron), channels, CLASSES, 0)?.to_device(&device)?;
        let mut stream = Stream::new(0, Purpose::Synthetic, (0, 0));
        let pixels: Vec<f32> = (0..args.batch * height * width * channels).map(|_| stream.normal() as f32).collect();
        let input = Activation::from_images(&pixels, [args.batch, height, width, channels], &device)?;
        let labels = (0..args.batch).map(|_| stream.below(CLASSES) as u32).collect();
        Ok(Self { args, network, input, labels, surrogate: Surrogate::Dspike(Dspike { temperature: 3.0 }) })
    }

    fn pass(&self, statistics: Statistics, keep_tape: bool) -> Pass {
        Pass { time_steps: self.args.time_steps, statistics, keep_tape, count_synops: false }
    }

    /// What a step computes and moves; square images only.
    fn cost(&self) -> Option<StepCost> {
        let (height, width) = (self.input.height(), self.input.width());
        let (time_steps, batch) = (self.args.time_steps, self.args.batch);
        (height == width).then(|| cost::step(&self.network.layout, height, time_steps, batch, false))
    }

    /// A step's rates, and their shares of what the card's data sheet promises and of what a plain copy reaches.
    fn rates(&self, step_seconds: f64) -> Result<serde_json::Value> {
        let device = self.network.device();
        let cost = self.cost();
        let flops = cost.map(|cost| cost.flops / step_seconds);
        let bytes = cost.map(|cost| (cost.convolution_bytes + cost.elementwise_bytes) / step_seconds);
        if device.is_cpu() {
            return Ok(json!({ "dense_flops_per_second": flops }));
        }
        let peaks = device::describe(device).gpu.and_then(|name| gpu_specs::of(&name));
        let peak_flops = peaks.map(|peaks| peaks.flops_per_second(self.args.precision));
        let (peak_bytes, copy) = (peaks.map(|peaks| peaks.bytes_per_second()), card::copy_bandwidth(device)?);
        let share = |rate: Option<f64>, of: Option<f64>| rate.zip(of).map(|(rate, of)| rate / of);
        Ok(json!({
            "dense_flops_per_second": flops, "peak_flops_per_second": peak_flops,
            "share_of_peak_flops": share(flops, peak_flops),
            "accounted_bytes_per_second": bytes, "copy_bytes_per_second": copy, "peak_bytes_per_second": peak_bytes,
            "share_of_copy_bandwidth": share(bytes, copy), "share_of_peak_bandwidth": share(bytes, peak_bytes),
            "copy_share_of_peak_bandwidth": share(copy, peak_bytes),
        }))
    }

    fn line(&self, mut measured: serde_json::Value) -> String {
        let (args, described) = (self.args, device::describe(self.network.device()));
        let common = json!({
            "architecture": args.architecture.name(), "width": args.width, "norm": args.norm.name(), "time_steps": args.time_steps,
            "batch": args.batch, "input": args.input, "peak_memory_bytes": peak_memory_bytes(),
            "threads": rayon::current_num_threads(), "device": described.class, "gpu": described.gpu,
            "numerics": described.numerics,
        });
        if let (Some(measured), Some(common)) = (measured.as_object_mut(), common.as_object()) {
            measured.extend(common.clone());
        }
        measured.to_string()
    }
}

/// Loading ahead of training: images a second.
fn loading(
    suite: &str,
    data_dir: Option<&Path>,
    augment: Option<&[String]>,
    workers: usize,
    duration: Duration,
) -> Result<String> {
    let suite = Suite::load(suite)?;
    let experiment = &suite.experiments[0];
    let mut config = experiment.data.clone();
    if let Some(names) = augment {
        config.augment = names.iter().map(|name| name.parse()).collect::<Result<_>>()?;
    }
    let frames = config.dataset.is_event().then_some(experiment.time_steps[0]);
    let rate = data_bench::batches(&config, frames, data_dir, experiment.batch, workers, duration)?;
    Ok(serde_json::to_string(&rate)?)
}

/// Forward, backward, SGD. A card is given as many steps as in training before their results are read.
fn step(bench: &Bench<'_>) -> Result<String> {
    let args = bench.args;
    let mut network = bench.network.clone();
    let velocities = network.params.iter().map(Tensor::zeros_like).collect::<candle_core::Result<Vec<_>>>()?;
    let sgd = Sgd { lr: 0.01, momentum: 0.9, weight_decay: 1e-4 };
    let (mut steps, mut forwards, mut backwards, mut rate) = (Vec::new(), Vec::new(), Vec::new(), 0.0);
    let together = if network.device().is_cuda() { STEPS_A_LOOK } else { 1 };
    let mut waits = host_waits().map(|_| 0);
    for i in 0..args.warmup + args.steps {
        let (start, mut pending) = (Instant::now(), Vec::new());
        let (mut forward, mut backward, before) = (0.0, 0.0, host_waits());
        for _ in 0..together {
            let start = Instant::now();
            let (mut output, loss, gradients) = with_spinning_workers(network.device(), || {
                let output = network.forward(&bench.input, args.batch, &bench.pass(Statistics::Batch, true))?;
                let loss = readout::cross_entropy(&output.logits, &bench.labels, args.time_steps, CLASSES)?;
                forward = start.elapsed().as_secs_f64();
                let gradients =
                    network.backward(&output, &loss.grad_logits, args.time_steps, args.batch, &bench.surrogate)?;
                anyhow::Ok((output, loss, gradients))
            })?;
            backward = start.elapsed().as_secs_f64() - forward;
            sgd.step(&network.params, &velocities, &gradients)?;
            output.tape.clear();
            pending.push((output, loss));
        }
        let after = host_waits();
        for (output, loss) in &pending {
            if together > 1 {
                loss.score()?;
            }
            network.update_running(output)?;
            rate = mean_rate(&output.activity()?);
        }
        drop(pending);
        if i >= args.warmup {
            steps.push(start.elapsed().as_secs_f64() / together as f64);
            forwards.push(forward);
            backwards.push(backward);
            waits = waits.zip(after.zip(before)).map(|(waits, (after, before))| waits + after - before);
        }
    }
    let median_step = median(&mut steps);
    // A card is asked to do and not waited for within a step: these would be the times of the asking.
    let waited = network.device().is_cpu();
    let mut measured = json!({
        "images_per_second": args.batch as f64 / median_step, "step_seconds_median": median_step,
        "forward_seconds": waited.then(|| median(&mut forwards)),
        "backward_seconds": waited.then(|| median(&mut backwards)), "firing_rate": rate,
    });
    if !waited {
        measured["steps_between_reads"] = json!(together);
        measured["host_waits_within_steps"] = json!(waits);
    }
    if let (Some(measured), Some(rates)) = (measured.as_object_mut(), bench.rates(median_step)?.as_object()) {
        measured.extend(rates.clone());
    }
    Ok(bench.line(measured))
}

/// Each elementwise kernel, and its share of the bandwidth of a copy.
fn kernels(bench: &Bench<'_>) -> Result<String> {
    let (args, device) = (bench.args, bench.network.device());
    let copy = card::copy_bandwidth(device)?;
    let shape = [args.time_steps, args.batch, bench.input.height(), bench.input.width(), args.width];
    let mut list = card::elementwise(device, shape)?;
    for kernel in &mut list {
        let rate = kernel["bytes_per_second"].as_f64();
        kernel["share_of_copy_bandwidth"] = json!(rate.zip(copy).map(|(rate, copy)| rate / copy));
    }
    Ok(bench.line(json!({ "copy_bytes_per_second": copy, "kernels": list })))
}

/// The forward pass of evaluation, which orders the weights for the kernels once for all batches.
fn eval(bench: &Bench<'_>) -> Result<String> {
    let args = bench.args;
    let mut network = bench.network.clone();
    let output = network.forward(&bench.input, args.batch, &bench.pass(Statistics::Batch, false))?;
    // Running statistics of this batch, so that the layers fire as in a trained network.
    (0..60).try_for_each(|_| network.update_running(&output))?;
    let (mut times, mut rate, packed) = (Vec::new(), 0.0, network.shared());
    for i in 0..args.warmup + args.steps {
        let start = Instant::now();
        let pass = bench.pass(Statistics::Running, false);
        let output = with_spinning_workers(network.device(), || {
            network.forward_packed(&bench.input, args.batch, &pass, &packed)
        })?;
        rate = mean_rate(&output.activity()?);
        if i >= args.warmup {
            times.push(start.elapsed().as_secs_f64());
        }
    }
    let median = median(&mut times);
    Ok(bench.line(
        json!({ "images_per_second": args.batch as f64 / median, "forward_seconds": median, "firing_rate": rate }),
    ))
}

/// The finite-difference gradient, over all first-layer weights or the first `sample` of them (scaled up, and said so).
fn fdg(bench: &Bench<'_>, sample: Option<usize>) -> Result<String> {
    let args = bench.args;
    let probe = Probe { input: &bench.input, labels: &bench.labels, time_steps: args.time_steps, classes: CLASSES };
    let all = bench.network.params[0].elem_count();
    let weights = sample.unwrap_or(all).clamp(1, all);
    let indices: Vec<usize> = (0..weights).map(|i| i * all / weights).collect();
    let start = Instant::now();
    let gradient = probe.differences(&bench.network, 0, 0.1, &indices, Vec::new(), &mut |_| Ok(()))?;
    let measured = start.elapsed().as_secs_f64();
    let step: serde_json::Value = serde_json::from_str(&step(bench)?)?;
    let images_per_second = step["images_per_second"].as_f64().unwrap_or(f64::NAN);
    let seconds = measured * all as f64 / weights as f64;
    let epoch_seconds = EPOCH_IMAGES / images_per_second;
    let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
    Ok(bench.line(json!({
        "fdg_seconds": seconds, "weights": all, "weights_measured": weights, "measured_seconds": measured, "gradient_norm": norm,
        "training_images_per_second": images_per_second, "epoch_images": EPOCH_IMAGES, "epoch_seconds": epoch_seconds,
        "share_of_epoch": seconds / epoch_seconds,
    })))
}

/// Mean of the layers' firing rates, as the Python peers report it.
fn mean_rate(activity: &[LayerActivity]) -> f64 {
    activity.iter().map(|layer| layer.spikes as f64 / layer.neuron_steps as f64).sum::<f64>()
        / activity.len().max(1) as f64
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn parse_input(text: &str) -> Result<[usize; 3]> {
    let parts: Vec<usize> = text.split('x').filter_map(|part| part.parse().ok()).collect();
    match parts[..] {
        [c, h, w] if text.split('x').count() == 3 && [c, h, w].iter().all(|n| (1..=4096).contains(n)) => Ok([c, h, w]),
        _ => Err(exit::usage(format!("--input {text}: expected channels x height x width, e.g. 3x32x32"))),
    }
}
