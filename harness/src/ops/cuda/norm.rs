//! Batch norm: statistics, folding and the backward pass.

use super::arguments::{Coefficients, Fold, Moments, NormBackward, Statistics as FinishStatistics, Totals};
use super::launch::{THREADS, empty, launch, read, threads, write};
use crate::model::network::{NORM_EPSILON, Normed};
use crate::ops::activation::Activation;
use crate::ops::norm::{Grad, NormGradients, Statistics};
use crate::ops::pad8;
use candle_core::{DType, Result, Tensor, bail};

/// How rows are divided into blocks for sums per channel. The division depends on the shape
/// alone, so the sums are the same on every device.
#[derive(Clone, Copy)]
pub(super) struct Blocks {
    pub lanes: u32,
    pub rows_each: u32,
    pub grid: [u32; 2],
}

impl Blocks {
    pub(super) fn new(rows: usize, channels: usize) -> Self {
        let lanes = [32, 16, 8].into_iter().find(|lanes| channels.is_multiple_of(*lanes)).unwrap_or(8);
        // At least sixteen rows per thread, and at most 512 blocks.
        let max_blocks = rows.div_ceil(THREADS / lanes * 16).clamp(1, 512);
        let rows_each = rows.div_ceil(max_blocks).max(1);
        let grid = [rows.div_ceil(rows_each).max(1) as u32, (channels / lanes) as u32];
        Self { lanes: lanes as u32, rows_each: rows_each as u32, grid }
    }

    /// The same division for each of several groups.
    fn of_groups(self, groups: usize) -> Self {
        Self { grid: [self.grid[0], self.grid[1] * groups as u32], ..self }
    }

    /// Memory for `kinds` partial sums per channel and block.
    pub(super) fn partial(&self, kinds: usize, like: &Tensor) -> Result<Tensor> {
        let channels = (self.grid[1] * self.lanes) as usize;
        empty((kinds, channels, self.grid[0] as usize), DType::F64, like.device())
    }
}

/// Adds up `[kinds, channels, blocks]` to `[kinds, channels]`.
pub(super) fn totals(partial: &Tensor) -> Result<Tensor> {
    let (kinds, channels, count) = partial.dims3()?;
    let out = empty((kinds, channels), DType::F64, partial.device())?;
    let arguments = Totals { partial: read::<f64>(partial)?, out: write::<f64>(&out)?, count: count as u32 };
    // SAFETY: there is one block per sum.
    unsafe { launch(partial.device(), "totals", [(kinds * channels) as u32, 1], &arguments)? };
    Ok(out)
}

/// See [`crate::ops::norm::statistics`].
pub fn statistics(map: &Activation) -> Result<Statistics> {
    grouped_statistics(map, 1, 1)
}

/// `[groups, channels]`: the statistics of each of several batches that lie side by side in
/// `[T, groups·B, H, W, C]`. Those of a group are bit-identical to [`statistics`] of the group
/// alone.
pub fn grouped_statistics(map: &Activation, groups: usize, time_steps: usize) -> Result<Statistics> {
    let (x, channels) = (&map.tensor, pad8(map.channels));
    if groups == 0 || time_steps == 0 || !map.images().is_multiple_of(groups * time_steps) {
        bail!("{} images are not {groups} batches over {time_steps} time steps", map.images());
    }
    let rows = x.elem_count() / channels / groups;
    let blocks = Blocks::new(rows, channels).of_groups(groups);
    let partial = blocks.partial(2, x)?;
    let arguments = Moments {
        map: read::<f32>(x)?,
        partial: write::<f64>(&partial)?,
        rows: rows as u32,
        channels: channels as u32,
        lanes: blocks.lanes,
        rows_each: blocks.rows_each,
        groups: groups as u32,
        slab: (rows / time_steps) as u32,
    };
    // SAFETY: the grid covers the rows and channels of each group, and `partial` has a place
    // for each block.
    unsafe { launch(x.device(), "moments", blocks.grid, &arguments)? };
    let sums = totals(&partial)?;
    let result = Statistics {
        mean: empty(groups * channels, DType::F64, x.device())?,
        variance: empty(groups * channels, DType::F64, x.device())?,
    };
    let arguments = FinishStatistics {
        sums: read::<f64>(&sums)?,
        mean: write::<f64>(&result.mean)?,
        variance: write::<f64>(&result.variance)?,
        rows: rows.max(1) as f64,
        channels: (groups * channels) as u32,
    };
    // SAFETY: each tensor has one value per channel and group, `sums` has two.
    unsafe { launch(x.device(), "statistics", threads(groups * channels)?, &arguments)? };
    Ok(result)
}

