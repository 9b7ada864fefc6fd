//! Evaluation: running statistics, no augmentation, every test sample once.

use crate::data::{Batch, Batches, Dataset, Split};
use crate::model::network::{LayerActivity, Network, Pass, Statistics};
use crate::model::readout;
use crate::ops::activation::Activation;
use crate::ops::conv::ConvWeightCache;
use crate::ops::with_spinning_workers;
use crate::predictions::Prediction;
use crate::ranks::Ranks;
use crate::train::trainer::input_of;
use anyhow::Result;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What a network does on a split.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// Mean cross-entropy.
    pub loss: f64,
    /// Share of samples whose label has the largest mean logit.
    pub top1: f64,
    /// Share of samples whose label is among the five largest; `None` with fewer than ten classes.
    pub top5: Option<f64>,
    /// Accuracy of the mean logits over the first t steps, t = 1…T.
    pub anytime: Vec<f64>,
    /// Spiking layers: name, firing rate, accumulates per image.
    pub layers: Vec<LayerRate>,
    /// Spikes / (neurons · T · images) over all spiking layers together; `None` for the ANN.
    pub firing_rate: Option<f64>,
    /// Each sample's class and the network's, in the order of the samples; only of a [`Depth::Final`] evaluation.
    #[serde(skip)]
    pub predictions: Vec<Prediction>,
}

/// One spiking layer's activity.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerRate {
    /// The neuron's name.
    pub name: String,
    /// Spikes / (neurons · T · images).
    pub firing_rate: f64,
    /// Accumulates caused downstream, per image over all t.
    pub synops: f64,
    /// Share of membranes inside the surrogate's support, where that was measured.
    pub active_gradient_share: Option<f64>,
}

/// How a split is evaluated.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// T.
    pub time_steps: usize,
    /// Images at once.
    pub batch: usize,
    /// What is measured besides loss, accuracy and firing rates.
    pub depth: Depth,
}

/// What an evaluation measures besides loss, accuracy and firing rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Nothing: a point of the learning curve.
    Epoch,
    /// Synaptic operations, and each sample's prediction: a finished cell's result.
    Final,
}

/// Evaluates on samples `(split, indices)`, a batch a process in turn. `known`: the sums over the first of them, from a run that was stopped.
/// `pause` is told the sums so far, after every turn; its error stops the evaluation.
pub fn evaluate(
    network: &Network,
    dataset: &Arc<dyn Dataset>,
    (split, indices): (Split, Vec<usize>),
    manner: Manner,
    known: Sums,
    ranks: &Ranks,
    pause: &mut dyn FnMut(&Sums) -> Result<()>,
) -> Result<Evaluation> {
    let Manner { time_steps, batch, depth } = manner;
    let is_final = depth == Depth::Final;
    let pass = Pass { time_steps, statistics: Statistics::Running, keep_tape: false, count_synops: is_final };
    let mut sums = known;
    if is_final && sums.predictions.len() != sums.samples {
        sums = Sums::default(); // from a checkpoint of a program that kept no predictions
    }
    sums.anytime.resize(time_steps, 0);
    let packed = network.shared();
    let left = &indices[sums.samples.min(indices.len())..];
    let mut mine = Batches::new(dataset.clone(), split, ranks.deal(left, batch), batch, None, 1, 0);
    for _ in 0..left.len().div_ceil(batch).div_ceil(ranks.size()) {
        let found =
            mine.next().map(|loaded| Sums::of(network, dataset, &loaded?, &pass, is_final, &packed)).transpose();
        ranks.gather(found)?.into_iter().flatten().for_each(|batch| sums.add(batch));
        pause(&sums)?;
    }
    Ok(sums.over(dataset.classes()))
}

/// Every sample of the test split.
pub fn test_split(dataset: &Arc<dyn Dataset>) -> (Split, Vec<usize>) {
    (Split::Test, (0..dataset.len(Split::Test)).collect())
}

/// Sums over the samples evaluated so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    samples: usize,
    loss: f64,
    top1: usize,
    top5: usize,
    anytime: Vec<usize>,
    layers: Vec<LayerActivity>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    predictions: Vec<Prediction>,
}

