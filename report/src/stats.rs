//! Statistics over seeds. Accuracies are fractions here, as in the files; nothing is rounded.
//!
//! Checked against SciPy: `scripts/stats_golden.py` writes the values that the tests compare with.

use statrs::distribution::{ContinuousCDF, StudentsT};
use statrs::function::gamma::ln_gamma;

/// Two-sided confidence of every interval in the report, unless said otherwise.
pub const CONFIDENCE: f64 = 0.95;
/// Resamples of a bootstrap interval.
const RESAMPLES: usize = 10_000;

/// Mean and spread of one number over seeds. With one seed there is no spread, and none is pretended.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Number of seeds.
    pub n: usize,
    /// Arithmetic mean.
    pub mean: f64,
    /// Sample standard deviation (n − 1); `None` for n = 1.
    pub std: Option<f64>,
    /// 95 % t interval of the mean; `None` for n = 1.
    pub interval: Option<(f64, f64)>,
}

impl Summary {
    /// `None` where nothing was measured.
    pub fn of(values: &[f64]) -> Option<Self> {
        let n = values.len();
        let mean = mean(values)?;
        let std = std(values);
        let interval = t_interval(values, CONFIDENCE);
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
fn student(n: usize) -> Option<StudentsT> {
    n.checked_sub(1).filter(|&freedom| freedom > 0).and_then(|freedom| StudentsT::new(0.0, 1.0, freedom as f64).ok())
}

/// Two-sided t interval of the mean; `None` below two values.
pub fn t_interval(values: &[f64], confidence: f64) -> Option<(f64, f64)> {
    let (n, mean, std) = (values.len(), mean(values)?, std(values)?);
    let half = student(n)?.inverse_cdf(0.5 + confidence / 2.0) * std / (n as f64).sqrt();
    Some((mean - half, mean + half))
}

/// Percentile bootstrap interval of the mean (95 %), from a seeded stream of its own: the same values give the same
/// interval. `None` below two values. Much too narrow below about five, so the report shows it from there on.
pub fn bootstrap_interval(values: &[f64]) -> Option<(f64, f64)> {
    let n = values.len();
    if n < 2 {
        return None;
    }
    let mut stream = SplitMix64(0x5EED_0F7E_B007_57A9);
    let mut means: Vec<f64> =
        (0..RESAMPLES).map(|_| (0..n).map(|_| values[stream.below(n)]).sum::<f64>() / n as f64).collect();
    means.sort_by(f64::total_cmp);
    let tail = (1.0 - CONFIDENCE) / 2.0;
    Some((quantile(&means, tail), quantile(&means, 1.0 - tail)))
}

/// Quantile of sorted values by linear interpolation (NumPy's default).
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    low + (high - low) * place.fract()
}

/// Interquartile mean: the mean of the middle half, cut off by whole values as in `scipy.stats.trim_mean(x, 0.25)`.
/// `None` below five values.
pub fn interquartile_mean(values: &[f64]) -> Option<f64> {
    if values.len() < 5 {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let cut = values.len() / 4;
    mean(&sorted[cut..values.len() - cut])
}

/// Paired comparison of two methods over the seeds they share.
#[derive(Clone, Debug, PartialEq)]
pub struct Paired {
    /// Number of pairs.
    pub n: usize,
    /// Mean of the differences a − b.
    pub difference: f64,
    /// 95 % t interval of the mean difference; `None` for one pair.
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
    // Equal differences come out a few rounding errors apart: no spread to test against.
    let spread = std(differences).filter(|&std| std > 1e-9 * (1.0 + difference.abs()));
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

/// Smallest true difference from a fixed number that n seeds of this spread would show as significant (two-sided
/// 5 %) four times in five: (t₀.₉₇₅ + t₀.₈₀)·s/√n. `None` for n < 2.
pub fn detectable_difference(n: usize, std: f64) -> Option<f64> {
    let student = student(n)?;
    Some((student.inverse_cdf(0.975) + student.inverse_cdf(0.8)) * std / (n as f64).sqrt())
}

/// Where a measured mean stands against a band around a published number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Band {
    /// The 90 % interval lies within the band (two one-sided tests at 5 %).
    Within,
    /// It lies wholly below the band.
    Below,
    /// It lies wholly above the band.
    Above,
    /// Neither: the seeds cannot tell.
    Undecided,
}

/// Holds the 90 % t interval of the mean against `centre ± half_width`; one value decides nothing.
pub fn band(values: &[f64], centre: f64, half_width: f64) -> Band {
    match t_interval(values, 0.9) {
        Some((low, high)) if low >= centre - half_width && high <= centre + half_width => Band::Within,
        Some((_, high)) if high < centre - half_width => Band::Below,
        Some((low, _)) if low > centre + half_width => Band::Above,
        _ => Band::Undecided,
    }
}

/// Steele, Lea and Flood's generator; enough for resampling, and the same on every machine.
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Below n, by multiplication (bias below n/2⁶⁴).
    fn below(&mut self, n: usize) -> usize {
        ((u128::from(self.next()) * n as u128) >> 64) as usize
    }
}

#[cfg(test)]
mod tests;
