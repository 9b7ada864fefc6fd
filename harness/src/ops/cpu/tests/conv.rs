use super::reference::{self as naive, close, map, normals, padding_is_zero, same_on_any_threads, spikes};
use crate::ops::cpu::Level;
use crate::ops::cpu::conv::{
    ConvAlgorithm, ConvWeightCache, forward, forward_algorithm, forward_cached, grad_input, grad_weight,
};
use crate::ops::{ConvShape, Input};
use proptest::prelude::*;

const TOLERANCE: f64 = 4e-6;
/// Winograd F(4×4, 3×3) loses some digits. It is used for gradients of inputs only.
const GRAD_INPUT_TOLERANCE: f64 = 1e-5;

fn shapes() -> impl Strategy<Value = ConvShape> {
    let kernels = prop_oneof![Just(1usize), Just(3), Just(3), Just(7)];
    naive::shapes((1..4usize, 1..14usize, 1..14usize), (1..71usize, 1..71usize), (kernels, 1..3usize, 0..4usize))
}

/// Compares all three passes of one shape with f64 loops, for a dense map and for spikes of the
/// given density.
fn check(s: &ConvShape, density: f64) {
    let in_rows = s.images * s.height * s.width;
    let out_rows = s.images * s.out_height() * s.out_width();
    let weight = normals(1, s.weight_len());
    let grad = map(2, out_rows, s.c_out);
    let dense = map(3, in_rows, s.c_in);
    let (floats, bits) = spikes(4, in_rows, s.c_in, density);
    for (name, x, input) in [
        ("map", &dense, Input::Map(&dense)),
        ("spikes", &floats, Input::Spikes(&bits)),
        ("spikes as a map", &floats, Input::Map(&floats)),
    ] {
        let mut out = vec![f32::NAN; s.out_len()];
        forward(s, input, &weight, &mut out);
        naive::forward(s, x, &weight).agree(&format!("forward of {name}, {s:?}"), &out, TOLERANCE);
        padding_is_zero(name, &out, s.c_out);
        let mut out = vec![f32::NAN; s.weight_len()];
        grad_weight(s, input, &grad, &mut out);
        naive::grad_weight(s, x, &grad).agree(&format!("grad_weight of {name}, {s:?}"), &out, TOLERANCE);
    }
    check_grad_input(s, &weight, &grad);
}

fn check_grad_input(s: &ConvShape, weight: &[f32], grad: &[f32]) {
    let mut out = vec![f32::NAN; s.in_len()];
    let want = naive::grad_input(s, weight, grad);
    grad_input(s, weight, grad, &mut out, false);
    want.agree(&format!("grad_input, {s:?}"), &out, GRAD_INPUT_TOLERANCE);
    padding_is_zero("grad_input", &out, s.c_in);
    let start = map(5, s.images * s.height * s.width, s.c_in);
    let mut out = start.clone();
    grad_input(s, weight, grad, &mut out, true);
    want.onto(&start).agree(&format!("accumulated grad_input, {s:?}"), &out, GRAD_INPUT_TOLERANCE);
    padding_is_zero("accumulated grad_input", &out, s.c_in);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_pass_agrees_with_f64_loops(s in shapes(), density in prop_oneof![Just(0.0), Just(1.0), 0.0..1.0]) {
        let _level = naive::any_level();
        check(&s, density);
    }
}

fn layer(images: usize, side: usize, c_in: usize, c_out: usize, kernel: usize, stride: usize) -> ConvShape {
    ConvShape { images, height: side, width: side, c_in, c_out, kernel, stride, padding: kernel / 2 }
}

/// Layers of the real networks, with block sizes that random shapes do not reach.
fn layers() -> Vec<ConvShape> {
    vec![
        layer(2, 32, 3, 16, 3, 1),
        layer(3, 16, 64, 64, 3, 1),
        layer(2, 8, 128, 192, 3, 1),
        layer(5, 4, 136, 256, 3, 1),
        layer(9, 2, 64, 64, 3, 1),
        layer(33, 1, 64, 64, 3, 1),
        layer(2, 16, 64, 128, 3, 2),
        layer(2, 16, 64, 128, 1, 2),
        layer(3, 32, 16, 16, 3, 1),
        layer(3, 32, 8, 8, 3, 1),
        layer(2, 32, 8, 16, 3, 2),
        layer(1, 40, 3, 64, 7, 2),
    ]
}

#[test]
fn layers_of_the_networks_agree_with_f64_loops() {
    let _level = naive::any_level();
    for s in layers() {
        check(&s, 0.2);
    }
}

#[test]
fn narrower_instructions_agree_with_f64_loops() {
    for (level, name) in [(Level::Portable, "cpu-portable"), (Level::Avx2, "cpu-avx2")] {
        let _level = naive::limited_level(level);
        if crate::ops::cpu::numerics() == name {
            layers().iter().for_each(|s| check(s, 0.2));
        }
    }
}

