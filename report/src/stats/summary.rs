//! Mean, spread and t interval of one number over seeds.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::{CONFIDENCE, clip_interval};

/// Mean and spread over seeds of a fraction, such as an accuracy. With one seed there is no spread,
/// and none is pretended.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Number of seeds.
    pub n: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation (n − 1); `None` for n = 1.
    pub std: Option<f64>,
    /// 95 % t interval of the mean, cut to [0, 1]; `None` for n = 1. The mean of fractions cannot lie outside, so the
    /// cut removes no value that the mean could have: the coverage stays the same.
    pub interval: Option<(f64, f64)>,
}

impl Summary {
    /// Summarises fractions in [0, 1]; `None` where nothing was measured. Values that may lie outside (a loss, a
    /// difference) need [`t_interval`] instead, whose interval is not cut.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        let mean = mean(values)?;
        let std = std(values);
        let interval = t_interval(values, CONFIDENCE).map(|interval| clip_interval(interval, 0.0, 1.0));
        Some(Self { n, mean, std, interval })
    }
}

/// Arithmetic mean; `None` for no values.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Sample standard deviation (divisor n − 1); `None` below two values.
pub fn std(values: &[f64]) -> Option<f64> {
    let n = values.len();
    let mean = mean(values)?;
    (n > 1).then(|| (values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (n - 1) as f64).sqrt())
}

/// Student's t with n − 1 degrees of freedom; `None` for n < 2.
pub(super) fn student(n: usize) -> Option<StudentsT> {
    n.checked_sub(1).filter(|&freedom| freedom > 0).and_then(|freedom| StudentsT::new(0.0, 1.0, freedom as f64).ok())
}

/// The standard deviation as a scale to test against; `None` below two values and where all are equal. Equal values
/// come out a few rounding errors apart, and say nothing about how far the next one would lie.
pub(super) fn spread(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    std(values).filter(|&std| std > 1e-9 * (1.0 + mean.abs()))
}

/// Two-sided t interval of the mean; `None` below two values and where all are equal.
pub fn t_interval(values: &[f64], confidence: f64) -> Option<(f64, f64)> {
    let (n, mean, std) = (values.len(), mean(values)?, spread(values)?);
    let half = student(n)?.inverse_cdf(0.5 + confidence / 2.0) * std / (n as f64).sqrt();
    Some((mean - half, mean + half))
}

/// Smallest true difference from a fixed number that n seeds of this spread would show as significant (two-sided
/// 5 %) four times in five: (t₀.₉₇₅ + t₀.₈₀)·s/√n. `None` for n < 2 and for no spread.
pub fn detectable_difference(n: usize, std: f64) -> Option<f64> {
    if std <= 1e-9 {
        return None;
    }
    let student = student(n)?;
    Some((student.inverse_cdf(0.975) + student.inverse_cdf(0.8)) * std / (n as f64).sqrt())
}
