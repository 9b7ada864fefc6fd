//! The loss, the bias and the optimiser.

use super::arguments::{Bias, CopyMap, CrossEntropy, Sgd as Step};
use super::feed::upload;
use super::launch::{empty, launch, read, threads, write};
use crate::model::readout::Loss;
use crate::ops::optimizer::Sgd;
use candle_core::{DType, Result, Tensor, bail};

/// The step of one parameter; see [`Sgd::step`].
pub fn sgd(sgd: &Sgd, param: &Tensor, velocity: &Tensor, gradient: &Tensor) -> Result<()> {
    let count = param.elem_count();
    if velocity.elem_count() != count || gradient.elem_count() != count {
        bail!("a parameter of {count} values, its velocity and its gradient differ in size");
    }
    let gradient = gradient.contiguous()?;
    let arguments = Step {
        weight: write::<f32>(param)?,
        velocity: write::<f32>(velocity)?,
        grad: read::<f32>(&gradient)?,
        learning_rate: sgd.lr as f32,
        momentum: sgd.momentum as f32,
        weight_decay: sgd.weight_decay as f32,
        count: count as u32,
    };
    // SAFETY: all three tensors have `count` values.
    unsafe { launch(param.device(), "sgd", threads(count)?, &arguments) }
}

/// See [`crate::model::readout::cross_entropy`].
pub fn cross_entropy(logits: &Tensor, labels: &[u32], time_steps: usize, classes: usize) -> Result<Loss> {
    let (device, batch) = (logits.device(), labels.len());
    if logits.elem_count() != time_steps * batch * classes || labels.iter().any(|label| *label as usize >= classes) {
        bail!("logits {:?} for {batch} labels of {classes} classes over {time_steps} time steps", logits.dims());
    }
    let logits = logits.contiguous()?;
    let mean = empty((batch, classes), DType::F32, device)?;
    let loss = Loss {
        grad_logits: empty((time_steps * batch, classes), DType::F32, device)?,
        losses: empty(batch, DType::F64, device)?,
        ranks: empty(batch, DType::U32, device)?,
    };
    let arguments = CrossEntropy {
        logits: read::<f32>(&logits)?,
        labels: 0,
        mean: write::<f32>(&mean)?,
        grad: write::<f32>(&loss.grad_logits)?,
        loss: write::<f64>(&loss.losses)?,
        rank: write::<u32>(&loss.ranks)?,
        time_steps: time_steps as u32,
        batch: batch as u32,
        classes: classes as u32,
    };
    upload(labels, device, |labels| {
        let arguments = CrossEntropy { labels, ..arguments };
        // SAFETY: there is one block per sample, and labels are below `classes`.
        unsafe { launch(device, "cross_entropy", [batch as u32, 1], &arguments) }
    })?;
    Ok(loss)
}

/// Adds `bias` to each row of `[rows, classes]`, in place.
pub fn add_bias(rows: &Tensor, bias: &Tensor) -> Result<()> {
    let (count, classes) = rows.dims2()?;
    if bias.elem_count() != classes {
        bail!("a bias {:?} for {classes} classes", bias.dims());
    }
    let arguments =
        Bias { rows: write::<f32>(rows)?, bias: read::<f32>(bias)?, count: count as u32, classes: classes as u32 };
    // SAFETY: the bias has one value per class.
    unsafe { launch(rows.device(), "add_bias", threads(count * classes)?, &arguments) }
}

/// The sum of the rows of `[rows, classes]`.
pub fn bias_gradient(rows: &Tensor) -> Result<Tensor> {
    let (count, classes) = rows.dims2()?;
    let (rows, sum) = (rows.contiguous()?, empty(classes, DType::F32, rows.device())?);
    let arguments =
        Bias { rows: read::<f32>(&rows)?, bias: write::<f32>(&sum)?, count: count as u32, classes: classes as u32 };
    // SAFETY: there is one block per class.
    unsafe { launch(rows.device(), "bias_gradient", [classes as u32, 1], &arguments)? };
    Ok(sum)
}

/// Copies a map, to measure the device's memory bandwidth.
pub fn copy(from: &Tensor, to: &Tensor) -> Result<()> {
    let count = from.elem_count();
    if to.elem_count() != count || !count.is_multiple_of(4) {
        bail!("a copy of {count} values into {}", to.elem_count());
    }
    let arguments = CopyMap { from: read::<f32>(from)?, to: write::<f32>(to)?, count: count as u32 };
    // SAFETY: both have `count` values.
    unsafe { launch(from.device(), "copy", threads(count / 4)?, &arguments) }
}
