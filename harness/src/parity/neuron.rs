//! Dumps of surrogate curves and of one neuron.

use super::dump::{Dump, surrogate_named};
use super::{Check, absolute, relative};
use crate::ops::cpu::lif::{self, Branch, Folded, LifShape, Shortcut};
use anyhow::{Result, ensure};
use methods::lif::{Lif, Reset};
use methods::surrogate::{Kernel, WithKernel};

struct Curve<'a>(&'a [f32]);

impl WithKernel for Curve<'_> {
    type Output = Vec<f64>;

    fn call<K: Kernel>(self, kernel: K) -> Vec<f64> {
        self.0.iter().map(|v| f64::from(kernel.derivative(*v))).collect()
    }
}

/// Derivative curves: the f64 formula against the dump, the f32 kernel against the formula at the f32 next to each `v` (a
/// support's edge may lie between the two).
pub fn surrogates(dump: &Dump) -> Result<Vec<Check>> {
    let v = dump.values("v")?;
    let rounded = dump.f32s("v")?;
    let mut checks = Vec::new();
    for name in dump.names().filter(|name| *name != "v") {
        let (surrogate, expected) = (surrogate_named(name)?, dump.values(name)?);
        let exact = v.iter().map(|v| surrogate.derivative(*v));
        checks.push(Check::new(format!("{name} f64"), relative(exact, expected), 1e-12));
        let kernel = surrogate.with_kernel(Curve(&rounded));
        let exact: Vec<f64> = rounded.iter().map(|v| surrogate.derivative(f64::from(*v))).collect();
        checks.push(Check::new(format!("{name} f32 kernel"), relative(kernel, &exact), 2e-5));
    }
    Ok(checks)
}

/// The reset of a dump.
pub fn reset(dump: &Dump) -> Result<Reset> {
    dump.one_of("reset", &[("hard", Reset::Hard), ("soft", Reset::Soft)])
}

/// One neuron over T: the f64 reference and the f32 kernel.
pub fn lif(dump: &Dump) -> Result<Vec<Check>> {
    let (shape, current) = dump.tensor("current")?;
    ensure!(!shape.is_empty() && shape[0] > 0, "`current` has no time axis");
    let (steps, neurons) = (shape[0], current.len() / shape[0]);
    let (tau, v_th) = (dump.number("tau")?, dump.number("vth")?);
    let grad_spikes = dump.values("grad_spikes")?;
    ensure!(grad_spikes.len() == current.len(), "`grad_spikes` and `current` differ in length");
    let at = |values: &[f64], n: usize| (0..steps).map(|t| values[t * neurons + n]).collect::<Vec<f64>>();
    let model = Lif { tau, v_th, reset: reset(dump)?, detach_reset: false };
    model.validate()?;
    let mut checks = Vec::new();

    let (mut membrane, mut spikes) = (vec![0.0; current.len()], vec![0.0; current.len()]);
    for n in 0..neurons {
        let trace = model.forward(&at(current, n));
        for t in 0..steps {
            membrane[t * neurons + n] = trace.u[t];
            spikes[t * neurons + n] = f64::from(trace.s[t]);
        }
    }
    checks.push(Check::new("membrane, reference", absolute(membrane, dump.values("membrane_f64")?), 1e-6));
    checks.push(Check::new("spikes, reference", absolute(spikes, dump.values("spikes")?), 0.0));

    // The kernel sees channels of 8: neurons side by side, silent ones at the end.
    let positions = neurons.div_ceil(8);
    let lay_out = |values: &[f64]| -> Vec<f32> {
        let mut out = vec![0f32; steps * positions * 8];
        for t in 0..steps {
            for n in 0..neurons {
                out[t * positions * 8 + n] = values[t * neurons + n] as f32;
            }
        }
        out
    };
    let kernel_shape = |detach_reset| LifShape {
        time_steps: steps,
        positions,
        channels: 8,
        tau: tau as f32,
        v_th: v_th as f32,
        reset: model.reset,
        detach_reset,
    };
    let map = lay_out(current);
    let main = Branch { map: &map, norm: Folded { scale: &[1.0; 8], shift: &[0.0; 8] } };
    let bits = lif::forward(&kernel_shape(false), &main, &Shortcut::None);
    let kernel_spikes = (0..steps * neurons).map(|i| {
        let (t, n) = (i / neurons, i % neurons);
        f64::from(bits[t * positions + n / 8] >> (n % 8) & 1)
    });
    checks.push(Check::new("spikes, kernel", absolute(kernel_spikes, dump.values("spikes")?), 0.0));

    let grad_map = lay_out(grad_spikes);
    for variant in dump.variants("/grad_current_f64")? {
        let expected = dump.values(&format!("{}/grad_current_f64", variant.prefix))?;
        let model = Lif { detach_reset: variant.detach_reset, ..model };
        let mut reference = vec![0.0; current.len()];
        for n in 0..neurons {
            let grad = model.backward(&model.forward(&at(current, n)), &at(grad_spikes, n), &variant.surrogate);
            grad.iter().enumerate().for_each(|(t, g)| reference[t * neurons + n] = *g);
        }
        checks.push(Check::new(
            format!("{} gradient, reference", variant.prefix),
            relative(reference, expected),
            1e-12,
        ));
        let mut grad = grad_map.clone();
        lif::backward(&kernel_shape(variant.detach_reset), &main, &Shortcut::None, &mut grad, &variant.surrogate);
        let grad = (0..steps * neurons).map(|i| f64::from(grad[i / neurons * positions * 8 + i % neurons]));
        checks.push(Check::new(format!("{} gradient, kernel", variant.prefix), relative(grad, expected), 2e-5));
    }
    Ok(checks)
}
