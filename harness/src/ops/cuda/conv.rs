//! Convolutions: by cuDNN if it is compiled in, otherwise as matrix products over columns,
//! computed by cuBLAS (in tests by candle on the host).

use super::arguments::{Columns, Expand, Spread, Weights};
use super::feed::upload;
use super::launch::{empty, launch, read, threads, write};
use super::{Precision, precision};
use crate::ops::activation::Activation;
use crate::ops::{ConvShape, pad8};
use candle_core::{DType, Result, Tensor, bail};

/// The maximum number of floats of columns that exist at a time: 256 MB. In tests it is so
/// small that every map is divided.
const MAX_COLUMN_FLOATS: usize = if cfg!(test) { 1 << 11 } else { 1 << 26 };

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

/// Output pixels per image, and values per column.
fn sizes(s: &ConvShape) -> (usize, usize) {
    (s.out_height() * s.out_width(), s.kernel * s.kernel * pad8(s.c_in))
}

/// Ranges of images, as (first, number), whose columns fit.
fn chunks(s: &ConvShape) -> Vec<(usize, usize)> {
    let (pixels, values) = sizes(s);
    let each = (MAX_COLUMN_FLOATS / (pixels * values)).clamp(1, s.images);
    (0..s.images).step_by(each).map(|first| (first, each.min(s.images - first))).collect()
}

/// The columns of a range of images: `[images·pixels, k·k·pad8(c_in)]`.
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

/// Packs an OIHW weight as `[pad8(c_out), k·k·pad8(c_in)]`, with zeros in the padding.
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

/// How a factor enters a product: as stored or transposed.
type Orientation = fn(&Tensor) -> Result<Tensor>;
const AS_STORED: Orientation = |x| Ok(x.clone());
const TRANSPOSED: Orientation = Tensor::t;

/// `a·b` in the thread's precision, as f32. Factors are cast before they are transposed:
/// casting a non-contiguous tensor would copy its strides to the device and wait for it.
fn product((a, a_as): (&Tensor, Orientation), (b, b_as): (&Tensor, Orientation)) -> Result<Tensor> {
    match precision() {
        Precision::Bf16 => {
            let (a, b) = (a.to_dtype(DType::BF16)?, b.to_dtype(DType::BF16)?);
            a_as(&a)?.matmul(&b_as(&b)?)?.to_dtype(DType::F32)
        }
        // TF32 is a setting of cuBLAS, which device.rs makes.
        Precision::F32 | Precision::Tf32 => a_as(a)?.matmul(&b_as(b)?),
    }
}

/// The output map `[images, H', W', pad8(c_out)]`.
pub fn forward(s: &ConvShape, x: &Activation, weight: &Tensor) -> Result<Tensor> {
    let dims = (s.images, s.out_height(), s.out_width(), pad8(s.c_out));
    #[cfg(feature = "cudnn")]
    if weight.device().is_cuda() {
        return by_cudnn::forward(s, x, &pack(s, weight)?, dims);
    }
    let weight = pack(s, weight)?;
    let parts = chunks(s).into_iter().map(|chunk| product((&im2col(s, x, chunk)?, AS_STORED), (&weight, TRANSPOSED)));
    Tensor::cat(&parts.collect::<Result<Vec<_>>>()?, 0)?.reshape(dims)
}

/// The gradient of the weight, OIHW.
pub fn grad_weight(s: &ConvShape, x: &Activation, grad_out: &Tensor) -> Result<Tensor> {
    #[cfg(feature = "cudnn")]
    if grad_out.device().is_cuda() {
        return unpack(s, &by_cudnn::grad_weight(s, x, grad_out)?);
    }
    let pixels = sizes(s).0;
    let grad = grad_out.reshape((s.images * pixels, pad8(s.c_out)))?;
    let mut sum = Tensor::zeros((pad8(s.c_out), sizes(s).1), DType::F32, grad_out.device())?;
    // The chunks' gradients are added in order.
    for (first, images) in chunks(s) {
        let grad = grad.narrow(0, first * pixels, images * pixels)?;
        sum = (sum + product((&grad, TRANSPOSED), (&im2col(s, x, (first, images))?, AS_STORED))?)?;
    }
    unpack(s, &sum)
}

/// The gradient of the input, `[images, H, W, pad8(c_in)]`, added to `to` if that is given.
pub fn grad_input(s: &ConvShape, weight: &Tensor, grad_out: &Tensor, to: Option<&Tensor>) -> Result<Tensor> {
    let (weight, pixels, device) = (pack(s, weight)?, sizes(s).0, grad_out.device());
    #[cfg(feature = "cudnn")]
    if device.is_cuda() {
        return by_cudnn::grad_input(s, &weight, grad_out, to);
    }
    let grad = grad_out.reshape((s.images * pixels, pad8(s.c_out)))?;
    let out = match to {
        Some(to) => to.clone(),
        None => empty((s.images, s.height, s.width, pad8(s.c_in)), DType::F32, device)?,
    };
    for (first, images) in chunks(s) {
        let part = product((&grad.narrow(0, first * pixels, images * pixels)?, AS_STORED), (&weight, AS_STORED))?;
        let arguments = Columns {
            columns: read::<f32>(&part)?,
            grad: write::<f32>(&out)?,
            first: first as u32,
            images: images as u32,
            accumulate: u32::from(to.is_some()),
            ..columns(s)
        };
        let values = images * s.height * s.width * pad8(s.c_in);
        // SAFETY: the columns are those of these images, and the output is the whole input map.
        unsafe { launch(device, "col2im", threads(values)?, &arguments)? };
    }
    Ok(out)
}

