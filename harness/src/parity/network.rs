//! Dumps of whole networks and of the finite-difference gradient.

use super::dump::Dump;
use super::neuron::reset;
use super::{Check, absolute, flipped, relative, worse};
use crate::model::config::{Architecture, NetworkConfig, Norm};
use crate::model::layout::Layout;
use crate::model::network::{Network, Neuron, Output, Pass, Statistics};
use crate::model::running::Running;
use crate::model::{probe, readout};
use crate::ops::activation::Activation;
use crate::ops::optimizer::Sgd;
use crate::ops::pad8;
use crate::train::fdg::Probe;
use anyhow::{Context, Result, bail, ensure};
use candle_core::{Device, Tensor};
use methods::fdg::fidelity;
use methods::lif::Lif;

/// The rebuilt network and its input.
struct Rebuilt {
    network: Network,
    input: Activation,
    labels: Vec<u32>,
    time_steps: usize,
    classes: usize,
}

impl Rebuilt {
    fn new(dump: &Dump, device: &Device) -> Result<Self> {
        let time_steps = dump.whole("T")?;
        let config = config(dump)?;
        let (shape, pixels) = dump.tensor("input")?;
        let (batch, images, dims) = match *shape {
            [b, c, h, w] => (b, b, [c, h, w]),
            [t, b, c, h, w] if t == time_steps => (b, t * b, [c, h, w]),
            _ => bail!("`input` is {shape:?}, expected [B,C,H,W] or [T,B,C,H,W] with T = {time_steps}"),
        };
        ensure!(!pixels.is_empty(), "`input` is {shape:?}, which holds nothing");
        let &[classes, _] = dump.tensor("param.fc.weight")?.0 else {
            bail!("`param.fc.weight` is not [classes, features]");
        };
        let layout = Layout::new(&config, dims[0], classes, Some(&dump.stages()?));
        let mut values = Vec::new();
        for spec in &layout.params {
            let (shape, _) = dump.tensor(&format!("param.{}", spec.name))?;
            ensure!(shape == spec.shape, "`param.{}` is {shape:?}, expected {:?}", spec.name, spec.shape);
            values.push(dump.f32s(&format!("param.{}", spec.name))?);
        }
        let network = Network::with_params(layout, Neuron::Lif(config.neuron), values)?.to_device(device)?;
        let labels = labels(dump, batch, classes)?;
        let input = channel_last(pixels, images, dims);
        let input = Activation::from_images(&input, [images, dims[1], dims[2], dims[0]], device)?;
        Ok(Self { network, input, labels, time_steps, classes })
    }

    fn forward(&self, network: &Network, statistics: Statistics) -> Result<Output> {
        let pass = Pass { time_steps: self.time_steps, statistics, keep_tape: true, count_synops: false };
        Ok(network.forward(&self.input, self.labels.len(), &pass)?)
    }

    fn with_detach(&self, detach_reset: bool) -> Network {
        let mut network = self.network.clone();
        if let Neuron::Lif(lif) = &mut network.neuron {
            lif.detach_reset = detach_reset;
        }
        network
    }
}

fn config(dump: &Dump) -> Result<NetworkConfig> {
    let architectures =
        [Architecture::Resnet18Plain, Architecture::Resnet18].map(|architecture| (architecture.name(), architecture));
    let neuron = Lif { tau: dump.number("tau")?, v_th: dump.number("vth")?, reset: reset(dump)?, detach_reset: false };
    let config = NetworkConfig {
        architecture: dump.one_of("architecture", &architectures)?,
        width: dump.whole("width")?,
        norm: dump.one_of("norm", &[Norm::Bn, Norm::Tdbn].map(|norm| (norm.name(), norm)))?,
        neuron,
        imagenet_stem: false,
    };
    config.validate()?;
    Ok(config)
}

/// One class an image.
fn labels(dump: &Dump, batch: usize, classes: usize) -> Result<Vec<u32>> {
    let labels = dump.values("labels")?;
    ensure!(labels.len() == batch, "`labels` has {} values for {batch} images", labels.len());
    let class = |label: f64| (label.fract() == 0.0 && (0.0..classes as f64).contains(&label)).then_some(label as u32);
    let classes = labels.iter().map(|&label| {
        class(label).with_context(|| format!("`labels` holds {label}, expected a whole number below {classes}"))
    });
    classes.collect()
}

fn channel_last(pixels: &[f64], images: usize, [c, h, w]: [usize; 3]) -> Vec<f32> {
    let mut out = Vec::with_capacity(pixels.len());
    for image in 0..images {
        for position in 0..h * w {
            out.extend((0..c).map(|channel| pixels[(image * c + channel) * h * w + position] as f32));
        }
    }
    out
}

