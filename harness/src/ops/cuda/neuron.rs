//! LIF over T and ReLU, on currents with folded norms.

use super::arguments::Neurons;
use super::launch::{empty, launch, read, threads, write};
use super::norm::{Blocks, totals};
use crate::model::network::{Normed, Shortcut};
use crate::ops::activation::Activation;
use crate::ops::neuron::ChannelSums;
use crate::ops::pad8;
use candle_core::{DType, Result, Tensor, bail};
use methods::lif::{Lif, Reset};
use methods::surrogate::Surrogate;

/// The maximum T: the backward kernels keep all time steps in registers.
const MAX_TIME_STEPS: usize = 32;

/// The arguments that all kernels read: the main branch and the shortcut, over `rows` rows of
/// the output.
fn branches(main: &Normed, shortcut: &Shortcut, rows: usize) -> Result<Neurons> {
    let x = &main.conv_out;
    let mut arguments = Neurons {
        map: read::<f32>(&x.tensor)?,
        scale: read::<f32>(&main.scale)?,
        shift: read::<f32>(&main.shift)?,
        channels: pad8(x.channels) as u32,
        ..Neurons::default()
    };
    let side = match shortcut {
        Shortcut::None => return Ok(arguments),
        Shortcut::Identity(side) if side.is_spikes() => {
            (arguments.side, arguments.side_spikes) = (1, read::<u8>(&side.tensor)?);
            side
        }
        Shortcut::Identity(side) => {
            (arguments.side, arguments.side_map) = (2, read::<f32>(&side.tensor)?);
            side
        }
        Shortcut::Branch(normed) => {
            (arguments.side, arguments.side_map) = (3, read::<f32>(&normed.conv_out.tensor)?);
            arguments.side_scale = read::<f32>(&normed.scale)?;
            arguments.side_shift = read::<f32>(&normed.shift)?;
            &normed.conv_out
        }
    };
    if side.channels != x.channels || side.images() * side.height() * side.width() != rows {
        bail!(
            "the shortcut does not have the shape of the main branch {:?}: {:?}",
            x.tensor.dims(),
            side.tensor.dims()
        );
    }
    Ok(arguments)
}

fn neurons(lif: &Lif, time_steps: usize, batch: usize, main: &Normed, shortcut: &Shortcut) -> Result<Neurons> {
    let x = &main.conv_out;
    if x.images() != batch && x.images() != time_steps * batch {
        bail!("{} rows of currents for {time_steps} time steps of {batch} images", x.images());
    }
    let positions = batch * x.height() * x.width();
    // Several batches side by side have their own norms.
    let group_positions = positions / (main.scale.elem_count() / pad8(x.channels)).max(1);
    Ok(Neurons {
        time_steps: time_steps as u32,
        positions: positions as u32,
        broadcast: u32::from(x.images() != time_steps * batch),
        hard: u32::from(lif.reset == Reset::Hard),
        detach_reset: u32::from(lif.detach_reset),
        tau: lif.tau as f32,
        v_th: lif.v_th as f32,
        group_positions: group_positions as u32,
        ..branches(main, shortcut, time_steps * positions)?
    })
}

/// The number of a surrogate and the constants of its f32 form in `methods`, as `surrogate.h`
/// expects them.
fn curve(surrogate: &Surrogate) -> (u32, f32, f32) {
    let (number, p, q) = match surrogate {
        Surrogate::Dspike(s) => (0, surrogate.peak(), s.temperature),
        Surrogate::Rectangle(s) => (1, 1.0 / s.width, s.width / 2.0),
        Surrogate::Sigmoid(s) => (2, s.alpha / 4.0, s.alpha / 2.0),
        Surrogate::Triangle(s) => (3, 1.0 / (s.gamma * s.gamma), s.gamma),
        Surrogate::Arctan(s) => (4, s.alpha / 2.0, std::f64::consts::FRAC_PI_2 * s.alpha),
    };
    (number, p as f32, q as f32)
}

