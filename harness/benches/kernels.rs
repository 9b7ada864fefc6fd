//! The CPU kernels on the layers of a spiking ResNet-18 of width 64, 16 and 8: 64 images (T·B), 22 % of the bits set; and
//! its whole training step.
//! `RAYON_NUM_THREADS=1 cargo bench -p harness --bench kernels -- w16L1` measures one layer on one thread, `-- step` the step.

use candle_core::{Device, Result, Tensor};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use harness::model::config::{Architecture, NetworkConfig, Norm};
use harness::model::network::{Network, Neuron, Pass, Statistics};
use harness::model::readout;
use harness::ops::activation::Activation;
use harness::ops::cpu::{conv, lif, norm, pool, sgd};
use harness::ops::optimizer::Sgd;
use harness::ops::{ConvShape, Input, Reset, pad8};
use harness::rng::{Purpose, Stream};
use methods::lif::Lif;
use methods::surrogate::{Dspike, Surrogate};
use std::hint::black_box;
use std::time::Duration;

const IMAGES: usize = 64;
const DENSITY: f64 = 0.22;

/// (name, side, input channels, output channels, kernel, stride).
const LAYERS: [(&str, usize, usize, usize, usize, usize); 21] = [
    ("stem", 32, 3, 64, 3, 1),
    ("L1", 32, 64, 64, 3, 1),
    ("L2", 16, 128, 128, 3, 1),
    ("L3", 8, 256, 256, 3, 1),
    ("L4", 4, 512, 512, 3, 1),
    ("T2", 32, 64, 128, 3, 2),
    ("T3", 16, 128, 256, 3, 2),
    ("T4", 8, 256, 512, 3, 2),
    ("S2", 32, 64, 128, 1, 2),
    ("w16L1", 32, 16, 16, 3, 1),
    ("w16L2", 16, 32, 32, 3, 1),
    ("w16L3", 8, 64, 64, 3, 1),
    ("w16L4", 4, 128, 128, 3, 1),
    ("w16T2", 32, 16, 32, 3, 2),
    ("w16T3", 16, 32, 64, 3, 2),
    ("w16T4", 8, 64, 128, 3, 2),
    ("w8stem", 32, 3, 8, 3, 1),
    ("w8L1", 32, 8, 8, 3, 1),
    ("w8L2", 16, 16, 16, 3, 1),
    ("w8L3", 8, 32, 32, 3, 1),
    ("w8T2", 32, 8, 16, 3, 2),
];

fn floats(seed: u64, n: usize) -> Vec<f32> {
    let mut stream = Stream::new(seed, Purpose::Synthetic, (0, 0));
    (0..n).map(|_| stream.uniform() as f32 - 0.5).collect()
}

fn map(seed: u64, rows: usize, channels: usize) -> Vec<f32> {
    let mut map = floats(seed, rows * pad8(channels));
    map.chunks_exact_mut(pad8(channels)).for_each(|row| row[channels..].fill(0.0));
    map
}

fn spikes(seed: u64, n: usize) -> Vec<u8> {
    let mut stream = Stream::new(seed, Purpose::Synthetic, (0, 0));
    (0..n / 8).map(|_| (0..8).fold(0, |b, k| b | (u8::from(stream.uniform() < DENSITY) << k))).collect()
}

fn convolutions(c: &mut Criterion) {
    let mut group = c.benchmark_group("conv");
    for (name, side, c_in, c_out, kernel, stride) in LAYERS {
        let padding = kernel / 2;
        let s = ConvShape { images: IMAGES, height: side, width: side, c_in, c_out, kernel, stride, padding };
        let (weight, bits) = (floats(1, s.weight_len()), spikes(2, s.in_len()));
        let dense = map(3, IMAGES * side * side, c_in);
        let grad = map(4, IMAGES * s.out_height() * s.out_width(), c_out);
        let (mut out, mut dw, mut dx) = (vec![0.0; s.out_len()], vec![0.0; s.weight_len()], vec![0.0; s.in_len()]);
        let inputs = [("spikes", Input::Spikes(&bits)), ("map", Input::Map(&dense))];
        for (kind, x) in inputs.into_iter().skip(usize::from(c_in == 3)) {
            group.bench_function(BenchmarkId::new(format!("forward-{kind}"), name), |b| {
                b.iter(|| conv::forward(&s, x, &weight, black_box(&mut out)))
            });
            group.bench_function(BenchmarkId::new(format!("grad_weight-{kind}"), name), |b| {
                b.iter(|| conv::grad_weight(&s, x, &grad, black_box(&mut dw)))
            });
        }
        group.bench_function(BenchmarkId::new("grad_input", name), |b| {
            b.iter(|| conv::grad_input(&s, &weight, &grad, black_box(&mut dx), false))
        });
    }
    group.finish();
}

