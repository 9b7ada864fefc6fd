//! A training step of `resnet18-plain` with candle's own operations and autograd beside ours: the same network, initial
//! weights, input and neuron, steps in turn. One JSON line a configuration.
//!
//! `cargo bench --profile dev -p harness --bench candle -- [WIDTH:BATCH:SIDE:CHANNELS…]`, `RAYON_NUM_THREADS` sets the threads of both.

use anyhow::{Context, Result};
use candle_core::{D, Device, Tensor, Var};
use candle_nn::{BatchNorm, BatchNormConfig, ModuleT, Optimizer, SGD, VarBuilder, VarMap, batch_norm, loss};
use harness::model::config::{Architecture, NetworkConfig, Norm};
use harness::model::layout::{ConvNorm, Layer};
use harness::model::network::{Network, Neuron, Pass, Statistics};
use harness::model::readout;
use harness::ops::activation::Activation;
use harness::ops::optimizer::Sgd;
use harness::rng::{Purpose, Stream};
use methods::lif::{Lif, Reset};
use methods::surrogate::{Dspike, Surrogate};
use std::time::Instant;

const T: usize = 4;
const CLASSES: usize = 10;
const TEMPERATURE: f64 = 3.0;
const ROUNDS: usize = 5;
const LIF: Lif = Lif { tau: 0.25, v_th: 0.5, reset: Reset::Hard, detach_reset: false };

/// The network in candle's operations.
struct Candle<'a> {
    network: &'a Network,
    /// Weights of the convolutions and of the readout, in the layout's order; norms hold their own.
    weights: Vec<Option<Var>>,
    norms: Vec<BatchNorm>,
    batch: usize,
}

impl<'a> Candle<'a> {
    fn new(network: &'a Network, batch: usize, norms: &VarMap) -> Result<Self> {
        let builder = VarBuilder::from_varmap(norms, candle_core::DType::F32, &Device::Cpu);
        let layout = &network.layout;
        let all = layout.running.iter();
        let norms = all.map(|(name, channels)| batch_norm(*channels, BatchNormConfig::default(), builder.pp(name)));
        let of_norm = |name: &str| layout.running.iter().any(|(norm, _)| name.starts_with(&format!("{norm}.")));
        let weights = layout.params.iter().zip(&network.params);
        let weights =
            weights.map(|(spec, value)| if of_norm(&spec.name) { Ok(None) } else { Var::from_tensor(value).map(Some) });
        Ok(Self {
            network,
            weights: weights.collect::<candle_core::Result<_>>()?,
            norms: norms.collect::<candle_core::Result<_>>()?,
            batch,
        })
    }

    fn current(&self, c: &ConvNorm, x: &Tensor) -> Result<Tensor> {
        let weight = self.weights[c.weight].as_ref().context("a convolution without weight")?;
        let out = x.conv2d(weight, c.kernel / 2, c.stride, 1, 1)?;
        Ok((self.norms[c.running].forward_t(&out, true)? * c.gain)?)
    }

    /// Spikes `[T·B, …]` from a current over T·B or B rows.
    fn fire(&self, current: &Tensor) -> Result<Tensor> {
        let per_step = current.dims()[0] > self.batch;
        let mut spikes: Vec<Tensor> = Vec::new();
        let mut membrane: Option<Tensor> = None;
        for t in 0..T {
            let input = if per_step { current.narrow(0, t * self.batch, self.batch)? } else { current.clone() };
            let kept = match (&membrane, spikes.last()) {
                (Some(u), Some(s)) => Some(((u * LIF.tau)? * (1.0 - s)?)?),
                _ => None,
            };
            let u = kept.map_or(Ok(input.clone()), |kept| kept + &input)?;
            let v = (&u - LIF.v_th)?;
            // Dspike's primitive carries the gradient, the step function the value.
            let primitive = ((v.clamp(-0.5, 0.5)? * TEMPERATURE)?.tanh()? / (2.0 * (TEMPERATURE / 2.0).tanh()))?;
            let step = v.ge(0.0)?.to_dtype(v.dtype())?;
            spikes.push((&primitive + (step - &primitive)?.detach())?);
            membrane = Some(u);
        }
        Ok(Tensor::cat(&spikes, 0)?)
    }

    /// The loss and the mean firing rate of the layers.
    fn forward(&self, images: &Tensor, labels: &Tensor) -> Result<(Tensor, Vec<Tensor>)> {
        let (mut x, mut spikes) = (images.clone(), Vec::new());
        for layer in &self.network.layout.layers {
            x = match layer {
                Layer::Unit { conv, .. } => self.fire(&self.current(conv, &x)?)?,
                Layer::Block { convs, down, .. } => {
                    let shortcut = match down {
                        Some((None, conv)) => self.current(conv, &x)?,
                        _ => x.clone(),
                    };
                    let middle = self.fire(&self.current(&convs[0], &x)?)?;
                    spikes.push(middle.detach());
                    self.fire(&(self.current(&convs[1], &middle)? + shortcut)?)?
                }
                Layer::Pool(_) => anyhow::bail!("resnet18-plain has no pool"),
            };
            spikes.push(x.detach());
        }
        let features = x.mean((2, 3))?;
        let [weight, bias] = [2, 1].map(|back| self.weights[self.weights.len() - back].as_ref());
        let (weight, bias) = (weight.context("no readout")?, bias.context("no readout")?);
        let logits = features.matmul(&weight.t()?)?.broadcast_add(bias)?;
        let mean = logits.reshape((T, self.batch, CLASSES))?.mean(0)?;
        Ok((loss::cross_entropy(&mean, labels)?, spikes))
    }
}