/// Spikes as a map of 0 and 1; a map is returned unchanged.
#[cfg_attr(not(feature = "cudnn"), allow(dead_code))] // tested in every build
pub(super) fn expand(x: &Activation) -> Result<Tensor> {
    if !x.is_spikes() {
        return Ok(x.tensor.clone());
    }
    let (images, height, width, bytes) = x.tensor.dims4()?;
    let map = empty((images, height, width, 8 * bytes), DType::F32, x.tensor.device())?;
    let bytes = x.tensor.elem_count();
    let arguments = Expand { spikes: read::<u8>(&x.tensor)?, map: write::<f32>(&map)?, bytes: bytes as u32 };
    // SAFETY: the map has one float per bit.
    unsafe { launch(x.tensor.device(), "expand", threads(bytes)?, &arguments)? };
    Ok(map)
}

/// Repeats `spikes` `[T·B, H, W, C]` for each of G groups: `[T·G·B, H, W, C]`. In group g,
/// channel `channels[g]` is replaced by channel g of `changed`.
pub fn spread(spikes: &Activation, changed: &Activation, channels: &[u32], time_steps: usize) -> Result<Activation> {
    let (images, height, width, bytes) = spikes.tensor.dims4()?;
    let (groups, changed_bytes) = (channels.len(), changed.tensor.dim(3)?);
    let same = changed.tensor.elem_count() == images * height * width * changed_bytes;
    if !same || 8 * changed_bytes < groups || channels.iter().any(|c| *c as usize >= spikes.channels) {
        bail!("{groups} channels {:?} in the place of some of {:?}", changed.tensor.dims(), spikes.tensor.dims());
    }
    let device = spikes.tensor.device();
    let out = empty((images * groups, height, width, bytes), DType::U8, device)?;
    let grid = threads(out.elem_count())?;
    let arguments = Spread {
        spikes: read::<u8>(&spikes.tensor)?,
        changed: read::<u8>(&changed.tensor)?,
        channel: 0,
        out: write::<u8>(&out)?,
        time_steps: time_steps as u32,
        groups: groups as u32,
        slab: (images / time_steps * height * width) as u32,
        bytes: bytes as u32,
        changed_bytes: changed_bytes as u32,
    };
    upload(channels, device, |channel| {
        // SAFETY: both have T·B images; the channel of each group is one of the spikes' and has
        // a bit in `changed`.
        unsafe { launch(device, "spread", grid, &Spread { channel, ..arguments }) }
    })?;
    Ok(Activation { tensor: out, channels: spikes.channels })
}

#[cfg(feature = "cudnn")]
mod by_cudnn {
    use super::*;
    use crate::ops::cuda::cudnn;
    use half::bf16;

    pub fn forward(
        s: &ConvShape,
        x: &Activation,
        weight: &Tensor,
        dims: (usize, usize, usize, usize),
    ) -> Result<Tensor> {
        let (x, device) = (expand(x)?, weight.device());
        if precision() != Precision::Bf16 {
            let out = empty(dims, DType::F32, device)?;
            cudnn::forward::<f32>(s, &x, weight, &out)?;
            return Ok(out);
        }
        let out = empty(dims, DType::BF16, device)?;
        cudnn::forward::<bf16>(s, &x.to_dtype(DType::BF16)?, &weight.to_dtype(DType::BF16)?, &out)?;
        out.to_dtype(DType::F32)
    }

    pub fn grad_weight(s: &ConvShape, x: &Activation, grad: &Tensor) -> Result<Tensor> {
        let (x, dims) = (expand(x)?, (pad8(s.c_out), sizes(s).1));
        if precision() != Precision::Bf16 {
            let out = empty(dims, DType::F32, grad.device())?;
            cudnn::grad_weight::<f32>(s, &x, grad, &out)?;
            return Ok(out);
        }
        let out = empty(dims, DType::BF16, grad.device())?;
        cudnn::grad_weight::<bf16>(s, &x.to_dtype(DType::BF16)?, &grad.to_dtype(DType::BF16)?, &out)?;
        out.to_dtype(DType::F32)
    }

    pub fn grad_input(s: &ConvShape, weight: &Tensor, grad: &Tensor, to: Option<&Tensor>) -> Result<Tensor> {
        let dims = (s.images, s.height, s.width, pad8(s.c_in));
        if precision() != Precision::Bf16 {
            let out = to.map_or_else(|| empty(dims, DType::F32, grad.device()), |to| Ok(to.clone()))?;
            cudnn::grad_input::<f32>(s, weight, grad, &out, to.is_some())?;
            return Ok(out);
        }
        let out = empty(dims, DType::BF16, grad.device())?;
        let (weight, grad) = (weight.to_dtype(DType::BF16)?, grad.to_dtype(DType::BF16)?);
        cudnn::grad_input::<bf16>(s, &weight, &grad, &out, false)?;
        let out = out.to_dtype(DType::F32)?;
        to.map_or_else(|| Ok(out.clone()), |to| to + &out)
    }
}
