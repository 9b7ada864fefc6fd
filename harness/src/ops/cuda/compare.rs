//! Compares every kernel with the CPU's on random inputs: on a device by
//! `harness selftest --device cuda`, in tests on the host.

mod groups;

use crate::model::layout::{ConvNorm, Pool};
use crate::model::network::{Normed, Shortcut};
use crate::model::readout;
use crate::model::running::Running;
use crate::ops::activation::Activation;
use crate::ops::norm::{Grad, Statistics};
use crate::ops::optimizer::Sgd;
use crate::ops::{conv, neuron, norm, pad8, pool};
use crate::rng::{Purpose, Stream};
use candle_core::{DType, Device, Result, Tensor};
use methods::lif::{Lif, Reset};
use methods::surrogate::{Arctan, Dspike, Rectangle, Sigmoid, Surrogate, Triangle};
use std::time::{Duration, Instant};

/// The comparison of one operation on both devices.
#[derive(Clone, Debug)]
pub struct Comparison {
    /// The operation and its shape.
    pub name: String,
    /// The relative error of the norm, the largest of all outputs.
    pub error: f64,
    /// The largest error that passes; 0 requires bit-identical results.
    pub tolerance: f64,
    /// The time on the CPU.
    pub cpu: Duration,
    /// The time on the device, up to the end of its work.
    pub device: Duration,
}

impl Comparison {
    /// Whether the error is within the tolerance. NaN does not pass.
    pub fn passed(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// The size of the maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// Edge shapes, which take about a second on the host.
    Small,
    /// Layers of the network at width 64, for meaningful times.
    Layers,
}

/// Compares all operations.
pub fn all(device: &Device, size: Size) -> Result<Vec<Comparison>> {
    let mut compare =
        Compare { device: device.clone(), list: Vec::new(), stream: Stream::new(7, Purpose::Synthetic, (0, 0)) };
    compare.norms(size)?;
    compare.neurons(size)?;
    compare.relu(size)?;
    compare.pools(size)?;
    compare.convolutions(size)?;
    compare.training()?;
    compare.groups()?;
    Ok(compare.list)
}

/// The surrogates with parameters that suites use.
pub const SURROGATES: [Surrogate; 7] = [
    Surrogate::Dspike(Dspike { temperature: 3.0 }),
    Surrogate::Dspike(Dspike { temperature: 0.2 }),
    Surrogate::Dspike(Dspike { temperature: 20.0 }),
    Surrogate::Rectangle(Rectangle { width: 1.0 }),
    Surrogate::Sigmoid(Sigmoid { alpha: 4.0 }),
    Surrogate::Triangle(Triangle { gamma: 1.0 }),
    Surrogate::Arctan(Arctan { alpha: 2.0 }),
];

struct Compare {
    device: Device,
    list: Vec<Comparison>,
    stream: Stream,
}

/// Runs `f` with the kernels of this folder.
pub(super) fn with_cuda_kernels<R>(device: &Device, f: impl FnOnce() -> R) -> R {
    #[cfg(test)]
    if device.is_cpu() {
        return super::launch::on_host(f);
    }
    let _ = device;
    f()
}

/// ‖a − b‖ / ‖b‖, or ‖a − b‖ if b is 0; NaN if either contains one.
fn error(a: &Tensor, b: &Tensor) -> Result<f64> {
    let values = |x: &Tensor| x.to_device(&Device::Cpu)?.to_dtype(DType::F64)?.flatten_all()?.to_vec1::<f64>();
    let (a, b) = (values(a)?, values(b)?);
    if a.len() != b.len() {
        return Ok(f64::INFINITY);
    }
    let difference: f64 = a.iter().zip(&b).map(|(a, b)| (a - b) * (a - b)).sum();
    let norm: f64 = b.iter().map(|b| b * b).sum();
    Ok(if norm > 0.0 { (difference / norm).sqrt() } else { difference.sqrt() })
}

/// Spikes as floats, on the CPU.
fn unpacked(x: &Activation) -> Result<Tensor> {
    if !x.is_spikes() {
        return Ok(x.tensor.clone());
    }
    let (images, height, width, bytes) = x.tensor.dims4()?;
    let bits = x.tensor.flatten_all()?.to_vec1::<u8>()?;
    let floats: Vec<f32> = bits.iter().flat_map(|byte| (0..8).map(move |k| f32::from(byte >> k & 1))).collect();
    Tensor::from_vec(floats, (images, height, width, 8 * bytes), x.tensor.device())
}

impl Compare {
    /// Compares the outputs of `f(device)` on both devices. On a CUDA device `f` runs twice,
    /// and the second run is timed.
    fn case(&mut self, name: String, tolerance: f64, f: impl Fn(&Device) -> Result<Vec<Tensor>>) -> Result<()> {
        let start = Instant::now();
        let expected = f(&Device::Cpu)?;
        let cpu = start.elapsed();
        let device = self.device.clone();
        if device.is_cuda() {
            with_cuda_kernels(&device, || f(&device))?;
            device.synchronize()?;
        }
        let start = Instant::now();
        let got = with_cuda_kernels(&device, || f(&device))?;
        device.synchronize()?;
        let elapsed = start.elapsed();
        let mut worst = if got.len() == expected.len() { 0.0 } else { f64::INFINITY };
        for (got, expected) in got.iter().zip(&expected) {
            let error = error(got, expected)?;
            worst = if error > worst || error.is_nan() { error } else { worst };
        }
        self.list.push(Comparison { name, error: worst, tolerance, cpu, device: elapsed });
        Ok(())
    }