fn rate(spikes: &[Tensor]) -> Result<f64> {
    let rates = spikes.iter().map(|s| Ok(f64::from(s.flatten_all()?.mean(D::Minus1)?.to_scalar::<f32>()?)));
    Ok(rates.collect::<Result<Vec<f64>>>()?.iter().sum::<f64>() / spikes.len() as f64)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn compare(width: usize, batch: usize, side: usize, channels: usize) -> Result<()> {
    let (architecture, norm) = (Architecture::Resnet18Plain, Norm::Tdbn);
    let config = NetworkConfig { architecture, width, norm, neuron: LIF, imagenet_stem: false };
    let mut network = Network::new(&config, Neuron::Lif(LIF), channels, CLASSES, 0)?;
    let mut stream = Stream::new(0, Purpose::Synthetic, (0, 0));
    let pixels: Vec<f32> = (0..batch * side * side * channels).map(|_| stream.normal() as f32).collect();
    let labels: Vec<u32> = (0..batch).map(|_| stream.below(CLASSES) as u32).collect();
    let input = Activation::from_images(&pixels, [batch, side, side, channels], &Device::Cpu)?;
    let images = Tensor::from_vec(pixels, (batch, side, side, channels), &Device::Cpu)?;
    let (images, targets) =
        (images.permute((0, 3, 1, 2))?.contiguous()?, Tensor::new(labels.as_slice(), &Device::Cpu)?);
    let (initial, map) = (network.clone(), VarMap::new());
    let candle = Candle::new(&initial, batch, &map)?;
    let mut variables: Vec<Var> = candle.weights.iter().flatten().cloned().collect();
    let held = map.data().lock().map_err(|_| anyhow::anyhow!("the norms' variables are locked"))?;
    let trained = |name: &str| name.ends_with(".weight") || name.ends_with(".bias");
    variables.extend(held.iter().filter(|(name, _)| trained(name)).map(|(_, variable)| variable.clone()));
    drop(held);
    let mut optimizer = SGD::new(variables, 0.01)?;
    let velocities = network.params.iter().map(Tensor::zeros_like).collect::<candle_core::Result<Vec<_>>>()?;
    let surrogate = Surrogate::Dspike(Dspike { temperature: TEMPERATURE });
    let (_, spikes) = candle.forward(&images, &targets)?;
    let candle_rate = rate(&spikes)?;
    let (mut ours, mut theirs, mut our_rate) = (Vec::new(), Vec::new(), 0.0);
    for round in 0..=ROUNDS {
        let start = Instant::now();
        let pass = Pass { time_steps: T, statistics: Statistics::Batch, keep_tape: true, count_synops: false };
        let output = network.forward(&input, batch, &pass)?;
        let loss = readout::cross_entropy(&output.logits, &labels, T, CLASSES)?;
        let gradients = network.backward(&output, &loss.grad_logits, T, batch, &surrogate)?;
        network.update_running(&output)?;
        Sgd { lr: 0.01, momentum: 0.9, weight_decay: 1e-4 }.step(&network.params, &velocities, &gradients)?;
        let activity = output.activity()?;
        let our_step = start.elapsed().as_secs_f64();
        let start = Instant::now();
        let (loss, _) = candle.forward(&images, &targets)?;
        optimizer.backward_step(&loss)?;
        let their_step = start.elapsed().as_secs_f64();
        if round == 0 {
            let rates = activity.iter().map(|layer| layer.spikes as f64 / layer.neuron_steps as f64);
            our_rate = rates.sum::<f64>() / activity.len() as f64;
            continue; // the first warms up
        }
        ours.push(our_step);
        theirs.push(their_step);
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    println!(
        "{}",
        serde_json::json!({
            "width": width, "batch": batch, "side": side, "channels": channels, "time_steps": T, "threads": rayon::current_num_threads(),
            "candle_images_per_second": batch as f64 / theirs, "images_per_second": batch as f64 / ours, "ratio": theirs / ours,
            "candle_firing_rate": candle_rate, "firing_rate": our_rate, "rounds": ROUNDS,
        })
    );
    Ok(())
}

fn main() -> Result<()> {
    let given: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let usual = ["16:64:32:3", "8:64:32:3", "16:128:8:1"].map(String::from).to_vec();
    for text in if given.is_empty() { usual } else { given } {
        let parts: Vec<usize> = text.split(':').filter_map(|part| part.parse().ok()).collect();
        let [width, batch, side, channels] = parts[..] else {
            anyhow::bail!("{text}: expected width:batch:side:channels")
        };
        compare(width, batch, side, channels)?;
    }
    Ok(())
}
