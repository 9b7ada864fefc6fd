use super::reference::{any_level, close, limited_level, map, normals, same_on_any_threads, spikes};
use crate::ops::cpu::Level;
use crate::ops::cpu::lif::{self, Branch, Folded, LifShape, Reset, Shortcut};
use methods::surrogate::{Arctan, Dspike, Rectangle, Sigmoid, Surrogate, Triangle};
use safetensors::SafeTensors;

const SURROGATES: [Surrogate; 5] = [
    Surrogate::Dspike(Dspike { temperature: 3.0 }),
    Surrogate::Rectangle(Rectangle { width: 1.0 }),
    Surrogate::Sigmoid(Sigmoid { alpha: 4.0 }),
    Surrogate::Triangle(Triangle { gamma: 1.0 }),
    Surrogate::Arctan(Arctan { alpha: 2.0 }),
];

/// A map with its coefficients.
struct Owned {
    map: Vec<f32>,
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Owned {
    fn new(seed: u64, rows: usize, channels: usize) -> Self {
        let scale = normals(seed + 1, channels).iter().map(|x| 0.5 + 0.1 * x).collect();
        Self {
            map: map(seed, rows, channels),
            scale,
            shift: normals(seed + 2, channels).iter().map(|x| 0.2 * x).collect(),
        }
    }
    fn branch(&self) -> Branch<'_> {
        Branch { map: &self.map, norm: Folded { scale: &self.scale, shift: &self.shift } }
    }
    /// The current in f32, rounded as in the kernel, so that no spike differs because of
    /// rounding.
    fn current(&self, i: usize) -> f32 {
        let c = i % self.scale.len();
        self.scale[c] * self.map[i] + self.shift[c]
    }
}

struct Case {
    l: LifShape,
    main: Owned,
    side: Owned,
    side_floats: Vec<f32>,
    side_bits: Vec<u8>,
    grad: Vec<f32>,
}

impl Case {
    fn new(l: LifShape, broadcast: bool) -> Self {
        let rows = l.time_steps * l.positions;
        let (side_floats, side_bits) = spikes(7, rows, l.channels, 0.3);
        let main = Owned::new(11, if broadcast { l.positions } else { rows }, l.channels);
        let side = Owned::new(23, rows, l.channels);
        Self { l, main, side, side_floats, side_bits, grad: normals(31, rows * l.channels) }
    }

    fn shortcut(&self, kind: usize) -> Shortcut<'_> {
        match kind {
            0 => Shortcut::None,
            1 => Shortcut::Spikes(&self.side_bits),
            2 => Shortcut::Map(&self.side.map),
            _ => Shortcut::Branch(self.side.branch()),
        }
    }

    /// The current of element `i` (t slowest), rounded as in the kernel.
    fn current(&self, kind: usize, i: usize) -> f32 {
        let main = self.main.current(i % self.main.map.len());
        match kind {
            0 => main,
            1 => main + self.side_floats[i],
            2 => main + self.side.map[i],
            _ => main + self.side.current(i),
        }
    }
}

/// Spikes and gradient of the current by a loop over time in f64 (the membrane in f32 decides the spikes).
fn naive(case: &Case, kind: usize, surrogate: &Surrogate) -> (Vec<bool>, Vec<f64>) {
    let l = &case.l;
    let n = l.positions * l.channels;
    let (mut fired, mut grads) = (vec![false; n * l.time_steps], vec![0.0; n * l.time_steps]);
    let (tau, v_th) = (f64::from(l.tau), f64::from(l.v_th));
    for j in 0..n {
        let mut u = 0f32;
        let mut us = Vec::new();
        for t in 0..l.time_steps {
            u = l.tau * u + case.current(kind, t * n + j);
            us.push(f64::from(u));
            fired[t * n + j] = u >= l.v_th;
            if fired[t * n + j] {
                u = if l.reset == Reset::Hard { 0.0 } else { u - l.v_th };
            }
        }
        let mut next = 0.0;
        for t in (0..l.time_steps).rev() {
            let slope = surrogate.derivative(us[t] - v_th);
            let s = f64::from(u8::from(fired[t * n + j]));
            let attached = if l.detach_reset { 0.0 } else { 1.0 };
            let through = match l.reset {
                Reset::Hard => (1.0 - s) - attached * us[t] * slope,
                Reset::Soft => 1.0 - attached * v_th * slope,
            };
            next = f64::from(case.grad[t * n + j]) * slope + tau * next * through;
            grads[t * n + j] = next;
        }
    }
    (fired, grads)
}

