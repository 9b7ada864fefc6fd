//! Convolutions as matrix products over columns: the products are cuBLAS's (on the host, candle's).

use super::arguments::{Columns, Weights};
use super::launch::{empty, launch, read, threads, write};
use crate::ops::activation::Activation;
use crate::ops::{ConvShape, pad8};
use candle_core::{DType, Result, Tensor};

/// Floats of the columns that exist at a time: 256 MB.
const MOST_COLUMNS: usize = 1 << 26;

fn columns(s: &ConvShape) -> Columns {
    Columns {
        height: s.height as u32,
        width: s.width as u32,
        channels: pad8(s.c_in) as u32,
        out_height: s.out_height() as u32,
        out_width: s.out_width() as u32,
        kernel: s.kernel as u32,
        stride: s.stride as u32,
        padding: s.padding as u32,
        ..Columns::default()
    }
}

/// Output pixels an image, and values of a column.
fn sizes(s: &ConvShape) -> (usize, usize) {
    (s.out_height() * s.out_width(), s.kernel * s.kernel * pad8(s.c_in))
}

/// Ranges of images (first, number) whose columns fit.
fn chunks(s: &ConvShape) -> Vec<(usize, usize)> {
    let (pixels, values) = sizes(s);
    let each = (MOST_COLUMNS / (pixels * values)).clamp(1, s.images);
    (0..s.images).step_by(each).map(|first| (first, each.min(s.images - first))).collect()
}

/// `[images·pixels, k·k·pad8(c_in)]` of a range of images.
fn im2col(s: &ConvShape, x: &Activation, (first, images): (usize, usize)) -> Result<Tensor> {
    let (pixels, values) = sizes(s);
    let device = x.tensor.device();
    let out = empty((images * pixels, values), DType::F32, device)?;
    let mut arguments =
        Columns { columns: write::<f32>(&out)?, first: first as u32, images: images as u32, ..columns(s) };
    if x.is_spikes() {
        arguments.spikes = read::<u8>(&x.tensor)?;
    } else {
        arguments.map = read::<f32>(&x.tensor)?;
    }
    // SAFETY: `s` is the shape of `x`; the columns have room for these images.
    unsafe { launch(device, "im2col", threads(out.elem_count() / 8)?, &arguments)? };
    Ok(out)
}

/// OIHW to `[pad8(c_out), k·k·pad8(c_in)]`, padding 0.
pub(super) fn pack(s: &ConvShape, weight: &Tensor) -> Result<Tensor> {
    let to = empty((pad8(s.c_out), sizes(s).1), DType::F32, weight.device())?;
    let arguments = weights(s, read::<f32>(weight)?, write::<f32>(&to)?);
    // SAFETY: `s` is the weight's shape.
    unsafe { launch(weight.device(), "weight_pack", threads(to.elem_count())?, &arguments)? };
    Ok(to)
}

/// The reverse of [`pack`].
pub(super) fn unpack(s: &ConvShape, packed: &Tensor) -> Result<Tensor> {
    let to = empty((s.c_out, s.c_in, s.kernel, s.kernel), DType::F32, packed.device())?;
    let arguments = weights(s, read::<f32>(packed)?, write::<f32>(&to)?);
    // SAFETY: as above.
    unsafe { launch(packed.device(), "weight_unpack", threads(to.elem_count())?, &arguments)? };
    Ok(to)
}

fn weights(s: &ConvShape, from: u64, to: u64) -> Weights {
    let (padded_out, padded_in) = (pad8(s.c_out) as u32, pad8(s.c_in) as u32);
    Weights { from, to, c_out: s.c_out as u32, c_in: s.c_in as u32, kernel: s.kernel as u32, padded_out, padded_in }
}

/// The output map `[images, H', W', pad8(c_out)]`.
pub fn forward(s: &ConvShape, x: &Activation, weight: &Tensor) -> Result<Tensor> {
    let weight = pack(s, weight)?.t()?;
    let parts = chunks(s).into_iter().map(|chunk| im2col(s, x, chunk)?.matmul(&weight));
    let out = Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)?;
    out.reshape((s.images, s.out_height(), s.out_width(), pad8(s.c_out)))
}

/// The weight's gradient, OIHW.
pub fn grad_weight(s: &ConvShape, x: &Activation, grad_out: &Tensor) -> Result<Tensor> {
    let pixels = sizes(s).0;
    let grad = grad_out.reshape((s.images * pixels, pad8(s.c_out)))?;
    let mut sum: Option<Tensor> = None;
    // The chunks' gradients are added in order.
    for (first, images) in chunks(s) {
        let part = grad.narrow(0, first * pixels, images * pixels)?.t()?.matmul(&im2col(s, x, (first, images))?)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => (sum + part)?,
        });
    }
    unpack(s, &sum.map_or_else(|| Tensor::zeros((pad8(s.c_out), sizes(s).1), DType::F32, grad_out.device()), Ok)?)
}

/// The input's gradient `[images, H, W, pad8(c_in)]`, added onto `to` where that is given.
pub fn grad_input(s: &ConvShape, weight: &Tensor, grad_out: &Tensor, to: Option<&Tensor>) -> Result<Tensor> {
    let (weight, pixels, device) = (pack(s, weight)?, sizes(s).0, grad_out.device());
    let grad = grad_out.reshape((s.images * pixels, pad8(s.c_out)))?;
    let out = match to {
        Some(to) => to.clone(),
        None => empty((s.images, s.height, s.width, pad8(s.c_in)), DType::F32, device)?,
    };
    for (first, images) in chunks(s) {
        let part = grad.narrow(0, first * pixels, images * pixels)?.matmul(&weight)?;
        let arguments = Columns {
            columns: read::<f32>(&part)?,
            grad: write::<f32>(&out)?,
            first: first as u32,
            images: images as u32,
            accumulate: u32::from(to.is_some()),
            ..columns(s)
        };
        let values = images * s.height * s.width * pad8(s.c_in);
        // SAFETY: columns of these images, and the whole input map.
        unsafe { launch(device, "col2im", threads(values)?, &arguments)? };
    }
    Ok(out)
}