fn neurons(c: &mut Criterion) {
    let mut group = c.benchmark_group("norm-lif");
    let surrogate = Surrogate::Dspike(Dspike { temperature: 3.0 });
    for (name, side, channels) in
        [("L1", 32, 64), ("L2", 16, 128), ("L3", 8, 256), ("L4", 4, 512), ("w16L1", 32, 16), ("w8L1", 32, 8)]
    {
        let positions = IMAGES / 4 * side * side;
        let l = lif::LifShape {
            time_steps: 4,
            positions,
            channels,
            tau: 0.25,
            v_th: 0.5,
            reset: Reset::Hard,
            detach_reset: false,
        };
        let n = 4 * positions * channels;
        let (x, mut grad) = (map(1, n / channels, channels), map(2, n / channels, channels));
        let (scale, shift) = (vec![1.0; channels], vec![0.1; channels]);
        let main = lif::Branch { map: &x, norm: lif::Folded { scale: &scale, shift: &shift } };
        let mut dx = grad.clone();
        group.bench_function(BenchmarkId::new("statistics", name), |b| {
            b.iter(|| norm::statistics(black_box(&x), channels))
        });
        group.bench_function(BenchmarkId::new("forward", name), |b| {
            b.iter(|| lif::forward(&l, black_box(&main), &lif::Shortcut::None))
        });
        group.bench_function(BenchmarkId::new("backward", name), |b| {
            b.iter(|| lif::backward(&l, &main, &lif::Shortcut::None, black_box(&mut grad), &surrogate))
        });
        let k = norm::Coefficients { k1: &scale, k2: &shift, k3: &shift };
        group.bench_function(BenchmarkId::new("norm_backward", name), |b| {
            b.iter(|| norm::norm_backward(&k, &x, black_box(&mut dx)))
        });
    }
    group.finish();
}

/// Average pools of the shortcuts, and the optimiser over the weight of the largest layer.
fn pools_and_optimizer(c: &mut Criterion) {
    let mut group = c.benchmark_group("pool");
    for (name, side, channels) in [("L1", 32, 64), ("w16L1", 32, 16), ("w8L1", 32, 8)] {
        let (height, width, images) = (side, side, IMAGES);
        let p = pool::PoolShape { images, height, width, channels, kernel: 2, stride: 2, padding: 0, ceil_mode: false };
        let bits = spikes(1, p.in_len());
        let grad = floats(2, p.out_len());
        group.bench_function(BenchmarkId::new("forward", name), |b| b.iter(|| pool::forward(&p, Input::Spikes(&bits))));
        group.bench_function(BenchmarkId::new("backward", name), |b| b.iter(|| pool::backward(&p, &grad)));
    }
    group.finish();
    let n = 512 * 512 * 9;
    let (mut weight, mut velocity, grad) = (floats(1, n), vec![0.0; n], floats(2, n));
    let constants = sgd::Sgd { learning_rate: 0.01, momentum: 0.9, weight_decay: 1e-4 };
    c.bench_function("sgd/L4", |b| b.iter(|| sgd::step(&constants, black_box(&mut weight), &mut velocity, &grad)));
}

/// Forward, backward and optimiser of `resnet18-plain`, T = 4, tdBN.
fn steps(c: &mut Criterion) {
    let mut group = c.benchmark_group("step");
    for (name, width, batch, side) in
        [("w64", 64, 8, 32), ("w16", 16, 64, 32), ("w8", 8, 64, 32), ("w16small", 16, 128, 8)]
    {
        let mut step = step(width, batch, side).expect("a network of the smallest layout");
        group.bench_function(name, |b| b.iter(|| step().expect("its shapes fit")));
    }
    group.finish();
}

fn step(width: usize, batch: usize, side: usize) -> Result<impl FnMut() -> Result<()>> {
    let architecture = Architecture::Resnet18Plain;
    let neuron = Lif { tau: 0.25, v_th: 0.5, reset: Reset::Hard, detach_reset: false };
    let config = NetworkConfig { architecture, width, norm: Norm::Tdbn, neuron, imagenet_stem: false };
    let network = Network::new(&config, Neuron::Lif(neuron), 3, 10, 0)?;
    let input = Activation::from_images(&floats(1, batch * side * side * 3), [batch, side, side, 3], &Device::Cpu)?;
    let labels: Vec<u32> = (0..batch).map(|i| i as u32 % 10).collect();
    let velocities = network.params.iter().map(Tensor::zeros_like).collect::<Result<Vec<_>>>()?;
    let surrogate = Surrogate::Dspike(Dspike { temperature: 3.0 });
    let pass = Pass { time_steps: 4, statistics: Statistics::Batch, keep_tape: true, count_synops: false };
    Ok(move || {
        let output = network.forward(&input, batch, &pass)?;
        let loss = readout::cross_entropy(&output.logits, &labels, 4, 10)?;
        let gradients = network.backward(&output, &loss.grad_logits, 4, batch, &surrogate)?;
        Sgd { lr: 0.01, momentum: 0.9, weight_decay: 1e-4 }.step(&network.params, &velocities, &gradients)
    })
}

criterion_group! {
    name = kernels;
    config = Criterion::default().sample_size(10).warm_up_time(Duration::from_millis(200)).measurement_time(Duration::from_secs(1));
    targets = convolutions, neurons, pools_and_optimizer, steps
}
criterion_main!(kernels);
