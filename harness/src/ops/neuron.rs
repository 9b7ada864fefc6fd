//! Neurons over folded norms: LIF over T, and the ANN twin's ReLU.

use super::activation::{Activation, Host, host, modify};
use super::cpu::lif::{Branch, LifShape};
use super::{cpu, pad8};
use crate::model::network::{Normed, Shortcut};
use candle_core::{Device, Result, Tensor};
use methods::lif::Lif;
use methods::surrogate::Surrogate;

pub use cpu::lif::ChannelSums;

/// Borrowed values of a shortcut.
enum Held<'a> {
    None,
    Spikes(Host<'a, u8>),
    Map(Host<'a, f32>),
    Branch(Host<'a, f32>, &'a Normed),
}

impl<'a> Held<'a> {
    fn new(shortcut: &'a Shortcut) -> Result<Self> {
        Ok(match shortcut {
            Shortcut::None => Self::None,
            Shortcut::Identity(x) if x.is_spikes() => Self::Spikes(host(&x.tensor)?),
            Shortcut::Identity(x) => Self::Map(host(&x.tensor)?),
            Shortcut::Branch(normed) => Self::Branch(host(&normed.conv_out.tensor)?, normed),
        })
    }

    fn view(&self) -> cpu::lif::Shortcut<'_> {
        match self {
            Self::None => cpu::lif::Shortcut::None,
            Self::Spikes(bits) => cpu::lif::Shortcut::Spikes(bits),
            Self::Map(map) => cpu::lif::Shortcut::Map(map),
            Self::Branch(map, normed) => cpu::lif::Shortcut::Branch(branch(map, normed)),
        }
    }
}

fn branch<'a>(map: &'a [f32], normed: &'a Normed) -> Branch<'a> {
    Branch { map, scale: &normed.scale, shift: &normed.shift }
}

fn lif_shape(lif: &Lif, time_steps: usize, batch: usize, x: &Activation) -> LifShape {
    LifShape {
        time_steps,
        positions: batch * x.height() * x.width(),
        channels: pad8(x.channels),
        tau: lif.tau as f32,
        v_th: lif.v_th as f32,
        reset: lif.reset,
        detach_reset: lif.detach_reset,
    }
}

/// Spikes `[T·B, H, W, C]` from a current over T·B rows, or over B rows that hold at every t.
pub fn lif(lif: &Lif, time_steps: usize, batch: usize, main: &Normed, shortcut: &Shortcut) -> Result<Activation> {
    let x = &main.conv_out;
    let dims = (time_steps * batch, x.height(), x.width(), pad8(x.channels) / 8);
    let mut spikes = vec![0u8; dims.0 * dims.1 * dims.2 * dims.3];
    let (map, held) = (host(&x.tensor)?, Held::new(shortcut)?);
    cpu::lif::forward(&lif_shape(lif, time_steps, batch, x), &branch(&map, main), &held.view(), &mut spikes);
    Ok(Activation { tensor: Tensor::from_vec(spikes, dims, &Device::Cpu)?, channels: x.channels })
}

/// Turns the gradient of the spikes into that of the current, in its memory, with its channel sums; the membrane is
/// recomputed.
pub fn lif_backward(
    lif: &Lif,
    time_steps: usize,
    batch: usize,
    main: &Normed,
    shortcut: &Shortcut,
    grad_spikes: Activation,
    surrogate: &Surrogate,
) -> Result<(Activation, ChannelSums)> {
    let x = &main.conv_out;
    let (map, held) = (host(&x.tensor)?, Held::new(shortcut)?);
    let shape = lif_shape(lif, time_steps, batch, x);
    let backward = |grad: &mut [f32]| cpu::lif::backward(&shape, &branch(&map, main), &held.view(), grad, surrogate);
    let sums = modify(&grad_spikes.tensor, backward)?;
    // A current that holds at every t has a gradient for one of them: the sum.
    let tensor = grad_spikes.tensor.narrow(0, 0, x.images())?;
    Ok((Activation { tensor, channels: x.channels }, sums))
}

/// max(0, current).
pub fn relu(main: &Normed, shortcut: &Shortcut) -> Result<Activation> {
    let x = &main.conv_out;
    let (map, held) = (host(&x.tensor)?, Held::new(shortcut)?);
    let mut out = vec![0f32; map.len()];
    cpu::lif::relu_forward(&branch(&map, main), &held.view(), pad8(x.channels), &mut out);
    Ok(Activation { tensor: Tensor::from_vec(out, x.tensor.dims(), &Device::Cpu)?, channels: x.channels })
}

/// Backward of [`relu`], with the same sums as [`lif_backward`].
pub fn relu_backward(main: &Normed, shortcut: &Shortcut, grad: &Activation) -> Result<(Activation, ChannelSums)> {
    let x = &main.conv_out;
    let (map, held, grad) = (host(&x.tensor)?, Held::new(shortcut)?, host::<f32>(&grad.tensor)?);
    let mut out = vec![0f32; map.len()];
    let sums = cpu::lif::relu_backward(&branch(&map, main), &held.view(), pad8(x.channels), &grad, &mut out);
    Ok((Activation { tensor: Tensor::from_vec(out, x.tensor.dims(), &Device::Cpu)?, channels: x.channels }, sums))
}

/// The current `[rows, H, W, pad8(C)]` of a neuron, written out: for dumps and histograms, not for training.
pub fn current(main: &Normed, shortcut: &Shortcut) -> Result<Vec<f32>> {
    let padded = pad8(main.conv_out.channels);
    let (map, held) = (host::<f32>(&main.conv_out.tensor)?, Held::new(shortcut)?);
    let affine =
        |values: &[f32], normed: &Normed, i: usize| values[i] * normed.scale[i % padded] + normed.shift[i % padded];
    let added = |i: usize| match &held {
        Held::None => 0.0,
        Held::Spikes(bits) => f32::from(bits[i / 8] >> (i % 8) & 1),
        Held::Map(map) => map[i],
        Held::Branch(map, normed) => affine(map, normed, i),
    };
    Ok((0..map.len()).map(|i| affine(&map, main, i) + added(i)).collect())
}
