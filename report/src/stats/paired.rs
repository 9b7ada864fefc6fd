//! Paired comparison of two methods over seeds, and the correction for many such comparisons.

use statrs::distribution::ContinuousCDF;
use statrs::function::gamma::ln_gamma;

use super::summary::{spread, student};
use super::{CONFIDENCE, mean, t_interval};

/// Paired comparison of two methods over the seeds they share.
#[derive(Clone, Debug, PartialEq)]
pub struct Paired {
    /// Number of pairs.
    pub n: usize,
    /// Mean of the differences a − b.
    pub difference: f64,
    /// 95 % t interval of the mean difference; `None` for one pair, and where all differences are equal.
    pub interval: Option<(f64, f64)>,
    /// Two-sided p of the paired t test; `None` for one pair, and where all differences are equal.
    pub p: Option<f64>,
    /// Cohen's d_z (mean over standard deviation of the differences) with Hedges' small-sample correction;
    /// `None` as for `p`, and for two pairs (the correction is then 0).
    pub effect: Option<f64>,
}

/// Paired t test of the differences a − b. `None` for no pairs.
pub fn paired(differences: &[f64]) -> Option<Paired> {
    let (n, difference) = (differences.len(), mean(differences)?);
    let spread = spread(differences);
    let t = spread.map(|std| difference / (std / (n as f64).sqrt()));
    let p = t.zip(student(n)).map(|(t, student)| 2.0 * student.cdf(-t.abs()));
    let effect = spread.zip(hedges_correction(n)).map(|(std, correction)| correction * difference / std);
    Some(Paired { n, difference, interval: t_interval(differences, CONFIDENCE), p, effect })
}

/// Hedges' correction Γ(m/2) / (√(m/2)·Γ((m−1)/2)) for m = n − 1 degrees of freedom; 0 for m = 1, hence `None`.
fn hedges_correction(n: usize) -> Option<f64> {
    let m = n.checked_sub(1).filter(|&m| m > 1)? as f64;
    Some((ln_gamma(m / 2.0) - ln_gamma((m - 1.0) / 2.0)).exp() / (m / 2.0).sqrt())
}

/// Holm's step-down correction: adjusted p values, in the order given.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![0.0; p.len()];
    let mut running = 0.0f64;
    for (rank, &index) in order.iter().enumerate() {
        running = running.max(((p.len() - rank) as f64 * p[index]).min(1.0));
        adjusted[index] = running;
    }
    adjusted
}
