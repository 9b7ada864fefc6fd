//! Two sources of chance in a difference of two accuracies: the seeds, and the choice of the test images.

use std::fmt::{Display, Formatter};

use serde::Serialize;

use super::proportion::two_sided_normal_quantile;
use super::{CONFIDENCE, mean, std};

/// Two standard errors are called alike if they differ by at most this share of the larger one.
const ALIKE: f64 = 0.1;

/// A difference of two accuracies, with the error that comes from a finite test set.
#[derive(Clone, Debug, PartialEq)]
pub struct ImageError {
    /// Number of test images.
    pub n_images: usize,
    /// Mean difference over the images, as a fraction: accuracy of A minus accuracy of B.
    pub difference: f64,
    /// Standard error of the difference if the images are a random sample: s/√n, with s the standard deviation
    /// (n − 1) of the per-image differences.
    pub standard_error: f64,
    /// 95 % normal interval of the difference. It is not cut: a difference of accuracies lies in [−1, 1].
    pub interval: (f64, f64),
}

/// The mean of per-image differences, with its error over the choice of the images. `None` below two images.
///
/// `differences[i]` belongs to test image i: the mean over seeds of (A is right) − (B is right), in [−1, 1]. With few
/// seeds this mean still contains noise of the seeds, so the standard error is rather too large than too small.
/// The normal quantile is used because test sets hold thousands of images.
pub fn over_images(differences: &[f64]) -> Option<ImageError> {
    let standard_error = standard_error(differences)?;
    let difference = mean(differences)?;
    let half = two_sided_normal_quantile(CONFIDENCE)? * standard_error;
    let interval = (difference - half, difference + half);
    Some(ImageError { n_images: differences.len(), difference, standard_error, interval })
}

/// Standard error over the choice of seeds: s/√n of the differences in accuracy, one per seed and as fractions.
/// `None` below two seeds.
pub fn standard_error_of_seeds(differences: &[f64]) -> Option<f64> {
    standard_error(differences)
}

/// s/√n of the mean; `None` below two values.
fn standard_error(values: &[f64]) -> Option<f64> {
    Some(std(values)? / (values.len() as f64).sqrt())
}

/// Which source of chance has the larger standard error, and so limits a comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dominant {
    /// More seeds would narrow the comparison most.
    Seeds,
    /// A larger test set would narrow the comparison most.
    Images,
    /// The two standard errors differ by at most 10 % of the larger one.
    Alike,
}

/// Compares the standard error over seeds with the standard error over test images. `None` if either is unknown or not
/// a finite number.
pub fn dominant(seeds: Option<f64>, images: Option<f64>) -> Option<Dominant> {
    let (seeds, images) = seeds.zip(images).filter(|(seeds, images)| seeds.is_finite() && images.is_finite())?;
    Some(match seeds - images {
        apart if apart.abs() <= ALIKE * seeds.max(images) => Dominant::Alike,
        apart if apart > 0.0 => Dominant::Seeds,
        _ => Dominant::Images,
    })
}

impl Display for Dominant {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Seeds => "the choice of seeds",
            Self::Images => "the choice of test images",
            Self::Alike => "both alike",
        })
    }
}