#[test]
fn every_forward_algorithm_is_chosen_and_agrees() {
    let _level = naive::any_level();
    let mut taken = Vec::new();
    for (s, density) in [
        (layer(2, 16, 64, 64, 3, 1), 0.1),
        (layer(2, 16, 64, 64, 3, 1), 0.5),
        (layer(2, 16, 16, 16, 3, 1), 0.2),
        (layer(1, 4, 8, 8, 3, 1), 0.98),
    ] {
        check(&s, density);
        taken.push(forward_algorithm(&s, density));
    }
    assert_eq!(taken, [ConvAlgorithm::SpikeList, ConvAlgorithm::Table, ConvAlgorithm::Table, ConvAlgorithm::Dense]);
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let _level = naive::any_level();
    for s in [
        layer(12, 16, 64, 64, 3, 1),
        layer(7, 16, 16, 24, 3, 2),
        layer(40, 4, 128, 128, 3, 1),
        layer(9, 32, 8, 8, 3, 1),
    ] {
        let weight = normals(1, s.weight_len());
        let grad = map(2, s.images * s.out_height() * s.out_width(), s.c_out);
        let dense = map(3, s.images * s.height * s.width, s.c_in);
        let (_, bits) = spikes(4, s.images * s.height * s.width, s.c_in, 0.2);
        same_on_any_threads(|| {
            let mut results = Vec::new();
            for x in [Input::Map(&dense), Input::Spikes(&bits)] {
                let (mut out, mut dw) = (vec![0.0; s.out_len()], vec![0.0; s.weight_len()]);
                forward(&s, x, &weight, &mut out);
                grad_weight(&s, x, &grad, &mut dw);
                results.extend([out, dw]);
            }
            let mut dx = vec![0.0; s.in_len()];
            grad_input(&s, &weight, &grad, &mut dx, false);
            results.push(dx);
            results
        });
    }
}

#[test]
fn dense_and_spiking_algorithms_agree_at_every_density() {
    let _level = naive::any_level();
    let s = layer(3, 12, 40, 48, 3, 1);
    let rows = s.images * s.height * s.width;
    let (weight, grad) = (normals(1, s.weight_len()), map(2, rows, s.c_out));
    for percent in (0..=100).step_by(10) {
        let (floats, bits) = spikes(percent, rows, s.c_in, percent as f64 / 100.0);
        let (mut a, mut b) = (vec![0.0; s.out_len()], vec![0.0; s.out_len()]);
        forward(&s, Input::Map(&floats), &weight, &mut a);
        forward(&s, Input::Spikes(&bits), &weight, &mut b);
        close("forward", &b, &a.iter().map(|x| f64::from(*x)).collect::<Vec<_>>(), 1e-6);
        let (mut a, mut b) = (vec![0.0; s.weight_len()], vec![0.0; s.weight_len()]);
        grad_weight(&s, Input::Map(&floats), &grad, &mut a);
        grad_weight(&s, Input::Spikes(&bits), &grad, &mut b);
        close("grad_weight", &b, &a.iter().map(|x| f64::from(*x)).collect::<Vec<_>>(), 1e-6);
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

/// The spikes with a share of all bits flipped.
fn flipped(spikes_before: &[u8], rows: usize, channels: usize, share: f64) -> Vec<u8> {
    let (_, flips) = spikes(9, rows, channels, share);
    spikes_before.iter().zip(flips).map(|(a, b)| a ^ b).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_pass_from_the_sums_of_another_has_the_bits_of_one_alone(
        s in shapes(),
        density in 0.05..0.5,
        share in prop_oneof![Just(0.0), 0.0..0.05],
    ) {
        let _level = naive::any_level();
        let rows = s.images * s.height * s.width;
        let weight = normals(1, s.weight_len());
        let (_, before) = spikes(4, rows, s.c_in, density);
        let after = flipped(&before, rows, s.c_in, share);
        let cache = ConvWeightCache::keeping_first_pass();
        let first = forward_cached(&s, Input::Spikes(&before), &weight, &cache);
        let second = forward_cached(&s, Input::Spikes(&after), &weight, &cache);
        let alone = |spikes: &[u8]| forward_cached(&s, Input::Spikes(spikes), &weight, &ConvWeightCache::default());
        prop_assert_eq!(bits(&first), bits(&alone(&before)));
        prop_assert_eq!(bits(&second), bits(&alone(&after)));
    }
}

#[test]
fn sums_over_spikes_have_the_same_bits_on_every_instruction_set() {
    for (s, density, expected) in [
        (layer(2, 16, 64, 64, 3, 1), 0.1, ConvAlgorithm::SpikeList),
        (layer(3, 12, 16, 24, 3, 1), 0.3, ConvAlgorithm::Table),
    ] {
        let rows = s.images * s.height * s.width;
        let weight = normals(1, s.weight_len());
        let (_, spikes) = spikes(4, rows, s.c_in, density);
        let sums = |level| {
            let _level = naive::limited_level(level);
            assert_eq!(forward_algorithm(&s, density), expected, "{level:?}");
            let mut out = vec![f32::NAN; s.out_len()];
            forward(&s, Input::Spikes(&spikes), &weight, &mut out);
            bits(&out)
        };
        let portable = sums(Level::Portable);
        assert_eq!(portable, sums(Level::Avx2));
        assert_eq!(portable, sums(Level::Avx512));
    }
}

#[test]
fn weights_of_any_size_keep_their_digits_and_a_nan_stays_one() {
    let _level = naive::any_level();
    let s = layer(8, 8, 16, 16, 3, 1);
    let (floats, bits) = spikes(4, 8 * 8 * 8, 16, 0.3);
    assert_eq!(forward_algorithm(&s, 0.3), ConvAlgorithm::Table);
    for factor in [1e-30f32, 1e-3, 1.0, 1e30] {
        let weight: Vec<f32> = normals(1, s.weight_len()).iter().map(|w| w * factor).collect();
        let mut out = vec![f32::NAN; s.out_len()];
        forward(&s, Input::Spikes(&bits), &weight, &mut out);
        naive::forward(&s, &floats, &weight).agree(&format!("weights of {factor:e}"), &out, TOLERANCE);
    }
    for bad in [f32::NAN, f32::INFINITY] {
        let mut weight = normals(1, s.weight_len());
        weight[0] = bad;
        let mut out = vec![0.0; s.out_len()];
        forward(&s, Input::Spikes(&bits), &weight, &mut out);
        assert!(out.chunks(16).all(|pixel| pixel[0].is_nan() && pixel[1..].iter().all(|x| x.is_finite())));
    }
}
