//! The finite-difference gradient on a card: the batch under many perturbed first layers, side by side in one forward pass.

use super::fdg::Probe;
use super::trainer::memory::halving;
use crate::device;
use crate::model::layout::{ConvNorm, Layer};
use crate::model::network::{Network, Neuron, Shortcut};
use crate::model::readout;
use crate::ops::activation::Activation;
use crate::ops::{conv, cuda, neuron, norm, pad8};
use anyhow::Result;
use candle_core::Tensor;
use methods::fdg::perturb;
use methods::lif::Lif;

/// Weights in one pass at most: beyond, a card is busy anyway.
const MOST_WEIGHTS: usize = 64;
/// Maps of the largest layer that live at once in a forward pass: input, columns or expanded spikes, output, shortcut; halves of bf16.
const MAPS: usize = 6;
/// Values of one map at most: cuDNN counts them in 31 bits.
const MOST_VALUES: usize = 1 << 30;
/// Free bytes where the device does not say: in tests.
const SOME_BYTES: u64 = 64 << 20;

/// A weight of the first convolution changes one channel of its output. So each perturbation costs the first layer one
/// channel (all are one convolution with a filter a perturbation), and the rest of the network a batch of its own: the
/// unperturbed spikes with that channel in its place. Each norm takes each perturbation's own statistics.
///
/// Sums of the norms are taken in the plain loop's order. So losses are the plain loop's but for the products of convolutions
/// and readout, which a library may add in another order in a larger batch.
pub struct Perturbed<'a> {
    probe: &'a Probe<'a>,
    network: &'a Network,
    conv: &'a ConvNorm,
    lif: &'a Lif,
    weights: Vec<f32>,
    gamma: Vec<f32>,
    beta: Vec<f32>,
    /// The unperturbed first layer's, `[T·B, H, W, C]`.
    spikes: Activation,
}

impl<'a> Perturbed<'a> {
    /// For the weights of `param`, `None` where it is not the first convolution of a spiking network.
    pub fn new(probe: &'a Probe<'a>, network: &'a Network, param: usize) -> Result<Option<Self>> {
        let (Some(Layer::Unit { conv, .. }), Neuron::Lif(lif)) = (network.layout.layers.first(), &network.neuron)
        else {
            return Ok(None);
        };
        if conv.weight != param {
            return Ok(None);
        }
        let [weights, gamma, beta] = [0, 1, 2].map(|i| &network.params[param + i]);
        let spikes = first_layer(probe, conv, lif, weights, gamma, beta)?;
        let (weights, gamma, beta) = (readout::values(weights)?, readout::values(gamma)?, readout::values(beta)?);
        Ok(Some(Self { probe, network, conv, lif, weights, gamma, beta, spikes }))
    }

    /// Central differences for the weights of these indices; `known` and `pause` as in [`Probe::differences`].
    pub fn all_differences(
        &self,
        epsilon: f64,
        indices: &[usize],
        known: Vec<f64>,
        pause: &mut dyn FnMut(&[f64]) -> Result<()>,
    ) -> Result<Vec<f64>> {
        let (mut differences, mut at_once) = (known, self.weights_at_once());
        while differences.len() < indices.len() {
            let rest = &indices[differences.len()..];
            let (found, fits) =
                halving(at_once.min(rest.len()), |weights| self.differences(epsilon, &rest[..weights]))?;
            (differences, at_once) = ([differences, found].concat(), fits);
            pause(&differences)?;
        }
        Ok(differences)
    }

    /// So many that half of the free memory is enough.
    fn weights_at_once(&self) -> usize {
        let size = self.probe.input.height().max(self.probe.input.width());
        let placed = self.network.layout.convolutions(size).into_iter();
        let values = |(map, channels): (usize, usize)| map * pad8(channels);
        let largest = placed
            .map(|p| values((p.positions(), p.conv.c_out)).max(values((p.side * p.side, p.conv.c_in))))
            .max()
            .unwrap_or(1)
            * self.spikes.images();
        let free = device::free_memory(self.network.device()).unwrap_or(SOME_BYTES) as usize;
        (free / 2 / (4 * MAPS * largest)).min(MOST_VALUES / largest).clamp(2, 2 * MOST_WEIGHTS) / 2
    }