fn check(case: &Case, kind: usize, surrogate: &Surrogate) {
    let l = &case.l;
    let name = format!("{l:?}, shortcut {kind}, {}", surrogate.name());
    let (fired, grads) = naive(case, kind, surrogate);
    let bits = lif::forward(l, &case.main.branch(), &case.shortcut(kind));
    assert_eq!(8 * bits.len(), fired.len(), "{name}");
    for (i, want) in fired.iter().enumerate() {
        assert_eq!((bits[i / 8] >> (i % 8)) & 1 == 1, *want, "{name}: spike {i}");
    }
    let mut got = case.grad.clone();
    let sums = lif::backward(l, &case.main.branch(), &case.shortcut(kind), &mut got, surrogate);
    got.truncate(case.main.map.len());
    let (mut want, mut total) = (vec![0.0; got.len()], vec![[0.0; 3]; l.channels]);
    for (i, g) in grads.iter().enumerate() {
        let main = i % want.len();
        want[main] += g;
        let row = &mut total[i % l.channels];
        row[0] += g;
        row[1] += g * f64::from(case.main.map[main]);
        row[2] += if kind == 3 { g * f64::from(case.side.map[i]) } else { 0.0 };
    }
    close(&name, &got, &want, 5e-6);
    for (k, sum) in [&sums.grad, &sums.grad_main, &sums.grad_shortcut].into_iter().enumerate() {
        let sum: Vec<f32> = sum.iter().map(|x| *x as f32).collect();
        close(&format!("{name}: sum {k}"), &sum, &total.iter().map(|t| t[k]).collect::<Vec<_>>(), 1e-5);
    }
}

fn check_all() {
    for (time_steps, positions, channels) in [(1, 5, 8), (4, 37, 16), (2, 700, 8), (6, 9, 40)] {
        for (i, reset) in [Reset::Hard, Reset::Soft, Reset::Hard, Reset::Soft].into_iter().enumerate() {
            let l = LifShape { time_steps, positions, channels, tau: 0.3, v_th: 0.5, reset, detach_reset: i >= 2 };
            for broadcast in [false, true] {
                let case = Case::new(l, broadcast);
                for (kind, surrogate) in SURROGATES.iter().enumerate() {
                    check(&case, kind % 4, surrogate);
                }
            }
        }
    }
}

#[test]
fn lif_agrees_with_a_loop_over_time() {
    let _level = any_level();
    check_all();
}

#[test]
fn narrower_instructions_agree_with_a_loop_over_time() {
    for level in [Level::Portable, Level::Avx2] {
        let _level = limited_level(level);
        check_all();
    }
}

#[test]
fn every_instruction_set_gives_the_same_bits() {
    let l = LifShape {
        time_steps: 3,
        positions: 500,
        channels: 48,
        tau: 0.25,
        v_th: 0.5,
        reset: Reset::Hard,
        detach_reset: false,
    };
    let case = Case::new(l, false);
    let run = |level| {
        let _level = limited_level(level);
        let mut grad = case.grad.clone();
        let bits = lif::forward(&l, &case.main.branch(), &case.shortcut(3));
        let sums = lif::backward(&l, &case.main.branch(), &case.shortcut(3), &mut grad, &SURROGATES[0]);
        (bits, grad, sums)
    };
    let portable = run(Level::Portable);
    assert!(portable == run(Level::Avx2) && portable == run(Level::Avx512));
}

