//! The backward pass, written out: spikes are bits, which no autograd walks, and each step frees what it has used.

use super::layout::{ConvNorm, Layer};
use super::network::{Network, Neuron, Normed, Output, Saved, Shortcut};
use super::readout;
use crate::ops::activation::Activation;
use crate::ops::norm::Grad;
use crate::ops::{conv, neuron, norm, pool};
use candle_core::{Result, Tensor, bail};
use methods::surrogate::Surrogate;

/// Gradients of the parameters, in the layout's order.
pub type Gradients = Vec<Tensor>;

impl Network {
    /// Backpropagation through time from the logits' gradient `[T·B, classes]`.
    ///
    /// Borrows the tape, so that several surrogates can be tried on one forward pass (FDG's candidates).
    pub fn backward(
        &self,
        output: &Output,
        grad_logits: &Tensor,
        time_steps: usize,
        batch: usize,
        surrogate: &Surrogate,
    ) -> Result<Gradients> {
        if output.tape.len() != self.layout.layers.len() {
            bail!("backward needs a forward pass that kept its tape");
        }
        let mut pass =
            Backward { network: self, surrogate, time_steps, batch, gradients: vec![None; self.params.len()] };
        let readout = self.params.len() - 2;
        let (weight, bias, mut grad) = readout::backward(&output.last, &self.params[readout], grad_logits)?;
        pass.gradients[readout] = Some(weight);
        pass.gradients[readout + 1] = Some(bias);
        for (i, (layer, saved)) in self.layout.layers.iter().zip(&output.tape).enumerate().rev() {
            let first = i == 0;
            match pass.layer(layer, saved, grad, first)? {
                Some(next) => grad = next,
                None => break,
            }
        }
        pass.gradients.into_iter().map(|g| g.map_or_else(|| bail!("a parameter got no gradient"), Ok)).collect()
    }
}

struct Backward<'a> {
    network: &'a Network,
    surrogate: &'a Surrogate,
    time_steps: usize,
    batch: usize,
    gradients: Vec<Option<Tensor>>,
}

impl Backward<'_> {
    /// From the gradient of a layer's output to that of its input; `None` at the network's input.
    fn layer(&mut self, layer: &Layer, saved: &Saved, grad: Activation, first: bool) -> Result<Option<Activation>> {
        match (layer, saved) {
            (Layer::Unit { conv: c, .. }, Saved::Unit { input, normed, .. }) => {
                let (current, sums) = self.neuron(normed, &Shortcut::None, grad)?;
                let conv_out = self.norm(c, normed, Grad::Owned(current), &sums.grad, &sums.grad_main)?;
                self.conv(c, input, &conv_out, if first { Into::Nowhere } else { Into::New })
            }
            (Layer::Pool(p), Saved::Pool { input }) => pool::average_backward(input, *p, &grad).map(Some),
            (Layer::Block { convs, down, .. }, Saved::Block { input, first, middle, second, shortcut, pooled, .. }) => {
                let (current, sums) = self.neuron(second, shortcut, grad)?;
                let conv_out = self.norm(&convs[1], second, Grad::Borrowed(&current), &sums.grad, &sums.grad_main)?;
                let Some(grad_middle) = self.conv(&convs[1], middle, &conv_out, Into::New)? else { return Ok(None) };
                drop(conv_out);
                // The shortcut's gradient comes first, and the main branch's is added to it. A convolution without a pool
                // is added last: with its stride it reaches a quarter of the pixels.
                let (mut early, mut late) = (None, None);
                match (down, shortcut, pooled) {
                    (Some((p, c)), Shortcut::Branch(normed), Some(pooled)) => {
                        let conv_out = self.norm(c, normed, Grad::Owned(current), &sums.grad, &sums.grad_shortcut)?;
                        match p {
                            Some(p) => {
                                let grad = self.conv(c, pooled, &conv_out, Into::New)?;
                                early = grad.map(|grad| pool::average_backward(input, *p, &grad)).transpose()?;
                            }
                            None => late = Some((c, conv_out)),
                        }
                    }
                    _ => early = Some(current),
                }
                let (current, sums) = self.neuron(first, &Shortcut::None, grad_middle)?;
                let conv_out = self.norm(&convs[0], first, Grad::Owned(current), &sums.grad, &sums.grad_main)?;
                let grad = self.conv(&convs[0], input, &conv_out, early.map_or(Into::New, Into::Added))?;
                match (late, grad) {
                    (Some((c, conv_out)), Some(grad)) => self.conv(c, input, &conv_out, Into::Added(grad)),
                    (_, grad) => Ok(grad),
                }
            }
            _ => bail!("the tape does not belong to this network"),
        }
    }

    fn neuron(
        &self,
        main: &Normed,
        shortcut: &Shortcut,
        grad: Activation,
    ) -> Result<(Activation, neuron::ChannelSums)> {
        match &self.network.neuron {
            Neuron::Relu => neuron::relu_backward(main, shortcut, &grad),
            Neuron::Lif(lif) => {
                neuron::lif_backward(lif, self.time_steps, self.batch, main, shortcut, grad, self.surrogate)
            }
        }
    }

    /// Gradients of gamma and beta; returns that of the convolution's output.
    fn norm(
        &mut self,
        c: &ConvNorm,
        normed: &Normed,
        current: Grad<'_>,
        sum: &Tensor,
        sum_map: &Tensor,
    ) -> Result<Activation> {
        let gamma = &self.network.params[c.weight + 1];
        let result = norm::backward(normed, current, sum, sum_map, gamma, c.gain)?;
        self.gradients[c.weight + 1] = Some(result.gamma);
        self.gradients[c.weight + 2] = Some(result.beta);
        Ok(result.conv_out)
    }

    fn conv(&mut self, c: &ConvNorm, input: &Activation, grad: &Activation, into: Into) -> Result<Option<Activation>> {
        self.gradients[c.weight] = Some(conv::grad_weight(c, input, grad)?);
        let weight = &self.network.params[c.weight];
        match into {
            Into::Nowhere => Ok(None),
            Into::New => conv::grad_input(c, input, weight, grad, None).map(Some),
            Into::Added(to) => conv::grad_input(c, input, weight, grad, Some(to)).map(Some),
        }
    }
}

/// Where the gradient of a convolution's input goes.
enum Into {
    /// The input is data.
    Nowhere,
    /// Into a new map.
    New,
    /// Onto the shortcut's gradient.
    Added(Activation),
}