/// See [`crate::ops::norm::fold`].
pub fn fold(conv_out: Activation, statistics: &Statistics, gamma: &Tensor, beta: &Tensor, gain: f64) -> Result<Normed> {
    let (channels, padded) = (conv_out.channels, pad8(conv_out.channels));
    let device = conv_out.tensor.device().clone();
    let all = statistics.mean.elem_count();
    let (scale, shift) = (empty(all, DType::F32, &device)?, empty(all, DType::F32, &device)?);
    let inverse_std = empty(all, DType::F64, &device)?;
    let arguments = Fold {
        mean: read::<f64>(&statistics.mean)?,
        variance: read::<f64>(&statistics.variance)?,
        gamma: read::<f32>(gamma)?,
        beta: read::<f32>(beta)?,
        scale: write::<f32>(&scale)?,
        shift: write::<f32>(&shift)?,
        inverse_std: write::<f64>(&inverse_std)?,
        gain,
        epsilon: NORM_EPSILON,
        channels: channels as u32,
        padded: padded as u32,
        groups: (all / padded) as u32,
    };
    // SAFETY: each tensor has one value per channel, and per group if there are several.
    unsafe { launch(&device, "fold", threads(all)?, &arguments)? };
    Ok(Normed { conv_out, scale, shift, mean: statistics.mean.clone(), inverse_std })
}

/// See [`crate::ops::norm::backward`].
pub fn backward(
    normed: &Normed,
    current: Grad<'_>,
    sum: &Tensor,
    sum_map: &Tensor,
    gamma: &Tensor,
    gain: f64,
) -> Result<NormGradients> {
    let map = &normed.conv_out;
    let (channels, padded, device) = (map.channels, pad8(map.channels), map.tensor.device().clone());
    let vector = |n: usize| empty(n, DType::F32, &device);
    let (grad_gamma, grad_beta) = (vector(channels)?, vector(channels)?);
    let (k1, k2, k3) = (vector(padded)?, vector(padded)?, vector(padded)?);
    let arguments = Coefficients {
        sum: read::<f64>(sum)?,
        sum_map: read::<f64>(sum_map)?,
        mean: read::<f64>(&normed.mean)?,
        inverse_std: read::<f64>(&normed.inverse_std)?,
        gamma: read::<f32>(gamma)?,
        grad_gamma: write::<f32>(&grad_gamma)?,
        grad_beta: write::<f32>(&grad_beta)?,
        k1: write::<f32>(&k1)?,
        k2: write::<f32>(&k2)?,
        k3: write::<f32>(&k3)?,
        gain,
        rows: (map.images() * map.height() * map.width()) as f64,
        channels: channels as u32,
        padded: padded as u32,
    };
    // SAFETY: each tensor has one value per channel.
    unsafe { launch(&device, "norm_coefficients", threads(padded)?, &arguments)? };
    let (grad, conv_out) = match current {
        Grad::Owned(current) => (current.tensor.clone(), current),
        Grad::Borrowed(current) => {
            let out = empty(map.tensor.dims(), DType::F32, &device)?;
            (current.tensor.clone(), Activation { tensor: out, ..*current })
        }
    };
    let count = map.tensor.elem_count();
    let arguments = NormBackward {
        k1: read::<f32>(&k1)?,
        k2: read::<f32>(&k2)?,
        k3: read::<f32>(&k3)?,
        map: read::<f32>(&map.tensor)?,
        grad: read::<f32>(&grad)?,
        out: write::<f32>(&conv_out.tensor)?,
        count: count as u32,
        channels: padded as u32,
    };
    // SAFETY: gradient, map and output have the same shape, whose rows are whole and a multiple
    // of 8 channels.
    unsafe { launch(&device, "norm_backward", threads(count / 4)?, &arguments)? };
    Ok(NormGradients { gamma: grad_gamma, beta: grad_beta, conv_out })
}
