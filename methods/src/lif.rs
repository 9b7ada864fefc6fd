//! The leaky integrate-and-fire neuron: its equations, and a plain f64 reference that is every kernel's oracle.

use crate::surrogate::Surrogate;
use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// What a spike does to the membrane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reset {
    /// To 0.
    Hard,
    /// Down by the threshold.
    Soft,
}

/// `u[t] = tau·u[t-1]·(1 − s[t-1]) + I[t]` (hard reset), `s[t] = 1` where `u[t] >= v_th`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Lif {
    /// Decay factor in (0, 1].
    pub tau: f64,
    /// Threshold.
    pub v_th: f64,
    /// Hard: `tau·u·(1 − s)`; soft: `tau·(u − v_th·s)`.
    pub reset: Reset,
    /// Whether the gradient stops at the spike inside the reset.
    pub detach_reset: bool,
}

/// One neuron's run over T steps.
pub struct Trace {
    /// Membrane before the reset, `[T]`.
    pub u: Vec<f64>,
    /// Spikes, `[T]`.
    pub s: Vec<bool>,
}

impl Lif {
    /// Refuses constants for which the neuron is not defined.
    pub fn validate(&self) -> Result<()> {
        ensure!(self.tau > 0.0 && self.tau <= 1.0, "tau = {}, but the decay must lie in (0, 1]", self.tau);
        ensure!(self.v_th > 0.0 && self.v_th.is_finite(), "v-th = {}, but the threshold must be above 0", self.v_th);
        Ok(())
    }

    /// Runs one neuron over its current `[T]`.
    pub fn forward(&self, current: &[f64]) -> Trace {
        let mut trace = Trace { u: Vec::new(), s: Vec::new() };
        for &i in current {
            let kept = match (trace.u.last(), trace.s.last()) {
                (Some(&u), Some(&s)) => self.after_reset(u, s),
                _ => 0.0,
            };
            let u = self.tau * kept + i;
            trace.u.push(u);
            trace.s.push(u >= self.v_th);
        }
        trace
    }

    fn after_reset(&self, u: f64, s: bool) -> f64 {
        match (s, self.reset) {
            (false, _) => u,
            (true, Reset::Hard) => 0.0,
            (true, Reset::Soft) => u - self.v_th,
        }
    }

    /// Backpropagation through time: the gradient of the spikes `[T]` to that of the current `[T]`.
    pub fn backward(&self, trace: &Trace, grad_spikes: &[f64], surrogate: &Surrogate) -> Vec<f64> {
        let steps = grad_spikes.len();
        let mut grad_current = vec![0.0; steps];
        let mut carried = 0.0; // ∂loss/∂u[t+1] · tau
        for t in (0..steps).rev() {
            let derivative = surrogate.derivative(trace.u[t] - self.v_th);
            let through_spike = match (self.detach_reset, self.reset) {
                (true, _) => 0.0,
                (false, Reset::Hard) => -trace.u[t] * derivative,
                (false, Reset::Soft) => -self.v_th * derivative,
            };
            let through_membrane = match self.reset {
                Reset::Hard => f64::from(!trace.s[t]),
                Reset::Soft => 1.0,
            };
            grad_current[t] = grad_spikes[t] * derivative + carried * (through_membrane + through_spike);
            carried = self.tau * grad_current[t];
        }
        grad_current
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surrogate::{Dspike, Sigmoid};

    const HARD: Lif = Lif { tau: 0.5, v_th: 1.0, reset: Reset::Hard, detach_reset: false };

    #[test]
    fn hard_reset_forgets_the_overshoot_and_soft_reset_keeps_it() {
        let current = [1.8, 0.8];
        assert_eq!(HARD.forward(&current).s, [true, false]);
        let soft = Lif { reset: Reset::Soft, ..HARD };
        assert_eq!(soft.forward(&current).s, [true, true]); // 0.5 · 0.8 + 0.8 = 1.2
    }

    #[test]
    fn a_membrane_exactly_at_the_threshold_fires() {
        assert_eq!(HARD.forward(&[1.0]).s, [true]);
        assert_eq!(HARD.forward(&[1.0 - 1e-12]).s, [false]);
    }

    #[test]
    fn backward_is_the_gradient_of_the_relaxed_neuron() {
        // With the spike replaced by the surrogate's own primitive the loss is smooth, and BPTT must equal its central
        // differences; only then is u·(1 − s) with s in (0, 1), so the reference is written out here.
        let surrogate = Surrogate::Sigmoid(Sigmoid { alpha: 3.0 });
        let weights = [0.7, -1.1, 0.4, 0.9];
        for reset in [Reset::Hard, Reset::Soft] {
            let lif = Lif { reset, ..HARD };
            let loss = |current: &[f64]| {
                let (mut u, mut s, mut sum) = (0.0, 0.0, 0.0);
                for (i, w) in current.iter().zip(weights) {
                    let kept = if reset == Reset::Hard { u * (1.0 - s) } else { u - lif.v_th * s };
                    u = lif.tau * kept + i;
                    s = surrogate.primitive(u - lif.v_th);
                    sum += w * s;
                }
                sum
            };
            let current = [0.9, 0.3, 1.4, 0.2];
            // The relaxed backward: the same recursion with s real.
            let (mut u, mut s) = (Vec::new(), Vec::new());
            for (t, i) in current.iter().enumerate() {
                let kept = match (t, reset) {
                    (0, _) => 0.0,
                    (_, Reset::Hard) => u[t - 1] * (1.0 - s[t - 1]),
                    (_, Reset::Soft) => u[t - 1] - lif.v_th * s[t - 1],
                };
                u.push(lif.tau * kept + i);
                s.push(surrogate.primitive(u[t] - lif.v_th));
            }
            let mut carried = 0.0;
            for t in (0..4).rev() {
                let d = surrogate.derivative(u[t] - lif.v_th);
                let kept = if reset == Reset::Hard { 1.0 - s[t] - u[t] * d } else { 1.0 - lif.v_th * d };
                let g = weights[t] * d + carried * kept;
                let mut up = current;
                let mut down = current;
                up[t] += 1e-6;
                down[t] -= 1e-6;
                assert!((g - (loss(&up) - loss(&down)) / 2e-6).abs() < 1e-8);
                carried = lif.tau * g;
            }
        }
    }

    #[test]
    fn a_hand_computed_gradient() {
        // T = 2, b → 0 (derivative 1 inside |v| <= 1/2), tau 0.5, v_th 1: u = [0.8, 0.9], no spike.
        let surrogate = Surrogate::Dspike(Dspike { temperature: 0.01 });
        let trace = HARD.forward(&[0.8, 0.5]);
        assert_eq!(trace.u, [0.8, 0.9]);
        let grad = HARD.backward(&trace, &[1.0, 1.0], &surrogate);
        // gu[1] = 1; gu[0] = 1 + 0.5 · 1 · (1 − 0.8) = 1.1.
        assert!((grad[1] - 1.0).abs() < 1e-4 && (grad[0] - 1.1).abs() < 1e-4, "{grad:?}");
        let detached = Lif { detach_reset: true, ..HARD }.backward(&trace, &[1.0, 1.0], &surrogate);
        assert!((detached[0] - 1.5).abs() < 1e-4, "{detached:?}");
    }

    #[test]
    fn tau_outside_zero_to_one_is_refused() {
        for tau in [0.0, -0.1, 1.1, f64::NAN] {
            assert!(Lif { tau, ..HARD }.validate().is_err());
        }
        assert!(Lif { tau: 1.0, ..HARD }.validate().is_ok());
    }
}