    fn map(&mut self, [images, height, width, channels]: [usize; 4]) -> Result<Activation> {
        let values: Vec<f32> = (0..images * height * width * channels).map(|_| self.stream.normal() as f32).collect();
        Activation::from_images(&values, [images, height, width, channels], &Device::Cpu)
    }

    fn spikes(&mut self, [images, height, width, channels]: [usize; 4]) -> Result<Activation> {
        let bytes = pad8(channels) / 8;
        let byte = |stream: &mut Stream, j: usize| {
            let bits = channels.saturating_sub(8 * j).min(8);
            (0..bits).fold(0u8, |byte, k| byte | u8::from(stream.uniform() < 0.3) << k)
        };
        let all: Vec<u8> = (0..images * height * width * bytes).map(|i| byte(&mut self.stream, i % bytes)).collect();
        Ok(Activation { tensor: Tensor::from_vec(all, (images, height, width, bytes), &Device::Cpu)?, channels })
    }

    fn vector(&mut self, n: usize, mean: f64, spread: f64) -> Result<Tensor> {
        let values: Vec<f32> = (0..n).map(|_| (mean + spread * self.stream.normal()) as f32).collect();
        Tensor::from_vec(values, n, &Device::Cpu)
    }

    /// A map with a norm, folded on the CPU.
    fn normed(&mut self, dims: [usize; 4]) -> Result<Normed> {
        let channels = dims[3];
        let running = Running {
            mean: (0..channels).map(|_| 0.1 * self.stream.normal() as f32).collect(),
            variance: (0..channels).map(|_| 0.5 + self.stream.uniform() as f32).collect(),
        };
        let statistics = Statistics::from_running(&running, &Device::Cpu)?;
        let (gamma, beta) = (self.vector(channels, 1.0, 0.2)?, self.vector(channels, 0.3, 0.3)?);
        norm::fold(self.map(dims)?, &statistics, &gamma, &beta, 0.5)
    }

    /// The four kinds of shortcuts, by name.
    fn shortcuts(&mut self, dims: [usize; 4]) -> Result<Vec<(&'static str, Shortcut)>> {
        Ok(vec![
            ("alone", Shortcut::None),
            ("plus spikes", Shortcut::Identity(self.spikes(dims)?)),
            ("plus a map", Shortcut::Identity(self.map(dims)?)),
            ("plus a branch", Shortcut::Branch(self.normed(dims)?)),
        ])
    }