/// A whole network: spikes, logits, loss, gradients, SGD steps, running statistics, evaluation.
pub fn network(dump: &Dump, device: &Device) -> Result<Vec<Check>> {
    let rebuilt = Rebuilt::new(dump, device)?;
    let output = rebuilt.forward(&rebuilt.network, Statistics::Batch)?;
    let mut checks = neurons(dump, &rebuilt, &output)?;
    let loss = readout::cross_entropy(&output.logits, &rebuilt.labels, rebuilt.time_steps, rebuilt.classes)?;
    let score = loss.score()?;
    let mean = readout::mean_logits(&output.host_logits()?, rebuilt.time_steps, rebuilt.labels.len(), rebuilt.classes);
    for variant in dump.variants("/logits_f64")? {
        let prefix = &variant.prefix;
        let key = |name: &str| format!("{prefix}/{name}");
        let logits = mean.iter().map(|l| f64::from(*l));
        checks.push(Check::new(key("logits"), absolute(logits, dump.values(&key("logits_f64"))?), 1e-5));
        checks.push(Check::new(key("loss"), absolute([score.loss], dump.values(&key("loss_f64"))?), 1e-5));
        let network = rebuilt.with_detach(variant.detach_reset);
        let batch = rebuilt.labels.len();
        let gradients = network.backward(&output, &loss.grad_logits, rebuilt.time_steps, batch, &variant.surrogate)?;
        checks.push(worst(&network, &gradients, key("gradients"), 1e-4, |name| {
            dump.values(&key(&format!("grad_f64.{name}")))
        })?);
        // SGD changes parameters in place, and clones share them.
        let params: Vec<Tensor> = network.params.iter().map(Tensor::copy).collect::<candle_core::Result<_>>()?;
        let velocities: Vec<Tensor> = params.iter().map(Tensor::zeros_like).collect::<candle_core::Result<_>>()?;
        let sgd = Sgd { lr: 0.01, momentum: 0.9, weight_decay: 1e-4 };
        for step in ["sgd1", "sgd2"] {
            sgd.step(&params, &velocities, &gradients)?;
            if dump.names().any(|name| name.starts_with(&key(&format!("{step}.")))) {
                checks.push(worst(&network, &params, key(step), 1e-5, |name| {
                    dump.values(&key(&format!("{step}.{name}")))
                })?);
            }
        }
    }
    evaluation(dump, &rebuilt, &output, &mut checks)?;
    Ok(checks)
}

/// The worst norm-wise error over all parameters.
fn worst<'a>(
    network: &Network,
    tensors: &[Tensor],
    name: String,
    tolerance: f64,
    expected: impl Fn(&str) -> Result<&'a [f64]>,
) -> Result<Check> {
    let mut check = Check::new(name.clone(), 0.0, tolerance);
    for (spec, tensor) in network.layout.params.iter().zip(tensors) {
        let error = relative(readout::values(tensor)?.iter().map(|v| f64::from(*v)), expected(&spec.name)?);
        if error > check.error || error.is_nan() {
            check = Check::new(format!("{name}, worst: {}", spec.name), error, tolerance);
        }
    }
    Ok(check)
}

/// Currents and spikes of every neuron.
fn neurons(dump: &Dump, rebuilt: &Rebuilt, output: &Output) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    for seen in probe::neurons(&rebuilt.network.layout, output)? {
        let (current, spikes) = (format!("current.{}", seen.name), format!("spikes.{}", seen.name));
        let x = seen.spikes;
        let (channels, positions, padded) = (x.channels, x.height() * x.width(), pad8(x.channels));
        let images = seen.current.len() / positions / padded;
        let ours = (0..images * channels * positions).map(|i| {
            let (image, channel, position) = (i / positions / channels, i / positions % channels, i % positions);
            f64::from(seen.current[(image * positions + position) * padded + channel])
        });
        if dump.has(&current) {
            checks.push(Check::new(current.clone(), relative(ours, dump.values(&current)?), 1e-5));
        }
        let bits = x.tensor.flatten_all()?.to_vec1::<u8>()?;
        let ours = (0..x.images() * channels * positions).map(|i| {
            let (image, channel, position) = (i / positions / channels, i / positions % channels, i % positions);
            f64::from(bits[(image * positions + position) * padded / 8 + channel / 8] >> (channel % 8) & 1)
        });
        checks.push(Check::new(format!("{spikes}, flipped"), flipped(ours, dump.values(&spikes)?), 0.0));
    }
    Ok(checks)
}

