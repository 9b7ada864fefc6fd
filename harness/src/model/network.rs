//! The network: parameters and the forward pass. The backward pass is `backward.rs`.

use super::config::NetworkConfig;
use super::layout::{ConvNorm, Layer, Layout, Pool};
use super::readout;
use super::running::Running;
use crate::ops::activation::Activation;
use crate::ops::{conv, cuda, neuron, norm, pool};
use candle_core::{Device, Result, Tensor};
use methods::lif::Lif;
use serde::{Deserialize, Serialize};

/// Batch norm's ε (PyTorch's default).
pub const NORM_EPSILON: f64 = 1e-5;

/// What stands between two convolutions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Neuron {
    /// Spikes over T time steps.
    Lif(Lif),
    /// The ANN twin, T = 1.
    Relu,
}

/// A network with its weights.
#[derive(Clone, Debug)]
pub struct Network {
    /// Layers and names.
    pub layout: Layout,
    /// LIF or ReLU.
    pub neuron: Neuron,
    /// In the layout's order.
    pub params: Vec<Tensor>,
    /// In the layout's order.
    pub running: Vec<Running>,
}

/// Which statistics the norms use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// The batch's, over (T, B, H, W).
    Batch,
    /// The running ones.
    Running,
}

/// How a forward pass runs.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// T; 1 for the ANN.
    pub time_steps: usize,
    /// Batch statistics in training, running ones in evaluation.
    pub statistics: Statistics,
    /// Keep what the backward pass needs.
    pub keep_tape: bool,
    /// Count synaptic operations.
    pub count_synops: bool,
}

/// A convolution's output and the affine form of its norm: current = scale·conv_out + shift.
#[derive(Clone, Debug)]
pub struct Normed {
    /// Before the norm, `[T·B or B, H, W, pad8(C)]`.
    pub conv_out: Activation,
    /// `[pad8(C)]`, 0 in the padding.
    pub scale: Tensor,
    /// `[pad8(C)]`, 0 in the padding.
    pub shift: Tensor,
    /// Statistics in use, f64 `[pad8(C)]`.
    pub mean: Tensor,
    /// 1/√(variance + ε), f64 `[pad8(C)]`, 0 in the padding.
    pub inverse_std: Tensor,
}

impl Normed {
    /// A copy on `device`, or itself where it is there.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(Self {
            conv_out: self.conv_out.to_device(device)?,
            scale: self.scale.to_device(device)?,
            shift: self.shift.to_device(device)?,
            mean: self.mean.to_device(device)?,
            inverse_std: self.inverse_std.to_device(device)?,
        })
    }
}

/// What meets the main branch at a neuron.
#[derive(Clone, Debug)]
pub enum Shortcut {
    /// Nothing.
    None,
    /// The block's input.
    Identity(Activation),
    /// Another convolution and norm.
    Branch(Normed),
}

impl Shortcut {
    /// A copy on `device`, or itself where it is there.
    pub fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(match self {
            Self::None => Self::None,
            Self::Identity(x) => Self::Identity(x.to_device(device)?),
            Self::Branch(normed) => Self::Branch(normed.to_device(device)?),
        })
    }
}

/// What one layer leaves for the backward pass. A pass has a dozen of them: their size does not matter.
#[allow(missing_docs, clippy::large_enum_variant)]
#[derive(Debug)]
pub enum Saved {
    /// Of a [`Layer::Unit`].
    Unit { input: Activation, normed: Normed, output: Activation },
    /// Of a [`Layer::Pool`].
    Pool { input: Activation },
    /// Of a [`Layer::Block`]; `pooled` is the input of the shortcut's convolution.
    Block {
        input: Activation,
        first: Normed,
        middle: Activation,
        second: Normed,
        shortcut: Shortcut,
        pooled: Option<Activation>,
        output: Activation,
    },
}

/// A spiking layer's activity in one pass.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerActivity {
    /// The neuron's name.
    pub name: String,
    /// Spikes, summed over T and B.
    pub spikes: u64,
    /// Neurons · T · B.
    pub neuron_steps: u64,
    /// Accumulates that these spikes cause downstream; 0 unless counted.
    pub synops: f64,
}