    fn norms(&mut self, size: Size) -> Result<()> {
        let shapes: &[[usize; 4]] = match size {
            Size::Small => &[[1, 1, 1, 3], [5, 7, 3, 13], [2, 33, 9, 16], [3, 5, 8, 64], [40, 16, 16, 8]],
            Size::Layers => &[[128, 32, 32, 64], [128, 4, 4, 512]],
        };
        for &dims in shapes {
            let (x, grad) = (self.map(dims)?, self.map(dims)?);
            let x = Activation { tensor: x.tensor.affine(2.0, 3.0)?, ..x };
            // The shift changed the padding to 3. The statistics of those channels do not
            // matter, and the maps are used as they are.
            let (gamma, beta) = (self.vector(dims[3], 1.0, 0.2)?, self.vector(dims[3], 0.0, 0.2)?);
            self.case(format!("norm: statistics and fold {dims:?}"), 1e-6, |device| {
                let x = x.to_device(device)?;
                let statistics = norm::statistics(&x)?;
                let normed = norm::fold(x, &statistics, &gamma.to_device(device)?, &beta.to_device(device)?, 0.5)?;
                Ok(vec![statistics.mean, statistics.variance, normed.scale, normed.shift, normed.inverse_std])
            })?;
            let statistics = norm::statistics(&x)?;
            let normed = norm::fold(x, &statistics, &gamma, &beta, 0.5)?;
            let padded = pad8(dims[3]);
            let sums: Vec<Tensor> =
                (0..2).map(|_| self.vector(padded, 5.0, 3.0)?.to_dtype(DType::F64)).collect::<Result<_>>()?;
            for in_place in [true, false] {
                self.case(
                    format!("norm: backward {dims:?}, {}", if in_place { "in place" } else { "kept" }),
                    1e-6,
                    |device| {
                        let (normed, grad) = (normed.to_device(device)?, grad.to_device(device)?);
                        let grad = Activation { tensor: grad.tensor.copy()?, ..grad };
                        let current = if in_place { Grad::Owned(grad.clone()) } else { Grad::Borrowed(&grad) };
                        let (sum, sum_map) = (sums[0].to_device(device)?, sums[1].to_device(device)?);
                        let result = norm::backward(&normed, current, &sum, &sum_map, &gamma.to_device(device)?, 0.5)?;
                        Ok(vec![result.gamma, result.beta, result.conv_out.tensor])
                    },
                )?;
            }
        }
        Ok(())
    }

    fn neurons(&mut self, size: Size) -> Result<()> {
        // T, B, height, width, channels.
        let shapes: &[[usize; 5]] = match size {
            Size::Small => &[
                [1, 1, 1, 1, 3],
                [4, 2, 5, 7, 13],
                [6, 3, 4, 4, 24],
                [10, 1, 3, 5, 40],
                [32, 1, 2, 3, 8],
                [2, 5, 40, 7, 32],
            ],
            Size::Layers => &[[4, 32, 32, 32, 64], [6, 32, 8, 8, 256]],
        };
        let mut case_number = 0;
        for &[time_steps, batch, height, width, channels] in shapes {
            let dims = [time_steps * batch, height, width, channels];
            for (reset, detach_reset) in
                [(Reset::Hard, false), (Reset::Soft, true), (Reset::Soft, false), (Reset::Hard, true)]
            {
                let lif = Lif { tau: 0.25, v_th: 0.5, reset, detach_reset };
                for (kind, shortcut) in self.shortcuts(dims)? {
                    case_number += 1;
                    let rows = if case_number % 2 == 0 { batch } else { time_steps * batch };
                    let main = self.normed([rows, height, width, channels])?;
                    let grad = self.map(dims)?;
                    let name = format!(
                        "T {time_steps}, B {batch}, {height}x{width}x{channels}, {rows} rows {kind}, {reset:?}"
                    );
                    self.case(format!("lif: spikes, {name}"), 0.0, |device| {
                        let (main, shortcut) = (main.to_device(device)?, shortcut.to_device(device)?);
                        Ok(vec![neuron::lif(&lif, time_steps, batch, &main, &shortcut)?.tensor])
                    })?;
                    // On few neurons all surrogates are compared, on many neurons one surrogate
                    // per case in turn.
                    let few = dims.iter().product::<usize>() < 4096;
                    let some = if few { 0..SURROGATES.len() } else { case_number % 7..case_number % 7 + 1 };
                    for surrogate in &SURROGATES[some] {
                        let name = format!("lif: backward, {surrogate:?}, {name}, detached {detach_reset}");
                        let backward = |device: &Device| {
                            let (main, shortcut) = (main.to_device(device)?, shortcut.to_device(device)?);
                            let grad = grad.to_device(device)?;
                            let grad = Activation { tensor: grad.tensor.copy()?, ..grad };
                            neuron::lif_backward(&lif, time_steps, batch, &main, &shortcut, grad, surrogate)
                        };
                        self.case(format!("{name}: gradient"), 0.0, |device| Ok(vec![backward(device)?.0.tensor]))?;
                        self.case(format!("{name}: sums"), 1e-5, |device| {
                            let sums = backward(device)?.1;
                            Ok(vec![sums.grad, sums.grad_main, sums.grad_shortcut])
                        })?;
                    }
                }
            }
        }
        Ok(())
    }

