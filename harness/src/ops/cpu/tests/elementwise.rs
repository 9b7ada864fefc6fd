use super::reference::{any_level, close, limited_level, map, normals, same_on_any_threads, spikes};
use crate::ops::cpu::{Level, norm, pool, sgd};
use crate::ops::{Input, pad8};
use proptest::prelude::*;

fn doubles(x: &[f32]) -> Vec<f64> {
    x.iter().map(|x| f64::from(*x)).collect()
}

fn check_statistics() {
    let (rows, channels) = (5000, 24);
    let x: Vec<f32> =
        normals(1, rows * channels).iter().enumerate().map(|(i, x)| 3.0 * x + (i % channels) as f32).collect();
    let got = norm::statistics(&x, channels);
    for c in 0..channels {
        let column: Vec<f64> = x.iter().skip(c).step_by(channels).map(|x| f64::from(*x)).collect();
        let mean = column.iter().sum::<f64>() / rows as f64;
        let variance = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / rows as f64;
        assert!((got.mean[c] - mean).abs() < 1e-10 && (got.variance[c] - variance).abs() < 1e-8, "channel {c}");
    }
}

#[test]
fn statistics_are_the_mean_and_the_biased_variance() {
    {
        let _level = any_level();
        check_statistics();
        let x = normals(1, 40_000 * 8);
        same_on_any_threads(|| norm::statistics(&x, 8));
    }
    let _level = limited_level(Level::Portable);
    check_statistics();
}

/// Batch norm over the rows in f64, with weights `g` on its output: the scalar whose gradient
/// the backward pass computes.
fn norm_loss(x: &[f64], channels: usize, gamma: &[f64], g: &[f64]) -> f64 {
    let rows = x.len() / channels;
    let mut loss = 0.0;
    for c in 0..channels {
        let column: Vec<f64> = x.iter().skip(c).step_by(channels).copied().collect();
        let mean = column.iter().sum::<f64>() / rows as f64;
        let variance = column.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / rows as f64;
        for (r, x) in column.iter().enumerate() {
            loss += g[r * channels + c] * gamma[c] * (x - mean) / (variance + 1e-5).sqrt();
        }
    }
    loss
}

#[test]
fn norm_backward_is_the_finite_difference_of_a_batch_norm() {
    let _level = any_level();
    let (rows, channels) = (37, 8);
    let (x, mut g, gamma) = (normals(1, rows * channels), normals(2, rows * channels), normals(3, channels));
    let (xs, gs, gammas) = (doubles(&x), doubles(&g), doubles(&gamma));
    let statistics = norm::statistics(&x, channels);
    let n = rows as f64;
    let (mut k1, mut k2, mut k3) = (vec![0f32; channels], vec![0f32; channels], vec![0f32; channels]);
    for c in 0..channels {
        let scale = 1.0 / (statistics.variance[c] + 1e-5).sqrt();
        let column = || (0..rows).map(|r| r * channels + c);
        let sum: f64 = column().map(|i| gs[i]).sum();
        let sum_hat: f64 = column().map(|i| gs[i] * (xs[i] - statistics.mean[c]) * scale).sum();
        // dx = γ·s·(g − Σg/n − x̂·Σ(g·x̂)/n)
        k1[c] = (gammas[c] * scale) as f32;
        k2[c] = (-gammas[c] * scale * scale * sum_hat / n) as f32;
        k3[c] = (-gammas[c] * scale * (sum - scale * statistics.mean[c] * sum_hat) / n) as f32;
    }
    norm::norm_backward(&norm::Coefficients { k1: &k1, k2: &k2, k3: &k3 }, &x, &mut g);
    let want: Vec<f64> = (0..xs.len())
        .map(|i| {
            let at = |h: f64| {
                let mut moved = xs.clone();
                moved[i] += h;
                norm_loss(&moved, channels, &gammas, &gs)
            };
            (at(1e-4) - at(-1e-4)) / 2e-4
        })
        .collect();
    close("norm backward", &g, &want, 1e-6);
}