/// What a forward pass gives.
#[derive(Debug)]
pub struct Output {
    /// `[T·B, classes]`, on the network's device.
    pub logits: Tensor,
    /// Spiking layers in order, but for their spikes; empty for the ANN.
    layers: Vec<LayerActivity>,
    /// The layers' spikes, I64 `[1]` each, on the network's device.
    spikes: Vec<Tensor>,
    /// Of each norm: its number, its batch statistics and the values a channel that they are of; for
    /// [`Network::update_running`].
    pub statistics: Vec<(usize, norm::Statistics, usize)>,
    /// In the layers' order; empty unless kept.
    pub tape: Vec<Saved>,
    /// The last activation: the readout's input.
    pub last: Activation,
}

impl Output {
    /// Spiking layers in order; empty for the ANN. Waits for the device.
    pub fn activity(&self) -> Result<Vec<LayerActivity>> {
        if self.spikes.is_empty() {
            return Ok(Vec::new());
        }
        let counts = Tensor::cat(&self.spikes, 0)?.to_vec1::<i64>()?;
        let counted = self.layers.iter().cloned().zip(counts);
        Ok(counted.map(|(layer, spikes)| LayerActivity { spikes: spikes as u64, ..layer }).collect())
    }

    /// The logits `[T, B, classes]`, flat, in host memory.
    pub fn host_logits(&self) -> Result<Vec<f32>> {
        readout::values(&self.logits)
    }
}

impl Network {
    /// A network with initial weights from the streams of `seed`.
    pub fn new(config: &NetworkConfig, neuron: Neuron, channels: usize, classes: usize, seed: u64) -> Result<Self> {
        let layout = Layout::new(config, channels, classes, None);
        let values = layout.params.iter().enumerate().map(|(i, p)| p.initial(seed, i)).collect();
        Self::with_params(layout, neuron, values)
    }

    /// A network with given weights, in the layout's order and shapes.
    pub fn with_params(layout: Layout, neuron: Neuron, values: Vec<Vec<f32>>) -> Result<Self> {
        let params = layout.params.iter().zip(values);
        let params =
            params.map(|(p, v)| Tensor::from_vec(v, p.shape.as_slice(), &Device::Cpu)).collect::<Result<_>>()?;
        let running = layout.running.iter().map(|(_, c)| Running { mean: vec![0.0; *c], variance: vec![1.0; *c] });
        let running = running.collect();
        Ok(Self { layout, neuron, params, running })
    }

    /// The network with its parameters on `device`.
    pub fn to_device(mut self, device: &Device) -> Result<Self> {
        self.params = self.params.iter().map(|param| param.to_device(device)).collect::<Result<_>>()?;
        Ok(self)
    }

    /// Where its parameters are.
    pub fn device(&self) -> &Device {
        self.params[0].device()
    }

    /// Number of trained values.
    pub fn parameter_count(&self) -> usize {
        self.params.iter().map(Tensor::elem_count).sum()
    }

    /// Runs the network.
    ///
    /// `input`: B images (computed once, the same current at every t) or T·B event frames.
    pub fn forward(&self, input: &Activation, batch: usize, pass: &Pass) -> Result<Output> {
        self.forward_packed(input, batch, pass, &[])
    }

    /// Places for what passes with these weights can share: for [`Network::forward_packed`].
    pub fn shared(&self) -> Vec<Option<conv::ConvWeightCache>> {
        self.params.iter().map(|_| Some(conv::ConvWeightCache::default())).collect()
    }

    /// [`Network::forward`] for one of many passes with the same weights and sizes of images; `packed` has a place a
    /// parameter, and keeps what passes can share where that is not `None`. The same bits.
    pub fn forward_packed(
        &self,
        input: &Activation,
        batch: usize,
        pass: &Pass,
        packed: &[Option<conv::ConvWeightCache>],
    ) -> Result<Output> {
        let mut run = Run::new(self, pass, batch, packed);
        let mut x = input.clone();
        for layer in &self.layout.layers {
            x = run.layer(layer, x)?;
        }
        let (weight, bias) = (&self.params[self.params.len() - 2], &self.params[self.params.len() - 1]);
        if pass.count_synops && x.is_spikes() {
            let spikes = pool::spike_count(&x)?.to_vec1::<i64>()?;
            run.credit_synops(spikes[0] as f64 * weight.dims()[0] as f64);
        }
        let logits = readout::logits(&x, weight, bias)?;
        let Run { activity, spikes, statistics, tape, .. } = run;
        Ok(Output { logits, layers: activity, spikes, statistics, tape, last: x })
    }

