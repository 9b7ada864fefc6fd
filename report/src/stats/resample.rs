//! Estimates that resample or sort the values instead of assuming a distribution.

use super::{CONFIDENCE, mean};

/// Resamples of a bootstrap interval.
const RESAMPLES: usize = 10_000;

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