/// See [`crate::ops::neuron::lif`].
pub fn lif(lif: &Lif, time_steps: usize, batch: usize, main: &Normed, shortcut: &Shortcut) -> Result<Activation> {
    let x = &main.conv_out;
    let bytes = pad8(x.channels) / 8;
    let dims = (time_steps * batch, x.height(), x.width(), bytes);
    let spikes = empty(dims, DType::U8, x.tensor.device())?;
    let arguments = Neurons { spikes: write::<u8>(&spikes)?, ..neurons(lif, time_steps, batch, main, shortcut)? };
    let grid = threads(batch * x.height() * x.width() * bytes)?;
    // SAFETY: `neurons` has verified that the main map and the shortcut have the rows that T
    // and the positions require.
    unsafe { launch(x.tensor.device(), "lif_forward", grid, &arguments)? };
    Ok(Activation { tensor: spikes, channels: x.channels })
}

/// See [`crate::ops::neuron::lif_backward`].
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
    let kernel = match time_steps {
        1..=4 => "lif_backward_4",
        5..=8 => "lif_backward_8",
        9..=MAX_TIME_STEPS => "lif_backward_32",
        _ => bail!("T = {time_steps}: the CUDA kernels keep at most {MAX_TIME_STEPS} time steps"),
    };
    let (number, p, q) = curve(surrogate);
    let arguments = Neurons {
        out: write::<f32>(&grad_spikes.tensor)?,
        surrogate: number,
        p,
        q,
        ..neurons(lif, time_steps, batch, main, shortcut)?
    };
    if grad_spikes.tensor.elem_count() != time_steps * (arguments.positions * arguments.channels) as usize {
        bail!("the gradient does not have the shape of the spikes: {:?}", grad_spikes.tensor.dims());
    }
    // SAFETY: as in `lif`; the gradient has the shape of the spikes.
    let sums = unsafe { with_sums(kernel, &x.tensor, arguments)? };
    let tensor = grad_spikes.tensor.narrow(0, 0, x.images())?;
    Ok((Activation { tensor, channels: x.channels }, sums))
}

/// Runs a backward kernel and adds up its sums.
///
/// # Safety
/// As for [`launch`].
unsafe fn with_sums(kernel: &'static str, like: &Tensor, arguments: Neurons) -> Result<ChannelSums> {
    let blocks = Blocks::new(arguments.positions as usize, arguments.channels as usize);
    let partial = blocks.partial(3, like)?;
    let arguments =
        Neurons { partial: write::<f64>(&partial)?, lanes: blocks.lanes, rows_each: blocks.rows_each, ..arguments };
    // SAFETY: passed on to the caller; the grid covers positions and channels, and `partial`
    // has a place for each block.
    unsafe { launch(like.device(), kernel, blocks.grid, &arguments)? };
    let sums = totals(&partial)?;
    Ok(ChannelSums { grad: sums.get(0)?, grad_main: sums.get(1)?, grad_shortcut: sums.get(2)? })
}

/// See [`crate::ops::neuron::relu`].
pub fn relu(main: &Normed, shortcut: &Shortcut) -> Result<Activation> {
    let x = &main.conv_out;
    let out = empty(x.tensor.dims(), DType::F32, x.tensor.device())?;
    let positions = x.images() * x.height() * x.width();
    let arguments =
        Neurons { out: write::<f32>(&out)?, positions: positions as u32, ..branches(main, shortcut, positions)? };
    // SAFETY: `branches` has verified that the shortcut has the rows of the main map.
    unsafe { launch(x.tensor.device(), "relu_forward", threads(out.elem_count())?, &arguments)? };
    Ok(Activation { tensor: out, channels: x.channels })
}

/// See [`crate::ops::neuron::relu_backward`].
pub fn relu_backward(main: &Normed, shortcut: &Shortcut, grad: &Activation) -> Result<(Activation, ChannelSums)> {
    let x = &main.conv_out;
    let out = empty(x.tensor.dims(), DType::F32, x.tensor.device())?;
    let positions = x.images() * x.height() * x.width();
    if grad.tensor.dims() != x.tensor.dims() {
        bail!("a gradient {:?} of a map {:?}", grad.tensor.dims(), x.tensor.dims());
    }
    let arguments = Neurons {
        grad_in: read::<f32>(&grad.tensor)?,
        out: write::<f32>(&out)?,
        positions: positions as u32,
        ..branches(main, shortcut, positions)?
    };
    // SAFETY: as above; the gradient has the shape of the main map.
    let sums = unsafe { with_sums("relu_backward", &x.tensor, arguments)? };
    Ok((Activation { tensor: out, channels: x.channels }, sums))
}