    /// The logits `[T·G·B, classes]` of G batches of B images side by side, from what the first layer gives for them; each
    /// norm takes each batch's own statistics. On a card's kernels alone.
    pub fn behind_first(&self, first: Activation, groups: usize, batch: usize, time_steps: usize) -> Result<Tensor> {
        let pass = Pass { time_steps, statistics: Statistics::Batch, keep_tape: false, count_synops: false };
        let mut run = Run { groups, ..Run::new(self, &pass, groups * batch, &[]) };
        let mut x = first;
        for layer in &self.layout.layers[1..] {
            x = run.layer(layer, x)?;
        }
        readout::logits(&x, &self.params[self.params.len() - 2], &self.params[self.params.len() - 1])
    }
}

/// One forward pass in the making.
struct Run<'a> {
    network: &'a Network,
    pass: &'a Pass,
    batch: usize,
    /// Batches side by side in it.
    groups: usize,
    packed: &'a [Option<conv::ConvWeightCache>],
    activity: Vec<LayerActivity>,
    spikes: Vec<Tensor>,
    statistics: Vec<(usize, norm::Statistics, usize)>,
    tape: Vec<Saved>,
}

impl<'a> Run<'a> {
    fn new(network: &'a Network, pass: &'a Pass, batch: usize, packed: &'a [Option<conv::ConvWeightCache>]) -> Self {
        let (activity, spikes, statistics, tape) = Default::default();
        Self { network, pass, batch, groups: 1, packed, activity, spikes, statistics, tape }
    }

    fn layer(&mut self, layer: &Layer, x: Activation) -> Result<Activation> {
        match layer {
            Layer::Unit { neuron, conv } => {
                let (output, normed) = self.conv_fire(neuron, conv, &x, &Shortcut::None)?;
                let saved = normed.map(|normed| Saved::Unit { input: x, normed, output: output.clone() });
                self.tape.extend(saved);
                Ok(output)
            }
            Layer::Pool(p) => {
                let output = pool::average(&x, *p)?;
                self.tape.extend(self.pass.keep_tape.then_some(Saved::Pool { input: x }));
                Ok(output)
            }
            Layer::Block { neurons, convs, down } => self.block(neurons, convs, down.as_ref(), x),
        }
    }

    fn block(
        &mut self,
        neurons: &[String; 2],
        convs: &[ConvNorm; 2],
        down: Option<&(Option<Pool>, ConvNorm)>,
        x: Activation,
    ) -> Result<Activation> {
        let (shortcut, pooled) = match down {
            None => (Shortcut::Identity(x.clone()), None),
            Some((p, conv)) => {
                let pooled = p.map_or(Ok(x.clone()), |p| pool::average(&x, p))?;
                self.count_synops(conv, &pooled)?;
                (Shortcut::Branch(self.conv_norm(conv, &pooled)?), Some(pooled))
            }
        };
        let (middle, first) = self.conv_fire(&neurons[0], &convs[0], &x, &Shortcut::None)?;
        let (output, second) = self.conv_fire(&neurons[1], &convs[1], &middle, &shortcut)?;
        if let (Some(first), Some(second)) = (first, second) {
            let output = output.clone();
            self.tape.push(Saved::Block { input: x, first, middle, second, shortcut, pooled, output });
        }
        Ok(output)
    }