/// Running statistics after one training pass, and the logits they give.
fn evaluation(dump: &Dump, rebuilt: &Rebuilt, output: &Output, checks: &mut Vec<Check>) -> Result<()> {
    let mut network = rebuilt.network.clone();
    network.update_running(output)?;
    let (mut means, mut variances) = (0.0f64, 0.0f64);
    for ((name, _), Running { mean, variance }) in network.layout.running.iter().zip(&network.running) {
        let widen = |values: &[f32]| values.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
        let prefix = if dump.has(&format!("running_f64.{name}.running_mean")) { "running_f64" } else { "running" };
        let error = |ours, key| Ok::<_, anyhow::Error>(relative(ours, dump.values(&format!("{prefix}.{name}.{key}"))?));
        means = worse(means, error(widen(mean), "running_mean")?);
        variances = worse(variances, error(widen(variance), "running_var")?);
    }
    checks.push(Check::new("running means", means, 1e-5));
    checks.push(Check::new("running variances", variances, 1e-5));
    if dump.has("eval_logits_f32") {
        let evaluated = rebuilt.forward(&network, Statistics::Running)?;
        let mean =
            readout::mean_logits(&evaluated.host_logits()?, rebuilt.time_steps, rebuilt.labels.len(), rebuilt.classes);
        let error = absolute(mean.iter().map(|l| f64::from(*l)), dump.values("eval_logits_f32")?);
        checks.push(Check::new("evaluation logits", error, 1e-5));
    }
    Ok(())
}

/// Finite-difference gradients of the first layer; the cosines of surrogate gradients with that of the metadata's epsilon.
pub fn fdg(dump: &Dump, device: &Device) -> Result<Vec<Check>> {
    let rebuilt = Rebuilt::new(dump, device)?;
    let probe = Probe {
        input: &rebuilt.input,
        labels: &rebuilt.labels,
        time_steps: rebuilt.time_steps,
        classes: rebuilt.classes,
    };
    let epsilon = dump.number("eps")?;
    let (mut checks, mut gradient) = (Vec::new(), None);
    for name in dump.names().filter(|name| name.starts_with("fdg_eps") && name.ends_with("_f64")) {
        let stated: f64 =
            name["fdg_eps".len()..name.len() - "_f64".len()].parse().with_context(|| format!("`{name}`"))?;
        ensure!(stated > 0.0 && stated.is_finite(), "`{name}`: the step must be above 0");
        let ours = probe.finite_difference_gradient(&rebuilt.network, stated)?;
        let error = relative(ours.iter().copied(), dump.values(name)?);
        checks.push(Check::new(format!("finite-difference gradient, eps {stated}"), error, 1e-4));
        if stated == epsilon {
            gradient = Some(ours);
        }
    }
    let gradient = gradient.with_context(|| format!("the dump has no `fdg_eps{epsilon}_f64`, as its `eps` says"))?;
    for variant in dump.variants("/grad_f64")? {
        let network = rebuilt.with_detach(variant.detach_reset);
        let ours = probe.surrogate_gradients(&network, &[variant.surrogate], &[0])?.remove(0).remove(0);
        let prefix = &variant.prefix;
        let error = relative(ours.iter().map(|g| f64::from(*g)), dump.values(&format!("{prefix}/grad_f64"))?);
        checks.push(Check::new(format!("{prefix}/gradient"), error, 1e-4));
        let cosine = fidelity(&ours, &gradient).cosine;
        checks.push(Check::new(
            format!("{prefix}/cosine"),
            absolute([cosine], dump.values(&format!("{prefix}/cos_f64"))?),
            1e-3,
        ));
    }
    Ok(checks)
}

/// Accumulates that spikes cause in the convolutions, over the batch and all time steps, in training mode.
pub fn synops(dump: &Dump) -> Result<f64> {
    let rebuilt = Rebuilt::new(dump, &Device::Cpu)?;
    let (time_steps, batch) = (rebuilt.time_steps, rebuilt.labels.len());
    let pass = Pass { time_steps, statistics: Statistics::Batch, keep_tape: false, count_synops: true };
    let output = rebuilt.network.forward(&rebuilt.input, batch, &pass)?;
    let activity = output.activity()?;
    let all: f64 = activity.iter().map(|layer| layer.synops).sum();
    let readout = activity.last().map_or(0.0, |layer| layer.spikes as f64 * rebuilt.classes as f64);
    Ok(all - readout)
}

/// Neurons of an image by the layout, and by the currents `[T, batch, C, H, W]` that the dump has for each neuron layer.
pub fn neuron_count(dump: &Dump) -> Result<(usize, usize)> {
    let network = Rebuilt::new(dump, &Device::Cpu)?.network;
    let side = dump.tensor("input")?.0.last().copied().unwrap_or(0);
    let mut dumped = 0;
    for name in dump.names().filter(|name| name.starts_with("current.")) {
        dumped += dump.tensor(name)?.0.iter().skip(2).product::<usize>();
    }
    Ok((network.layout.neurons(side), dumped))
}
