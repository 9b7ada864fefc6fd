//! Average pools and spike counts.

use super::arguments::{CountSpikes, Pooling};
use super::launch::{THREADS, empty, launch, read, threads, write};
use crate::ops::activation::Activation;
use crate::ops::cpu::pool::PoolShape;
use crate::ops::pad8;
use candle_core::{DType, Result, Tensor};

fn pooling(s: &PoolShape) -> Pooling {
    Pooling {
        images: s.images as u32,
        height: s.height as u32,
        width: s.width as u32,
        channels: pad8(s.channels) as u32,
        out_height: s.out_height() as u32,
        out_width: s.out_width() as u32,
        kernel: s.kernel as u32,
        stride: s.stride as u32,
        padding: s.padding as u32,
        ..Pooling::default()
    }
}

/// One window that covers the whole image.
fn global(x: &Activation) -> Pooling {
    Pooling {
        images: x.images() as u32,
        height: x.height() as u32,
        width: x.width() as u32,
        channels: pad8(x.channels) as u32,
        ..Pooling::default()
    }
}

fn with_input(pooling: Pooling, x: &Activation) -> Result<Pooling> {
    Ok(if x.is_spikes() {
        Pooling { spikes: read::<u8>(&x.tensor)?, ..pooling }
    } else {
        Pooling { map: read::<f32>(&x.tensor)?, ..pooling }
    })
}

/// See [`crate::ops::pool::average`].
pub fn average(x: &Activation, s: &PoolShape) -> Result<Activation> {
    let dims = (s.images, s.out_height(), s.out_width(), pad8(x.channels));
    let out = empty(dims, DType::F32, x.tensor.device())?;
    let arguments = Pooling { out: write::<f32>(&out)?, ..with_input(pooling(s), x)? };
    // SAFETY: the shape is that of `x`.
    unsafe { launch(x.tensor.device(), "pool_forward", threads(s.out_len())?, &arguments)? };
    Ok(Activation { tensor: out, channels: x.channels })
}

/// See [`crate::ops::pool::average_backward`].
pub fn average_backward(x: &Activation, s: &PoolShape, grad: &Activation) -> Result<Activation> {
    if grad.tensor.elem_count() != s.out_len() {
        candle_core::bail!("a gradient {:?} of a pool {s:?}", grad.tensor.dims());
    }
    let out = empty((s.images, s.height, s.width, pad8(x.channels)), DType::F32, x.tensor.device())?;
    let arguments = Pooling { map: read::<f32>(&grad.tensor)?, out: write::<f32>(&out)?, ..pooling(s) };
    // SAFETY: the gradient has the shape of the averages.
    unsafe { launch(x.tensor.device(), "pool_backward", threads(s.in_len())?, &arguments)? };
    Ok(Activation { tensor: out, channels: x.channels })
}

/// The average over each image, `[images, pad8(C)]`; see [`crate::ops::pool::global_average`].
pub fn global_average(x: &Activation) -> Result<Tensor> {
    let out = empty((x.images(), pad8(x.channels)), DType::F32, x.tensor.device())?;
    let arguments = Pooling { out: write::<f32>(&out)?, ..with_input(global(x), x)? };
    // SAFETY: the shape is that of `x`.
    unsafe { launch(x.tensor.device(), "global_forward", threads(out.elem_count())?, &arguments)? };
    Ok(out)
}

/// The gradient of the map, given `[images, pad8(C)]`; see
/// [`crate::ops::pool::global_average_backward`].
pub fn global_average_backward(x: &Activation, grad: &Tensor) -> Result<Activation> {
    let dims = (x.images(), x.height(), x.width(), pad8(x.channels));
    let out = empty(dims, DType::F32, x.tensor.device())?;
    let arguments = Pooling { map: read::<f32>(grad)?, out: write::<f32>(&out)?, ..global(x) };
    // SAFETY: there is one gradient per channel and image.
    unsafe { launch(x.tensor.device(), "global_backward", threads(out.elem_count())?, &arguments)? };
    Ok(Activation { tensor: out, channels: x.channels })
}

/// The number of set bits, `[1]`, I64.
pub fn count_spikes(x: &Activation) -> Result<Tensor> {
    let out = Tensor::zeros(1, DType::I64, x.tensor.device())?;
    let bytes = x.tensor.elem_count();
    let arguments = CountSpikes { spikes: read::<u8>(&x.tensor)?, out: write::<i64>(&out)?, bytes: bytes as u32 };
    let blocks = bytes.div_ceil(16 * THREADS).clamp(1, 1024) as u32;
    // SAFETY: the kernel reads all spikes and adds to one sum.
    unsafe { launch(x.tensor.device(), "count_spikes", [blocks, 1], &arguments)? };
    Ok(out)
}
