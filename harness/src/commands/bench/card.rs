//! A card's memory, and how near to it our own kernels come.

use super::median;
use crate::model::network::{Normed, Shortcut};
use crate::model::running::Running;
use crate::ops::activation::Activation;
use crate::ops::norm::{Grad, Statistics};
use crate::ops::optimizer::Sgd;
use crate::ops::{cuda, neuron, norm, pad8};
use crate::rng::{Purpose, Stream};
use anyhow::Result;
use candle_core::{DType, Device, Tensor};
use methods::lif::{Lif, Reset};
use methods::surrogate::{Dspike, Surrogate};
use serde_json::{Value, json};
use std::time::Instant;

/// Launches between two looks at the clock, and looks.
const LAUNCHES: usize = 20;
const LOOKS: usize = 5;
/// Values of a copied map: four times the cache of a large card.
const COPIED: usize = 64 << 20;

/// Seconds of one call of `f`, the median of some; the device is waited for once a look.
fn seconds(device: &Device, mut f: impl FnMut() -> candle_core::Result<()>) -> Result<f64> {
    f()?;
    device.synchronize()?;
    let mut times = Vec::new();
    for _ in 0..LOOKS {
        let start = Instant::now();
        (0..LAUNCHES).try_for_each(|_| f())?;
        device.synchronize()?;
        times.push(start.elapsed().as_secs_f64() / LAUNCHES as f64);
    }
    Ok(median(&mut times))
}

/// Bytes a second that our copy kernel reads and writes; `None` on the CPU.
pub fn copy_bandwidth(device: &Device) -> Result<Option<f64>> {
    if !device.is_cuda() {
        return Ok(None);
    }
    let from = Tensor::zeros(COPIED, DType::F32, device)?;
    let to = from.zeros_like()?;
    let seconds = seconds(device, || cuda::train::copy(&from, &to))?;
    Ok(Some((2 * 4 * COPIED) as f64 / seconds))
}

/// Each elementwise kernel on the largest maps of a step, `[T·B, height, width, channels]`: bytes that it must move, and its rate.
pub fn elementwise(device: &Device, [time_steps, batch, height, width, channels]: [usize; 5]) -> Result<Vec<Value>> {
    let lif = Lif { tau: 0.25, v_th: 0.5, reset: Reset::Hard, detach_reset: false };
    let surrogate = Surrogate::Dspike(Dspike { temperature: 3.0 });
    let mut stream = Stream::new(0, Purpose::Synthetic, (1, 0));
    // One image's values at every place: what a kernel moves does not depend on them.
    let image: Vec<f32> = (0..height * width * channels).map(|_| stream.normal() as f32).collect();
    let map = Activation::from_images(&image, [1, height, width, channels], device)?;
    let tensor = map.tensor.repeat((time_steps * batch, 1, 1, 1))?;
    let map = Activation { tensor, channels };
    let vector = |value: f32| Tensor::from_vec(vec![value; channels], channels, device);
    let (gamma, beta) = (vector(1.0)?, vector(0.1)?);
    let running = Running { mean: vec![0.0; channels], variance: vec![1.0; channels] };
    let normed = norm::fold(map.clone(), &Statistics::from_running(&running, device)?, &gamma, &beta, 0.5)?;
    let grad = Activation { tensor: map.tensor.copy()?, channels };
    let sums = neuron::lif_backward(&lif, time_steps, batch, &normed, &Shortcut::None, copy_of(&grad)?, &surrogate)?.1;
    let values = (time_steps * batch * height * width * pad8(channels)) as f64;
    let weights = 4_000_000;
    let parameter = || Tensor::zeros(weights, DType::F32, device);
    let (param, velocity, gradient) = ([parameter()?], [parameter()?], [parameter()?]);
    let sgd = Sgd { lr: 0.1, momentum: 0.9, weight_decay: 1e-4 };
    let mut list = Vec::new();
    let mut kernel = |name: &str, bytes: f64, f: &mut dyn FnMut() -> candle_core::Result<()>| -> Result<()> {
        let seconds = seconds(device, f)?;
        list.push(json!({ "name": name, "bytes": bytes, "seconds": seconds, "bytes_per_second": bytes / seconds }));
        Ok(())
    };
    kernel("norm statistics", 4.0 * values, &mut || norm::statistics(&map).map(drop))?;
    kernel("neurons", 4.125 * values, &mut || {
        neuron::lif(&lif, time_steps, batch, &normed, &Shortcut::None).map(drop)
    })?;
    // In place: the gradient of the last call is the next one's.
    kernel("neurons backward", 12.0 * values, &mut || {
        neuron::lif_backward(&lif, time_steps, batch, &normed, &Shortcut::None, grad.clone(), &surrogate).map(drop)
    })?;
    kernel("norm backward", 12.0 * values, &mut || backward(&normed, &grad, &sums, &gamma))?;
    kernel("optimiser", (5 * 4 * weights) as f64, &mut || sgd.step(&param, &velocity, &gradient))?;
    Ok(list)
}

fn copy_of(x: &Activation) -> candle_core::Result<Activation> {
    Ok(Activation { tensor: x.tensor.copy()?, ..*x })
}

fn backward(normed: &Normed, grad: &Activation, sums: &neuron::ChannelSums, gamma: &Tensor) -> candle_core::Result<()> {
    norm::backward(normed, Grad::Owned(grad.clone()), &sums.grad, &sums.grad_main, gamma, 0.5).map(drop)
}
