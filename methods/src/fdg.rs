//! FDG: the finite-difference gradient of the first layer, and the choice of Dspike's temperature by it
//! (Li et al. 2021, Algorithm 1).

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

/// How the temperature is chosen: once an epoch, before training it, on one training batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fdg {
    /// Size of the central difference (the paper: 0.1).
    pub epsilon: f64,
    /// Distance of the candidates b ± step (the paper: 0.2).
    pub step: f64,
    /// Smallest temperature; the grid would reach 0, where the formula is 0/0.
    pub floor: f64,
    /// Largest temperature.
    pub cap: f64,
    /// Images in the batch on which both gradients are taken.
    pub batch: usize,
}

/// A surrogate gradient held against the finite-difference gradient.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fidelity {
    /// Cosine of the angle between the two; 0 where either is zero.
    pub cosine: f64,
    /// ‖surrogate gradient‖ / ‖finite-difference gradient‖; 0 where the latter is zero.
    pub norm_ratio: f64,
    /// Share of the weights on which the signs agree, among those where both are not zero.
    pub sign_agreement: f64,
}

impl Fdg {
    /// Refuses settings with which no temperature can be chosen.
    pub fn validate(&self) -> Result<()> {
        let Self { epsilon, step, floor, cap, batch } = *self;
        ensure!(epsilon > 0.0 && epsilon.is_finite(), "fdg.epsilon = {epsilon}, but it must be above 0");
        ensure!(step > 0.0 && step.is_finite(), "fdg.step = {step}, but it must be above 0");
        ensure!(
            0.01 <= floor && floor <= cap && cap <= 100.0,
            "fdg.floor = {floor}, fdg.cap = {cap}, but 0.01 <= floor <= cap <= 100 must hold"
        );
        ensure!(batch > 0, "fdg.batch = 0, but the gradient needs at least one image");
        Ok(())
    }

    /// The step and the bounds.
    pub fn grid(&self) -> Grid {
        Grid { step: self.step, floor: self.floor, cap: self.cap }
    }

    /// `{b, b + step, b − step}`, clamped to the floor and the cap, without repetition; b first.
    ///
    /// Rounded to a multiple of 1e-9, so that b does not drift off its grid.
    pub fn candidates(&self, temperature: f64) -> Vec<f64> {
        let mut list = Vec::with_capacity(3);
        for b in [temperature, temperature + self.step, temperature - self.step] {
            let b = self.grid().settled(b);
            if !list.contains(&b) {
                list.push(b);
            }
        }
        list
    }
}

/// The bounds within which a temperature moves, and how far at a time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Grid {
    /// Distance of one move.
    pub step: f64,
    /// Smallest temperature.
    pub floor: f64,
    /// Largest temperature.
    pub cap: f64,
}

impl Grid {
    /// The temperature one step up or down, within the bounds and on the grid that [`Fdg::candidates`] has.
    pub fn moved(&self, temperature: f64, up: bool) -> f64 {
        self.settled(if up { temperature + self.step } else { temperature - self.step })
    }

    /// Rounded to a multiple of 1e-9, so that b does not drift off its grid, and within the bounds.
    pub fn settled(&self, temperature: f64) -> f64 {
        ((temperature * 1e9).round() / 1e9).clamp(self.floor, self.cap)
    }
}

/// Index of the highest cosine; ties keep the earliest, which is b itself.
pub fn choose(cosines: &[f64]) -> usize {
    let mut best = 0;
    for (i, cosine) in cosines.iter().enumerate() {
        if *cosine > cosines[best] {
            best = i;
        }
    }
    best
}

