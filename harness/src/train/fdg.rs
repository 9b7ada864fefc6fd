//! The finite-difference gradient of the first layer in a real network, and the temperature it chooses.

use super::perturbed::Perturbed;
use crate::model::network::{Network, Pass, Statistics};
use crate::model::readout;
use crate::ops::activation::Activation;
use crate::ops::conv::ConvWeightCache;
use crate::ops::{cuda, with_spinning_workers};
use anyhow::{Context, Result};
use candle_core::Tensor;
use methods::fdg::{Fdg, Fidelity, choose, fidelity, perturb};
use methods::surrogate::Surrogate;
use rayon::prelude::*;

/// Weights between two pauses, for each thread.
const WEIGHTS_A_THREAD: usize = 16;

/// One training batch on which both gradients are taken.
pub struct Probe<'a> {
    /// B images or T·B event frames.
    pub input: &'a Activation,
    /// Labels, B.
    pub labels: &'a [u32],
    /// T.
    pub time_steps: usize,
    /// Number of classes.
    pub classes: usize,
}

/// A temperature and how well its gradient agrees with the finite-difference gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The temperature.
    pub temperature: f64,
    /// The agreement.
    pub fidelity: Fidelity,
    /// Whether it is the one that training goes on with.
    pub chosen: bool,
}

impl Probe<'_> {
    pub(super) fn batch(&self) -> usize {
        self.labels.len()
    }

    /// Norms in training mode with frozen running statistics: the same function for both gradients.
    fn pass(&self, keep_tape: bool) -> Pass {
        Pass { time_steps: self.time_steps, statistics: Statistics::Batch, keep_tape, count_synops: false }
    }

    pub(super) fn loss(&self, network: &Network, packed: &[Option<ConvWeightCache>]) -> Result<f64> {
        let output = network.forward_packed(self.input, self.batch(), &self.pass(false), packed)?;
        Ok(readout::cross_entropy(&output.logits, self.labels, self.time_steps, self.classes)?.score()?.loss)
    }

    /// Central differences of the loss over all weights of the first convolution, in their own order.
    pub fn finite_difference_gradient(&self, network: &Network, epsilon: f64) -> Result<Vec<f64>> {
        let all: Vec<usize> = (0..network.params[0].elem_count()).collect();
        self.differences(network, 0, epsilon, &all, Vec::new(), &mut |_| Ok(()))
    }

    /// Central differences of the loss over a parameter's values of these indices.
    ///
    /// Each loss is computed by the same kernels as a training forward pass, so these are the bits of the plain loop.
    /// Only the perturbations are spread over the threads, the other parameters are packed once, and near the perturbed
    /// weight, where few spikes change, the convolutions update the unperturbed pass's sums. A card takes many perturbations
    /// of the first layer in one pass.
    ///
    /// `known`: the first of them, from a run that was stopped. `pause` is told those that are known, every few weights;
    /// its error stops the work.
    pub fn differences(
        &self,
        network: &Network,
        param: usize,
        epsilon: f64,
        indices: &[usize],
        known: Vec<f64>,
        pause: &mut dyn FnMut(&[f64]) -> Result<()>,
    ) -> Result<Vec<f64>> {
        if cuda::runs_on_cuda(&network.params[param])
            && let Some(perturbed) = Perturbed::new(self, network, param)?
        {
            return perturbed.all_differences(epsilon, indices, known, pause);
        }
        let weights = readout::values(&network.params[param])?;
        let shape = network.params[param].dims().to_vec();
        let packed = shared(network, param);
        self.loss(network, &packed)?;
        let loss_at = |scratch: &mut Network, index: usize, delta: f64| -> Result<f64> {
            let mut perturbed = weights.clone();
            perturbed[index] = perturb(perturbed[index], delta);
            scratch.params[param] = Tensor::from_vec(perturbed, shape.as_slice(), network.device())?;
            self.loss(scratch, &packed)
        };
        let difference = |scratch: &mut Network, index: &usize| {
            Ok((loss_at(scratch, *index, epsilon)? - loss_at(scratch, *index, -epsilon)?) / (2.0 * epsilon))
        };
        let mut differences = known;
        while differences.len() < indices.len() {
            let rest = &indices[differences.len()..];
            let some = &rest[..rest.len().min(WEIGHTS_A_THREAD * rayon::current_num_threads())];
            let found: Result<Vec<f64>> = if cuda::runs_on_cuda(&network.params[param]) {
                // A card's work is one stream of one thread.
                let mut scratch = network.clone();
                some.iter().map(|index| difference(&mut scratch, index)).collect()
            } else {
                some.par_iter().map_init(|| network.clone(), difference).collect()
            };
            differences.extend(found?);
            pause(&differences)?;
        }
        Ok(differences)
    }

    /// The gradients of these parameters for each surrogate; one forward pass serves all.
    pub fn surrogate_gradients(
        &self,
        network: &Network,
        surrogates: &[Surrogate],
        params: &[usize],
    ) -> Result<Vec<Vec<Vec<f32>>>> {
        with_spinning_workers(network.device(), || {
            let output = network.forward(self.input, self.batch(), &self.pass(true))?;
            let loss = readout::cross_entropy(&output.logits, self.labels, self.time_steps, self.classes)?;
            let gradient = |surrogate: &Surrogate| -> Result<Vec<Vec<f32>>> {
                let gradients =
                    network.backward(&output, &loss.grad_logits, self.time_steps, self.batch(), surrogate)?;
                params.iter().map(|param| Ok(readout::values(&gradients[*param])?)).collect()
            };
            surrogates.iter().map(gradient).collect()
        })
    }
}