#[test]
fn sgd_takes_torchs_steps() {
    // torch.optim.SGD([w], lr=0.1, momentum=0.9, weight_decay=0.01), w = 2, g = 1 twice:
    // v = 1.02, w = 1.898; v = 0.918 + 1.01898 = 1.93698, w = 1.704302
    let (mut w, mut v) = (vec![2.0; 9], vec![0.0; 9]);
    let sgd = sgd::Sgd { learning_rate: 0.1, momentum: 0.9, weight_decay: 0.01 };
    sgd::step(&sgd, &mut w, &mut v, &[1.0; 9]);
    assert!((w[8] - 1.898).abs() < 1e-6 && (v[8] - 1.02).abs() < 1e-6);
    sgd::step(&sgd, &mut w, &mut v, &[1.0; 9]);
    assert!((w[0] - 1.704_302).abs() < 1e-6 && (v[0] - 1.936_98).abs() < 1e-6);
}

#[test]
fn spikes_are_counted_at_any_length() {
    for (n, want) in [(0, 0), (1, 3), (7, 21), (8, 24), (21, 63), (100_021, 300_063)] {
        assert_eq!(pool::count_spikes(&vec![0b1001_0001; n]), want);
    }
}

#[test]
fn ceil_mode_has_torchs_sizes() {
    // torch.nn.AvgPool2d(k, s, p, ceil_mode=True) on `size`
    for (size, k, s, p, want) in [(5, 2, 2, 0, 3), (4, 2, 2, 0, 2), (1, 2, 2, 1, 1), (6, 3, 2, 1, 4), (7, 3, 3, 0, 3)] {
        let shape = pool::PoolShape {
            images: 1,
            height: size,
            width: size,
            channels: 1,
            kernel: k,
            stride: s,
            padding: p,
            ceil_mode: true,
        };
        assert_eq!(shape.out_height(), want, "size {size}, kernel {k}, stride {s}, padding {p}");
    }
}

#[test]
fn a_partial_window_averages_what_lies_inside() {
    // torch.nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False) on [[1,2,3],[4,5,6],[7,8,9]]
    let mut x = vec![0.0; 72];
    x.iter_mut().step_by(8).enumerate().for_each(|(i, x)| *x = i as f32 + 1.0);
    let p = pool::PoolShape {
        images: 1,
        height: 3,
        width: 3,
        channels: 1,
        kernel: 2,
        stride: 2,
        padding: 0,
        ceil_mode: true,
    };
    let out = pool::forward(&p, Input::Map(&x));
    assert_eq!(out.iter().step_by(8).copied().collect::<Vec<_>>(), [3.0, 4.5, 7.5, 9.0]);
    assert!(out.iter().enumerate().all(|(i, x)| i % 8 == 0 || x.to_bits() == 0));
}

fn pools() -> impl Strategy<Value = pool::PoolShape> {
    ((1..4usize, 1..9usize, 1..9usize, 1..20usize), (1..4usize, 1..4usize, 0..2usize, any::<bool>())).prop_filter_map(
        "torch refuses it",
        |((images, height, width, channels), (kernel, stride, padding, ceil_mode))| {
            let p = pool::PoolShape { images, height, width, channels, kernel, stride, padding, ceil_mode };
            (kernel <= height.min(width) + 2 * padding && 2 * padding <= kernel).then_some(p)
        },
    )
}

proptest! {
    /// ⟨pool(x), g⟩ = ⟨x, poolᵀ(g)⟩ holds for the linear map, spikes give the same result as
    /// equal floats, and a constant map stays constant.
    #[test]
    fn pooling_backward_is_the_transpose_of_forward(p in pools()) {
        let rows = p.images * p.height * p.width;
        let (floats, bits) = spikes(1, rows, p.channels, 0.4);
        let g = map(2, p.images * p.out_height() * p.out_width(), p.channels);
        let (a, b) = (pool::forward(&p, Input::Map(&floats)), pool::forward(&p, Input::Spikes(&bits)));
        prop_assert_eq!(&a, &b);
        let dx = pool::backward(&p, &g);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        prop_assert!((dot(&a, &g) - dot(&floats, &dx)).abs() < 1e-4);
        let ones = pool::forward(&p, Input::Map(&vec![1.0; p.in_len()]));
        prop_assert!(ones.iter().all(|x| (x - 1.0).abs() < 1e-6));
    }
}