    fn relu(&mut self, size: Size) -> Result<()> {
        let shapes: &[[usize; 4]] = match size {
            Size::Small => &[[1, 1, 1, 3], [3, 5, 7, 24]],
            Size::Layers => &[[32, 32, 32, 64]],
        };
        for &dims in shapes {
            for (kind, shortcut) in self.shortcuts(dims)? {
                let (main, grad) = (self.normed(dims)?, self.map(dims)?);
                self.case(format!("relu: {dims:?} {kind}"), 0.0, |device| {
                    Ok(vec![neuron::relu(&main.to_device(device)?, &shortcut.to_device(device)?)?.tensor])
                })?;
                self.case(format!("relu: backward {dims:?} {kind}"), 1e-6, |device| {
                    let (main, shortcut) = (main.to_device(device)?, shortcut.to_device(device)?);
                    let (grad, sums) = neuron::relu_backward(&main, &shortcut, &grad.to_device(device)?)?;
                    Ok(vec![grad.tensor, sums.grad, sums.grad_main, sums.grad_shortcut])
                })?;
            }
        }
        Ok(())
    }

    fn pools(&mut self, size: Size) -> Result<()> {
        let shapes: &[([usize; 4], Pool)] = match size {
            Size::Small => &[
                ([2, 6, 4, 13], Pool { kernel: 2, stride: 2, padding: 0, ceil_mode: false }),
                ([3, 5, 7, 8], Pool { kernel: 2, stride: 2, padding: 0, ceil_mode: true }),
                ([1, 8, 9, 3], Pool { kernel: 3, stride: 2, padding: 1, ceil_mode: false }),
                ([1, 1, 1, 8], Pool { kernel: 1, stride: 1, padding: 0, ceil_mode: false }),
            ],
            Size::Layers => &[([128, 32, 32, 64], Pool { kernel: 2, stride: 2, padding: 0, ceil_mode: false })],
        };
        for &(dims, p) in shapes {
            for x in [self.spikes(dims)?, self.map(dims)?] {
                let kind = if x.is_spikes() { "spikes" } else { "a map" };
                let averages = pool::average(&x, p)?;
                let out = averages.tensor.dims4()?;
                let grad = self.map([out.0, out.1, out.2, dims[3]])?;
                self.case(format!("pool: {dims:?} of {kind}, {p:?}"), 0.0, |device| {
                    let x = x.to_device(device)?;
                    let back = pool::average_backward(&x, p, &grad.to_device(device)?)?;
                    Ok(vec![pool::average(&x, p)?.tensor, back.tensor])
                })?;
                let grad = self.vector(dims[0] * dims[3], 0.0, 1.0)?.reshape((dims[0], dims[3]))?;
                self.case(format!("pool: global {dims:?} of {kind}"), 0.0, |device| {
                    let x = x.to_device(device)?;
                    let back = pool::global_average_backward(&x, &grad.to_device(device)?)?;
                    let mut outputs = vec![pool::global_average(&x)?, back.tensor];
                    if x.is_spikes() {
                        outputs.push(pool::spike_count(&x)?);
                    }
                    Ok(outputs)
                })?;
            }
        }
        Ok(())
    }