#[test]
fn the_two_resets_differ_after_an_overshoot() {
    // v_th is 1, tau 0.5, and the current 1.8 then 0.8. The hard reset forgets the overshoot (u
    // = 0.8), the soft reset keeps 0.4 of it (u = 1.2).
    let main = Owned { map: [[1.8f32; 8], [0.8; 8]].concat(), scale: vec![1.0; 8], shift: vec![0.0; 8] };
    for (reset, want) in [(Reset::Hard, [0xFF, 0x00]), (Reset::Soft, [0xFF, 0xFF])] {
        let l = LifShape { time_steps: 2, positions: 1, channels: 8, tau: 0.5, v_th: 1.0, reset, detach_reset: false };
        let bits = lif::forward(&l, &main.branch(), &Shortcut::None);
        assert_eq!(bits, want, "{reset:?}");
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    let _level = any_level();
    let l = LifShape {
        time_steps: 4,
        positions: 3000,
        channels: 16,
        tau: 0.25,
        v_th: 0.5,
        reset: Reset::Hard,
        detach_reset: false,
    };
    let case = Case::new(l, false);
    same_on_any_threads(|| {
        let mut grad = case.grad.clone();
        let (main, side) = (case.main.branch(), case.shortcut(3));
        let bits = lif::forward(&l, &main, &side);
        let sums = lif::backward(&l, &main, &side, &mut grad, &SURROGATES[0]);
        (bits, grad, sums)
    });
}

#[test]
fn relu_passes_what_is_positive() {
    let _level = any_level();
    let l = LifShape {
        time_steps: 1,
        positions: 2500,
        channels: 24,
        tau: 0.0,
        v_th: 0.0,
        reset: Reset::Hard,
        detach_reset: false,
    };
    let case = Case::new(l, false);
    for kind in 0..4 {
        let (mut out, mut grad) = (vec![f32::NAN; case.grad.len()], vec![f32::NAN; case.grad.len()]);
        lif::relu_forward(&case.main.branch(), &case.shortcut(kind), l.channels, &mut out);
        let sums = lif::relu_backward(&case.main.branch(), &case.shortcut(kind), l.channels, &case.grad, &mut grad);
        let mut total = vec![[0.0; 3]; l.channels];
        for i in 0..out.len() {
            let current = case.current(kind, i);
            assert_eq!(out[i], current.max(0.0));
            assert_eq!(grad[i], if current > 0.0 { case.grad[i] } else { 0.0 });
            let row = &mut total[i % l.channels];
            row[0] += f64::from(grad[i]);
            row[1] += f64::from(grad[i]) * f64::from(case.main.map[i]);
            row[2] += if kind == 3 { f64::from(grad[i]) * f64::from(case.side.map[i]) } else { 0.0 };
        }
        for (k, sum) in [&sums.grad, &sums.grad_main, &sums.grad_shortcut].into_iter().enumerate() {
            for (c, s) in sum.iter().enumerate() {
                assert!((s - total[c][k]).abs() < 1e-4, "shortcut {kind}, sum {k}, channel {c}");
            }
        }
    }
}

fn floats(tensors: &SafeTensors, name: &str) -> Vec<f32> {
    let data = tensors.tensor(name).unwrap();
    data.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

fn surrogate(kind: &str, p: f64) -> Surrogate {
    match kind {
        "dspike" => Surrogate::Dspike(Dspike { temperature: p }),
        "rect" | "rectangle" => Surrogate::Rectangle(Rectangle { width: p }),
        "sigmoid" => Surrogate::Sigmoid(Sigmoid { alpha: p }),
        "triangle" => Surrogate::Triangle(Triangle { gamma: p }),
        "arctan" => Surrogate::Arctan(Arctan { alpha: p }),
        _ => panic!("the dump has an unknown surrogate {kind}"),
    }
}

#[test]
fn lif_agrees_with_the_pytorch_dumps() {
    let _level = any_level();
    for (tau, v_th) in [(0.25, 0.5), (0.5, 0.5)] {
        let path = format!("{}/../../shared/fixtures/lif_tau{tau}_vth{v_th}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let Ok(bytes) = std::fs::read(&path) else {
            eprintln!("skipped: lif_agrees_with_the_pytorch_dumps needs {path}");
            continue;
        };
        let dump = SafeTensors::deserialize(&bytes).unwrap();
        let shape = dump.tensor("current").unwrap().shape().to_vec();
        let (time_steps, n) = (shape[0], shape[1..].iter().product::<usize>());
        // Each neuron is a channel, so that the dump's elements form one row, which is padded
        // to a multiple of 8.
        let channels = n.next_multiple_of(8);
        let rows = |x: &[f32]| -> Vec<f32> {
            x.chunks_exact(n).flat_map(|x| x.iter().copied().chain(std::iter::repeat_n(0.0, channels - n))).collect()
        };
        let main =
            Owned { map: rows(&floats(&dump, "current")), scale: vec![1.0; channels], shift: vec![0.0; channels] };
        let grad_spikes = rows(&floats(&dump, "grad_spikes"));
        let spikes = dump.tensor("spikes").unwrap();
        let mut checked = 0;
        for name in dump.names().into_iter().filter(|n| n.ends_with("grad_current_f64")) {
            let parts: Vec<&str> = name.split('/').collect();
            let (kind, p) = parts[0].split_once('_').unwrap();
            let surrogate = surrogate(kind, p.parse().unwrap());
            let l = LifShape {
                time_steps,
                positions: 1,
                channels,
                tau,
                v_th,
                reset: Reset::Hard,
                detach_reset: parts[1] == "detach1",
            };
            let bits = lif::forward(&l, &main.branch(), &Shortcut::None);
            for (i, want) in spikes.data().iter().enumerate() {
                let at = i / n * channels + i % n;
                assert_eq!((bits[at / 8] >> (at % 8)) & 1, *want, "{path}: spike {i}");
            }
            let mut grad = grad_spikes.clone();
            lif::backward(&l, &main.branch(), &Shortcut::None, &mut grad, &surrogate);
            let got: Vec<f32> = grad.chunks_exact(channels).flat_map(|row| row[..n].to_vec()).collect();
            let data = dump.tensor(name).unwrap();
            let want: Vec<f64> = data.data().as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect();
            close(name, &got, &want, 2e-5);
            checked += 1;
        }
        assert!(checked >= 10, "{path} holds {checked} gradients");
    }
}