    fn differences(&self, epsilon: f64, indices: &[usize]) -> Result<Vec<f64>> {
        let both: Vec<(usize, f64)> = indices.iter().flat_map(|&i| [(i, epsilon), (i, -epsilon)]).collect();
        let losses = self.losses(&both)?;
        Ok(losses.chunks_exact(2).map(|pair| (pair[0] - pair[1]) / (2.0 * epsilon)).collect())
    }

    /// The loss of the batch under each perturbation (weight, change).
    fn losses(&self, perturbations: &[(usize, f64)]) -> Result<Vec<f64>> {
        let (probe, device, groups) = (self.probe, self.network.device(), perturbations.len());
        let filter = self.weights.len() / self.conv.c_out;
        let (mut filters, mut channels) = (Vec::with_capacity(groups * filter), Vec::with_capacity(groups));
        for &(index, change) in perturbations {
            let (channel, place) = (index / filter, index % filter);
            let start = filters.len();
            filters.extend_from_slice(&self.weights[channel * filter..][..filter]);
            filters[start + place] = perturb(filters[start + place], change);
            channels.push(channel as u32);
        }
        let of_channels = |values: &[f32]| {
            let values: Vec<f32> = channels.iter().map(|channel| values[*channel as usize]).collect();
            Tensor::from_vec(values, groups, device)
        };
        let conv = ConvNorm { c_out: groups, ..self.conv.clone() };
        let weights = Tensor::from_vec(filters, (groups, conv.c_in, conv.kernel, conv.kernel), device)?;
        let (gamma, beta) = (of_channels(&self.gamma)?, of_channels(&self.beta)?);
        let changed = first_layer(probe, &conv, self.lif, &weights, &gamma, &beta)?;
        let first = cuda::conv::spread(&self.spikes, &changed, &channels, probe.time_steps)?;
        let logits = self.network.behind_first(first, groups, probe.batch(), probe.time_steps)?;
        let labels = probe.labels.repeat(groups);
        let losses = readout::cross_entropy(&logits, &labels, probe.time_steps, probe.classes)?.losses;
        let losses = losses.to_vec1::<f64>()?;
        Ok(losses.chunks_exact(probe.batch()).map(|of_one| of_one.iter().sum::<f64>() / of_one.len() as f64).collect())
    }
}

