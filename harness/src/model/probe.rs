//! What each neuron saw: its current, recomputed from a tape, and its spikes.

use super::layout::{Layer, Layout};
use super::network::{Normed, Output, Saved, Shortcut};
use crate::ops::activation::Activation;
use crate::ops::neuron;
use candle_core::Result;

/// One spiking layer in one pass.
pub struct Seen<'a> {
    /// The neuron's name.
    pub name: &'a str,
    /// Its current `[rows, H, W, pad8(C)]`, rows = T·B, or B where one current holds at every t.
    pub current: Vec<f32>,
    /// Its spikes `[T·B, H, W, C]`.
    pub spikes: &'a Activation,
}

/// Every neuron of a pass that kept its tape, in order.
pub fn neurons<'a>(layout: &'a Layout, output: &'a Output) -> Result<Vec<Seen<'a>>> {
    let mut list = Vec::new();
    let mut see = |name: &'a str, main: &Normed, shortcut: &Shortcut, spikes: &'a Activation| -> Result<()> {
        list.push(Seen { name, current: neuron::current(main, shortcut)?, spikes });
        Ok(())
    };
    for (layer, saved) in layout.layers.iter().zip(&output.tape) {
        match (layer, saved) {
            (Layer::Unit { neuron, .. }, Saved::Unit { normed, output, .. }) => {
                see(neuron, normed, &Shortcut::None, output)?
            }
            (Layer::Block { neurons, .. }, Saved::Block { first, middle, second, shortcut, output, .. }) => {
                see(&neurons[0], first, &Shortcut::None, middle)?;
                see(&neurons[1], second, shortcut, output)?;
            }
            _ => {}
        }
    }
    Ok(list)
}