/// What passes with another value of `param` share: every other weight as its kernels read it, and the unperturbed sums
/// of the convolutions up to the two after it. Behind those, spikes differ from the unperturbed ones as if unrelated.
fn shared(network: &Network, param: usize) -> Vec<Option<ConvWeightCache>> {
    let is_convolution = |p: &usize| network.layout.params[*p].shape.len() == 4;
    let convolutions: Vec<usize> = (0..network.params.len()).filter(is_convolution).collect();
    let last = convolutions.iter().copied().filter(|p| *p > param).nth(1).unwrap_or(param);
    let packed = |p: usize| if p <= last { ConvWeightCache::keeping_first_pass() } else { ConvWeightCache::default() };
    (0..network.params.len()).map(|p| (p != param).then(|| packed(p))).collect()
}

/// Algorithm 1 of Li et al. 2021: of `{b, b + step, b − step}` the temperature whose gradient has the highest cosine
/// with the finite-difference gradient `reference`; ties keep b. The chosen one is marked. `None`: a loss was not finite.
pub fn choose_temperature(
    probe: &Probe<'_>,
    network: &Network,
    surrogate: &Surrogate,
    fdg: &Fdg,
    reference: &[f64],
) -> Result<Option<Vec<Candidate>>> {
    let temperatures = fdg.candidates(surrogate.parameter());
    let candidate =
        |b: &f64| surrogate.with_temperature(*b).context("FDG was asked of a surrogate without temperature");
    let surrogates: Vec<Surrogate> = temperatures.iter().map(candidate).collect::<Result<_>>()?;
    if reference.iter().any(|g| !g.is_finite()) {
        return Ok(None);
    }
    let gradients = probe.surrogate_gradients(network, &surrogates, &[0])?;
    let agreement: Vec<Fidelity> = gradients.iter().map(|gradient| fidelity(&gradient[0], reference)).collect();
    let best = choose(&agreement.iter().map(|a| a.cosine).collect::<Vec<_>>());
    let marked = temperatures.iter().zip(agreement).enumerate();
    Ok(Some(
        marked.map(|(i, (&temperature, fidelity))| Candidate { temperature, fidelity, chosen: i == best }).collect(),
    ))
}