/// Convolution, norm with the batch's statistics, neurons.
fn first_layer(
    probe: &Probe<'_>,
    conv: &ConvNorm,
    lif: &Lif,
    weights: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
) -> candle_core::Result<Activation> {
    let conv_out = conv::forward(conv, probe.input, weights, None)?;
    let statistics = norm::statistics(&conv_out)?;
    let normed = norm::fold(conv_out, &statistics, gamma, beta, conv.gain)?;
    neuron::lif(lif, probe.time_steps, probe.batch(), &normed, &Shortcut::None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::{Architecture, NetworkConfig, Norm};
    use crate::ops::cuda::launch::{on_host, with_max_spike_bytes};
    use crate::rng::{Purpose, Stream};
    use candle_core::Device;
    use methods::lif::Reset;

    const BATCH: usize = 3;

    /// Calls `f` with a small network and a batch; `frames`: of event frames, T of them.
    fn with_probe<R>(
        (architecture, imagenet_stem, frames, time_steps): (Architecture, bool, bool, usize),
        f: impl FnOnce(&Probe<'_>, &Network) -> R,
    ) -> R {
        let neuron = Lif { tau: 0.25, v_th: 0.5, reset: Reset::Hard, detach_reset: false };
        let config = NetworkConfig { architecture, width: 8, norm: Norm::Tdbn, neuron, imagenet_stem };
        let side = if imagenet_stem || architecture == Architecture::Vgg16 { 32 } else { 9 };
        let mut network = Network::new(&config, Neuron::Lif(neuron), 3, 10, 1).unwrap();
        let mut stream = Stream::new(3, Purpose::Synthetic, (0, 0));
        // Every norm its own scale and shift, or residual branches would begin at zero and channels be alike.
        for param in network.params.iter_mut().filter(|param| param.rank() == 1) {
            let values: Vec<f32> = (0..param.elem_count()).map(|_| (0.8 + 0.3 * stream.normal()) as f32).collect();
            *param = Tensor::from_vec(values, param.elem_count(), &Device::Cpu).unwrap();
        }
        let images = BATCH * if frames { time_steps } else { 1 };
        let pixels: Vec<f32> = (0..images * side * side * 3).map(|_| stream.normal() as f32).collect();
        let input = Activation::from_images(&pixels, [images, side, side, 3], &Device::Cpu).unwrap();
        f(&Probe { input: &input, labels: &[1, 7, 3], time_steps, classes: 10 }, &network)
    }

    fn plain_loop(probe: &Probe<'_>, network: &Network, indices: &[usize]) -> Vec<f64> {
        let (weights, shape) = (readout::values(&network.params[0]).unwrap(), network.params[0].dims().to_vec());
        let loss = |index: usize, change: f64| {
            let mut changed = network.clone();
            let mut weights = weights.clone();
            weights[index] = perturb(weights[index], change);
            changed.params[0] = Tensor::from_vec(weights, shape.as_slice(), &Device::Cpu).unwrap();
            probe.loss(&changed, &[]).unwrap()
        };
        indices.iter().map(|&i| (loss(i, 0.1) - loss(i, -0.1)) / 0.2).collect()
    }

    fn compiled(test: &str) -> bool {
        if !host_kernels::COMPILED {
            eprintln!("skipped: {test} needs a C++ compiler");
        }
        host_kernels::COMPILED
    }

    #[test]
    fn side_by_side_they_are_the_differences_of_the_plain_loop() {
        if !compiled("side_by_side_they_are_the_differences_of_the_plain_loop") {
            return;
        }
        for kind in [
            (Architecture::Resnet18, false, false, 2),
            (Architecture::Resnet18Plain, false, true, 3),
            (Architecture::Resnet18, true, false, 1),
            (Architecture::Vgg16, false, false, 2),
        ] {
            with_probe(kind, |probe, network| {
                let all = network.params[0].elem_count();
                let indices: Vec<usize> = (0..12).map(|i| i * all / 12).collect();
                let (together, expected) = on_host(|| {
                    let pause = &mut |_: &[f64]| Ok(());
                    let side_by_side = probe.differences(network, 0, 0.1, &indices, Vec::new(), pause).unwrap();
                    (side_by_side, plain_loop(probe, network, &indices))
                });
                assert!(expected.iter().filter(|d| **d != 0.0).count() > 6, "{kind:?}: {expected:?}");
                // The same spikes: what is left is the order of sums in the readout.
                let apart = together.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(apart < 1e-5, "{kind:?}: {apart:e}, {together:?}");
            });
        }
    }

    #[test]
    fn with_less_memory_they_come_in_smaller_parts_and_are_the_same() {
        if !compiled("with_less_memory_they_come_in_smaller_parts_and_are_the_same") {
            return;
        }
        with_probe((Architecture::Resnet18Plain, false, false, 2), |probe, network| {
            let indices: Vec<usize> = (0..20).collect();
            let mut parts = Vec::new();
            let mut run = |most_bytes, known: Vec<f64>| {
                parts.clear();
                let mut seen = known.len();
                let mut pause = |known: &[f64]| {
                    parts.push(known.len() - seen);
                    seen = known.len();
                    Ok(())
                };
                let run = || probe.differences(network, 0, 0.1, &indices, known, &mut pause);
                let result = on_host(|| with_max_spike_bytes(most_bytes, run)).unwrap();
                (result, parts.clone())
            };
            let (whole, at_once) = run(usize::MAX, Vec::new());
            // A byte of spikes a pixel of the first layers: room for 25 perturbations, not for the 40 of 20 weights.
            let (less, parts) = run(25 * 2 * BATCH * 81, Vec::new());
            assert_eq!((at_once, whole.len()), (vec![20], 20));
            assert_eq!(parts, [10, 10]);
            let apart = whole.iter().zip(&less).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(apart < 1e-5, "{apart:e}");
            // From where an earlier attempt stopped.
            let (resumed, parts) = run(usize::MAX, whole[..7].to_vec());
            assert_eq!((&resumed[..7], parts), (&whole[..7], vec![13]));
        });
    }
}