    /// A convolution, its norm and its neurons; also the norm, if the tape is kept.
    fn conv_fire(
        &mut self,
        name: &str,
        c: &ConvNorm,
        x: &Activation,
        shortcut: &Shortcut,
    ) -> Result<(Activation, Option<Normed>)> {
        self.count_synops(c, x)?;
        if let Neuron::Lif(lif) = &self.network.neuron
            && self.needs_no_map(x)
        {
            let weight = &self.network.params[c.weight];
            let (gamma, beta) = (&self.network.params[c.weight + 1], &self.network.params[c.weight + 2]);
            let running = norm::Statistics::from_running(&self.network.running[c.running], &Device::Cpu)?;
            let norm = norm::Folded::new(&running, gamma, beta, c.gain)?;
            let conv = neuron::FoldedConv { conv: c, weight, cache: self.packed_for(c), norm };
            let spikes = neuron::conv_lif(lif, self.pass.time_steps, &conv, x, shortcut)?;
            self.count(name, &spikes)?;
            return Ok((spikes, None));
        }
        let normed = self.conv_norm(c, x)?;
        let output = self.fire(name, &normed, shortcut)?;
        Ok((output, self.pass.keep_tape.then_some(normed)))
    }

    /// Whether spikes alone remain of the neurons behind a convolution of `x`, on this machine's CPU.
    fn needs_no_map(&self, x: &Activation) -> bool {
        let every_step = x.is_spikes() && x.images() == self.pass.time_steps * self.batch;
        let mapless = !self.pass.keep_tape && self.pass.statistics == Statistics::Running;
        every_step && mapless && !cuda::runs_on_cuda(&x.tensor)
    }

    fn packed_for(&self, c: &ConvNorm) -> Option<&'a conv::ConvWeightCache> {
        self.packed.get(c.weight).and_then(Option::as_ref)
    }

    /// Credits what the spikes in `x` cause in a convolution.
    fn count_synops(&mut self, c: &ConvNorm, x: &Activation) -> Result<()> {
        if self.pass.count_synops {
            // An image is multiplied, not accumulated: `macs` counts the first layer.
            let operations = if self.activity.is_empty() { 0.0 } else { conv::synops(c, x)? };
            self.credit_synops(operations);
        }
        Ok(())
    }

    fn conv_norm(&mut self, c: &ConvNorm, x: &Activation) -> Result<Normed> {
        let params = &self.network.params;
        let conv_out = conv::forward(c, x, &params[c.weight], self.packed_for(c))?;
        let (gamma, beta) = (&params[c.weight + 1], &params[c.weight + 2]);
        match self.pass.statistics {
            Statistics::Batch => {
                let statistics = match self.groups {
                    1 => norm::statistics(&conv_out)?,
                    groups => cuda::norm::grouped_statistics(&conv_out, groups, self.pass.time_steps)?,
                };
                let count = conv_out.images() * conv_out.height() * conv_out.width();
                let normed = norm::fold(conv_out, &statistics, gamma, beta, c.gain)?;
                self.statistics.push((c.running, statistics, count));
                Ok(normed)
            }
            Statistics::Running => {
                let running = &self.network.running[c.running];
                let statistics = norm::Statistics::from_running(running, gamma.device())?;
                norm::fold(conv_out, &statistics, gamma, beta, c.gain)
            }
        }
    }

    /// Adds operations to the layer whose spikes cause them: the latest that fired.
    fn credit_synops(&mut self, operations: f64) {
        if let Some(layer) = self.activity.last_mut() {
            layer.synops += operations;
        }
    }

    fn fire(&mut self, name: &str, main: &Normed, shortcut: &Shortcut) -> Result<Activation> {
        match &self.network.neuron {
            Neuron::Relu => neuron::relu(main, shortcut),
            Neuron::Lif(lif) => {
                let spikes = neuron::lif(lif, self.pass.time_steps, self.batch, main, shortcut)?;
                self.count(name, &spikes)?;
                Ok(spikes)
            }
        }
    }

    /// Notes a spiking layer's activity.
    fn count(&mut self, name: &str, spikes: &Activation) -> Result<()> {
        let per_image = spikes.height() * spikes.width() * spikes.channels;
        self.activity.push(LayerActivity {
            name: name.to_string(),
            spikes: 0,
            neuron_steps: (spikes.images() * per_image) as u64,
            synops: 0.0,
        });
        self.spikes.push(pool::spike_count(spikes)?);
        Ok(())
    }
}
