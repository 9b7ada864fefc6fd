//! Counts of right and wrong answers: the interval of a proportion, and the test of two paired proportions.

use statrs::distribution::{ContinuousCDF, Normal};

/// Wilson's score interval of a proportion: the true shares that a score test at `1 − confidence` does not reject after
/// `right` of `n` independent trials. `None` for n = 0, for more right answers than trials, and for a confidence outside
/// (0, 1).
///
/// With p = right/n and z the two-sided normal quantile, the ends are
/// (2np + z² ± z·√(z² + 4np(1 − p))) / (2(n + z²)), and they always lie in [0, 1].
/// Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference", JASA 22 (1927).
pub fn wilson(right: usize, n: usize, confidence: f64) -> Option<(f64, f64)> {
    if n == 0 || right > n {
        return None;
    }
    let z = two_sided_normal_quantile(confidence)?;
    let (trials, share) = (n as f64, right as f64 / n as f64);
    let divisor = 2.0 * (trials + z * z);
    let centre = (2.0 * trials * share + z * z) / divisor;
    let half = z * (z * z + 4.0 * trials * share * (1.0 - share)).sqrt() / divisor;
    // Rounding would leave the two ends that are known exactly a few units in the last place off.
    let low = if right == 0 { 0.0 } else { centre - half };
    let high = if right == n { 1.0 } else { centre + half };
    Some(clip_interval((low, high), 0.0, 1.0))
}

/// The z for which a standard normal number lies within ±z with this probability; `None` outside (0, 1).
pub(super) fn two_sided_normal_quantile(confidence: f64) -> Option<f64> {
    (confidence > 0.0 && confidence < 1.0).then(|| Normal::standard().inverse_cdf(0.5 + confidence / 2.0))
}

/// Two-sided p value of the exact McNemar test, for two methods that answer the same images.
///
/// `b` images were answered rightly by the first method only and `c` by the second only. If the methods are equally
/// good, `b` follows a binomial distribution of b + c trials at 1/2. The distribution is symmetric, so p is twice the
/// smaller tail, and at most 1. Without a discordant image p is 1. The time grows with min(b, c).
///
/// Source: Q. McNemar, Psychometrika 12 (1947); the exact form is that of `scipy.stats.binomtest(b, b + c, 0.5)`.
pub fn mcnemar(b: usize, c: usize) -> f64 {
    if b == c {
        return 1.0;
    }
    let (smaller, larger) = (b.min(c), b.max(c) as f64);
    let trials = smaller as f64 + larger;
    let mut term = binomial_at_half(smaller, larger);
    let mut tail = term;
    for successes in (1..=smaller).rev() {
        term *= successes as f64 / (trials - successes as f64 + 1.0);
        tail += term;
    }
    (2.0 * tail).min(1.0)
}

/// The probability of `smaller` successes and `larger` failures at 1/2: the binomial coefficient over a power of two.
/// The product is halved whenever it exceeds 1, because the coefficient alone overflows from about 1030 trials on.
fn binomial_at_half(smaller: usize, larger: f64) -> f64 {
    let mut halvings = smaller as f64 + larger;
    let mut product = 1.0;
    for i in 1..=smaller {
        product *= (larger + i as f64) / i as f64;
        while product > 1.0 && halvings > 0.0 {
            product *= 0.5;
            halvings -= 1.0;
        }
    }
    product * (-halvings).exp2()
}

/// Cuts an interval to `[min, max]`. If the estimated number is known to lie in `[min, max]`, the cut interval contains
/// it exactly when the whole interval does, so the coverage stays the same. NaN ends stay NaN.
pub fn clip_interval((low, high): (f64, f64), min: f64, max: f64) -> (f64, f64) {
    let clip = |end: f64| match end {
        end if end < min => min,
        end if end > max => max,
        end => end,
    };
    (clip(low), clip(high))
}