/// Central differences of a loss over `weights`: `g[i] = (loss(w + ε eᵢ) − loss(w − ε eᵢ)) / 2ε`.
///
/// The plain definition: each loss from scratch, in order. Faster ways are held against it.
pub fn finite_difference_gradient(
    weights: &[f32],
    epsilon: f64,
    mut loss: impl FnMut(&[f32]) -> Result<f64>,
) -> Result<Vec<f64>> {
    let mut perturbed = weights.to_vec();
    let mut gradient = Vec::with_capacity(weights.len());
    for (i, &w) in weights.iter().enumerate() {
        let mut at = |w: f32| {
            perturbed[i] = w;
            loss(&perturbed)
        };
        let (up, down) = (at(perturb(w, epsilon))?, at(perturb(w, -epsilon))?);
        perturbed[i] = w;
        gradient.push((up - down) / (2.0 * epsilon));
    }
    Ok(gradient)
}

/// `w + ε` in f32, rounded once.
pub fn perturb(w: f32, epsilon: f64) -> f32 {
    (f64::from(w) + epsilon) as f32
}

/// Holds a surrogate gradient against the finite-difference gradient.
pub fn fidelity(surrogate: &[f32], finite_difference: &[f64]) -> Fidelity {
    let (mut dot, mut ss, mut ff, mut agree, mut both) = (0.0, 0.0, 0.0, 0usize, 0usize);
    for (&s, &f) in surrogate.iter().zip(finite_difference) {
        let s = f64::from(s);
        dot += s * f;
        ss += s * s;
        ff += f * f;
        both += usize::from(s != 0.0 && f != 0.0);
        agree += usize::from(s * f > 0.0);
    }
    let (s, f) = (ss.sqrt(), ff.sqrt());
    Fidelity {
        cosine: if s * f > 0.0 { dot / (s * f) } else { 0.0 },
        norm_ratio: if f > 0.0 { s / f } else { 0.0 },
        sign_agreement: if both > 0 { agree as f64 / both as f64 } else { 0.0 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FDG: Fdg = Fdg { epsilon: 0.1, step: 0.2, floor: 0.2, cap: 20.0, batch: 8 };

    #[test]
    fn candidates_are_b_and_its_neighbours_within_floor_and_cap() {
        assert_eq!(FDG.candidates(1.0), [1.0, 1.2, 0.8]);
        assert_eq!(FDG.candidates(0.2), [0.2, 0.4]);
        assert_eq!(FDG.candidates(20.0), [20.0, 19.8]);
        let mut b = 1.0;
        for _ in 0..50 {
            b = FDG.candidates(b)[1];
        }
        assert_eq!(b, 11.0); // fifty steps of 0.2, no drift
    }

    #[test]
    fn the_highest_cosine_wins_and_a_tie_keeps_b() {
        assert_eq!(choose(&[0.1, 0.3, 0.2]), 1);
        assert_eq!(choose(&[0.3, 0.3, 0.3]), 0);
        assert_eq!(choose(&[-0.3, -0.2, -0.3]), 1);
        assert_eq!(choose(&[f64::NAN, 0.1]), 0);
    }

    #[test]
    fn the_central_difference_of_a_quadratic_is_its_gradient() {
        let weights = [1.0f32, -2.0, 0.5];
        let loss = |w: &[f32]| Ok(w.iter().map(|&x| f64::from(x).powi(2)).sum());
        let gradient = finite_difference_gradient(&weights, 0.1, loss).unwrap();
        for (g, w) in gradient.iter().zip(weights) {
            assert!((g - 2.0 * f64::from(w)).abs() < 1e-5, "{g} against {}", 2.0 * w);
        }
    }

    #[test]
    fn fidelity_of_known_vectors() {
        let same = fidelity(&[2.0, 4.0], &[1.0, 2.0]);
        assert!(
            (same.cosine - 1.0).abs() < 1e-12 && (same.norm_ratio - 2.0).abs() < 1e-12 && same.sign_agreement == 1.0
        );
        let turned = fidelity(&[1.0, 1.0], &[1.0, -1.0]);
        assert!(turned.cosine.abs() < 1e-12 && turned.sign_agreement == 0.5);
        assert_eq!(fidelity(&[0.0, 0.0], &[1.0, 1.0]).cosine, 0.0);
    }
}