    fn convolutions(&mut self, size: Size) -> Result<()> {
        // Images, height, width, channels in and out, kernel, stride.
        let shapes: &[[usize; 7]] = match size {
            Size::Small => &[
                [2, 5, 7, 3, 5, 3, 1],
                [3, 8, 6, 8, 16, 3, 2],
                [1, 9, 9, 13, 9, 1, 2],
                [2, 4, 4, 16, 8, 1, 1],
                [1, 11, 8, 3, 8, 7, 2],
            ],
            Size::Layers => &[[128, 32, 32, 64, 64, 3, 1], [128, 32, 32, 64, 128, 3, 2], [128, 4, 4, 512, 512, 3, 1]],
        };
        for &[images, height, width, c_in, c_out, kernel, stride] in shapes {
            let c = ConvNorm { weight: 0, running: 0, c_in, c_out, kernel, stride, gain: 1.0 };
            let weight =
                self.vector(c_out * c_in * kernel * kernel, 0.0, 0.1)?.reshape((c_out, c_in, kernel, kernel))?;
            let dims = [images, height, width, c_in];
            for x in [self.spikes(dims)?, self.map(dims)?] {
                let kind = if x.is_spikes() { "spikes" } else { "a map" };
                let out = conv::forward(&c, &x, &weight, None)?.tensor.dims4()?;
                let (grad, shortcut) = (self.map([out.0, out.1, out.2, c_out])?, self.map(dims)?);
                let name =
                    format!("{images}x{height}x{width}x{c_in} {kind} to {c_out}, {kernel}x{kernel} stride {stride}");
                self.case(format!("expand: {name}"), 0.0, |device| {
                    let x = x.to_device(device)?;
                    Ok(vec![if super::runs_on_cuda(&x.tensor) { super::conv::expand(&x)? } else { unpacked(&x)? }])
                })?;
                self.case(format!("conv: {name}"), 1e-5, |device| {
                    Ok(vec![conv::forward(&c, &x.to_device(device)?, &weight.to_device(device)?, None)?.tensor])
                })?;
                self.case(format!("conv: weight's gradient, {name}"), 1e-5, |device| {
                    Ok(vec![conv::grad_weight(&c, &x.to_device(device)?, &grad.to_device(device)?)?])
                })?;
                self.case(format!("conv: input's gradient, {name}"), 1e-4, |device| {
                    let (x, weight) = (x.to_device(device)?, weight.to_device(device)?);
                    let grad = grad.to_device(device)?;
                    let to = Activation { tensor: shortcut.tensor.to_device(device)?.copy()?, ..shortcut };
                    let new = conv::grad_input(&c, &x, &weight, &grad, None)?.tensor;
                    Ok(vec![new, conv::grad_input(&c, &x, &weight, &grad, Some(to))?.tensor])
                })?;
            }
        }
        Ok(())
    }

    fn training(&mut self) -> Result<()> {
        for n in [1, 1000, 65_537] {
            let (w, v, g) = (self.vector(n, 0.0, 1.0)?, self.vector(n, 0.0, 1.0)?, self.vector(n, 0.0, 1.0)?);
            let sgd = Sgd { lr: 0.1, momentum: 0.9, weight_decay: 1e-4 };
            self.case(format!("sgd: {n} values"), 0.0, |device| {
                let (w, v) = ([w.to_device(device)?.copy()?], [v.to_device(device)?.copy()?]);
                sgd.step(&w, &v, &[g.to_device(device)?])?;
                Ok(w.into_iter().chain(v).collect())
            })?;
        }
        for [time_steps, batch, classes] in [[1, 1, 2], [4, 7, 10], [6, 3, 1000]] {
            let logits = self.vector(time_steps * batch * classes, 0.0, 3.0)?.reshape((time_steps * batch, classes))?;
            let labels: Vec<u32> = (0..batch).map(|_| self.stream.below(classes) as u32).collect();
            self.case(format!("loss: T {time_steps}, B {batch}, {classes} classes"), 1e-6, |device| {
                let loss = readout::cross_entropy(&logits.to_device(device)?, &labels, time_steps, classes)?;
                Ok(vec![loss.grad_logits, loss.losses, loss.ranks])
            })?;
        }
        Ok(())
    }
}