impl Sums {
    /// Whether a checkpoint can hold them: JSON has no infinite numbers.
    pub fn is_finite(&self) -> bool {
        self.loss.is_finite()
    }

    fn of(
        network: &Network,
        dataset: &Arc<dyn Dataset>,
        batch: &Batch,
        pass: &Pass,
        keep_predictions: bool,
        packed: &[Option<ConvWeightCache>],
    ) -> Result<Self> {
        let classes = dataset.classes();
        let input: Activation = input_of(batch, dataset.input(), network.device())?;
        let output =
            with_spinning_workers(network.device(), || network.forward_packed(&input, batch.len, pass, packed))?;
        let loss = readout::cross_entropy(&output.logits, &batch.labels, pass.time_steps, classes)?;
        let result = loss.score()?;
        let logits = output.host_logits()?;
        let right_after = |t| {
            let mean = readout::mean_logits(&logits, t, batch.len, classes);
            let rows = mean.chunks_exact(classes).zip(&batch.labels);
            rows.filter(|(row, label)| readout::rank(row, **label as usize) == 0).count()
        };
        Ok(Self {
            samples: batch.len,
            loss: result.loss * batch.len as f64,
            top1: result.top1,
            top5: result.top5,
            anytime: (1..=pass.time_steps).map(right_after).collect(),
            layers: output.activity()?,
            predictions: if keep_predictions {
                predictions(&logits, &loss.ranks.to_vec1()?, &batch.labels, pass.time_steps, classes)?
            } else {
                Vec::new()
            },
        })
    }

    fn add(&mut self, batch: Self) {
        self.samples += batch.samples;
        self.loss += batch.loss;
        self.top1 += batch.top1;
        self.top5 += batch.top5;
        self.anytime.iter_mut().zip(&batch.anytime).for_each(|(sum, right)| *sum += right);
        merge(&mut self.layers, batch.layers);
        self.predictions.extend(batch.predictions);
    }

    fn over(self, classes: usize) -> Evaluation {
        let samples = self.samples;
        let share = |count: usize| count as f64 / samples as f64;
        Evaluation {
            loss: self.loss / samples as f64,
            top1: share(self.top1),
            top5: (classes >= 10).then(|| share(self.top5)),
            anytime: self.anytime.iter().map(|right| share(*right)).collect(),
            firing_rate: firing_rate(&self.layers),
            predictions: self.predictions,
            layers: self
                .layers
                .iter()
                .map(|layer| LayerRate {
                    name: layer.name.clone(),
                    firing_rate: layer.spikes as f64 / layer.neuron_steps as f64,
                    synops: layer.synops / samples as f64,
                    active_gradient_share: None,
                })
                .collect(),
        }
    }
}

/// The predictions of a batch from its logits of all time steps, and from the ranks of its labels, which top-1 counts.
fn predictions(
    logits: &[f32],
    ranks: &[u32],
    labels: &[u32],
    time_steps: usize,
    classes: usize,
) -> Result<Vec<Prediction>> {
    let mean = readout::mean_logits(logits, time_steps, labels.len(), classes);
    let images = mean.chunks_exact(classes).zip(ranks).zip(labels);
    images.map(|((logits, rank), label)| Ok(Prediction::of(logits, u16::try_from(*label)?, *rank == 0))).collect()
}

/// Spikes / (neurons · T · images) over all layers together.
pub fn firing_rate(layers: &[LayerActivity]) -> Option<f64> {
    let (spikes, neurons) = layers.iter().fold((0, 0), |(s, n), l| (s + l.spikes, n + l.neuron_steps));
    (neurons > 0).then(|| spikes as f64 / neurons as f64)
}

/// Adds a pass's activity to that of earlier passes.
pub fn merge(total: &mut Vec<LayerActivity>, pass: Vec<LayerActivity>) {
    if total.is_empty() {
        *total = pass;
        return;
    }
    for (total, layer) in total.iter_mut().zip(pass) {
        total.spikes += layer.spikes;
        total.neuron_steps += layer.neuron_steps;
        total.synops += layer.synops;
    }
}