proptest! {
    /// The result is bit-identical to loops over windows, and over the outputs of each input,
    /// which add floats in that order.
    #[test]
    fn pools_add_in_order(p in pools()) {
        let (c, rows) = (pad8(p.channels), p.images * p.height * p.width);
        let (x, g) = (map(4, rows, p.channels), map(5, p.images * p.out_height() * p.out_width(), p.channels));
        let window = |o: usize, size: usize| {
            let start = o * p.stride;
            start.saturating_sub(p.padding)..(start + p.kernel - p.padding).min(size)
        };
        let (mut averages, mut dx) = (vec![0f32; p.out_len()], vec![0f32; p.in_len()]);
        for (o, (average, g)) in averages.chunks_exact_mut(c).zip(g.chunks_exact(c)).enumerate() {
            let (image, oy, ox) = (o / (p.out_height() * p.out_width()), o / p.out_width() % p.out_height(), o % p.out_width());
            let (ys, xs) = (window(oy, p.height), window(ox, p.width));
            let share = 1.0 / (ys.len() * xs.len()) as f32;
            for pixel in ys.flat_map(|y| xs.clone().map(move |x| (image * p.height + y) * p.width + x)) {
                for k in 0..c {
                    average[k] += x[pixel * c + k];
                    dx[pixel * c + k] += share * g[k];
                }
            }
            average.iter_mut().for_each(|sum| *sum *= share);
        }
        let bits = |map: &[f32]| map.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        prop_assert_eq!(bits(&pool::forward(&p, Input::Map(&x))), bits(&averages));
        prop_assert_eq!(bits(&pool::backward(&p, &g)), bits(&dx));
    }
}

#[test]
fn outputs_of_a_pool_are_those_of_torch() {
    // Sizes of torch.nn.functional.avg_pool2d: (size, (kernel, stride, padding), ceil_mode,
    // outputs). It raises an error if 0 is listed.
    for (size, window, ceil_mode, outputs) in [
        (8, (2, 2, 0), false, 4),
        (7, (2, 2, 0), false, 3),
        (7, (2, 2, 0), true, 4),
        (1, (2, 2, 0), true, 1),
        (1, (2, 2, 0), false, 0),
        (112, (3, 2, 1), false, 56),
        (5, (3, 3, 1), true, 2),
    ] {
        assert_eq!(pool::pooled(size, window, ceil_mode), outputs, "{size} {window:?} {ceil_mode}");
    }
}

#[test]
fn the_global_average_and_its_gradient_share_evenly() {
    let (images, pixels, channels) = (3, 16, 10);
    let (floats, bits) = spikes(1, images * pixels, channels, 0.5);
    let c = pad8(channels);
    let (mut a, mut b) = (vec![f32::NAN; images * c], vec![f32::NAN; images * c]);
    pool::global_forward(images, pixels, channels, Input::Map(&floats), &mut a);
    pool::global_forward(images, pixels, channels, Input::Spikes(&bits), &mut b);
    assert_eq!(a, b);
    for image in 0..images {
        for k in 0..c {
            let fired = (0..pixels).filter(|p| floats[(image * pixels + p) * c + k] == 1.0).count();
            assert_eq!(a[image * c + k], fired as f32 / 16.0);
        }
    }
    let mut dx = vec![f32::NAN; images * pixels * c];
    pool::global_backward(images, pixels, channels, &a, &mut dx);
    assert!(dx.chunks_exact(c).enumerate().all(|(i, row)| (0..c).all(|k| row[k] == a[i / pixels * c + k] / 16.0)));
}
