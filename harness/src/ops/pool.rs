//! Average pools of activations, and spike counts, dispatched by device.

use super::activation::{Activation, host, with_input};
use super::{cpu, cuda, pad8};
use crate::model::layout::Pool;
use candle_core::{Device, Result, Tensor, bail};

fn shape(x: &Activation, pool: Pool) -> cpu::pool::PoolShape {
    cpu::pool::PoolShape {
        images: x.images(),
        height: x.height(),
        width: x.width(),
        channels: x.channels,
        kernel: pool.kernel,
        stride: pool.stride,
        padding: pool.padding,
        ceil_mode: pool.ceil_mode,
    }
}

/// Average pooling of spikes or of a map, to a map.
pub fn average(x: &Activation, pool: Pool) -> Result<Activation> {
    let s = shape(x, pool);
    if s.out_len() == 0 {
        bail!("a map of {}×{} is smaller than the network's pooling window: take larger images", s.height, s.width)
    }
    if cuda::runs_on_cuda(&x.tensor) {
        return cuda::pool::average(x, &s);
    }
    let dims = (s.images, s.out_height(), s.out_width(), pad8(x.channels));
    let out = with_input(x, |input| cpu::pool::forward(&s, input))?;
    Ok(Activation { tensor: Tensor::from_vec(out, dims, &Device::Cpu)?, channels: x.channels })
}

/// The gradient of the pool's input `x`.
pub fn average_backward(x: &Activation, pool: Pool, grad: &Activation) -> Result<Activation> {
    let s = shape(x, pool);
    if cuda::runs_on_cuda(&x.tensor) {
        return cuda::pool::average_backward(x, &s, grad);
    }
    let dims = (s.images, s.height, s.width, pad8(x.channels));
    let out = cpu::pool::backward(&s, &host::<f32>(&grad.tensor)?);
    Ok(Activation { tensor: Tensor::from_vec(out, dims, &Device::Cpu)?, channels: x.channels })
}

/// The average over each image: `[images, H, W, C]` to `[images, C]` without padding.
pub fn global_average(x: &Activation) -> Result<Tensor> {
    let (images, positions, padded) = (x.images(), x.height() * x.width(), pad8(x.channels));
    if cuda::runs_on_cuda(&x.tensor) {
        return cuda::pool::global_average(x)?.narrow(1, 0, x.channels)?.contiguous();
    }
    let mut out = vec![0f32; images * padded];
    with_input(x, |input| cpu::pool::global_forward(images, positions, x.channels, input, &mut out))?;
    Tensor::from_vec(out, (images, padded), &Device::Cpu)?.narrow(1, 0, x.channels)?.contiguous()
}

/// The gradient of the map, given the gradient of its global average `[images, C]`.
pub fn global_average_backward(x: &Activation, grad: &Tensor) -> Result<Activation> {
    let padded = pad8(x.channels);
    let grad = grad.pad_with_zeros(1, 0, padded - x.channels)?.contiguous()?;
    if cuda::runs_on_cuda(&x.tensor) {
        return cuda::pool::global_average_backward(x, &grad);
    }
    let dims = (x.images(), x.height(), x.width(), padded);
    let mut out = vec![0f32; dims.0 * dims.1 * dims.2 * padded];
    cpu::pool::global_backward(dims.0, dims.1 * dims.2, x.channels, &host::<f32>(&grad)?, &mut out);
    Ok(Activation { tensor: Tensor::from_vec(out, dims, &Device::Cpu)?, channels: x.channels })
}

/// The number of spikes in an activation, `[1]`, I64, on its device.
pub fn spike_count(x: &Activation) -> Result<Tensor> {
    if cuda::runs_on_cuda(&x.tensor) {
        return cuda::pool::count_spikes(x);
    }
    Tensor::from_vec(vec![cpu::pool::count_spikes(&host::<u8>(&x.tensor)?) as i64], 1, &Device::Cpu)
}
