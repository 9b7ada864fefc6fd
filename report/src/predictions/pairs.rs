//! Two methods compared on the same test images, seed by seed.

use super::Predictions;
use crate::stats::{Dominant, ImageError, dominant, mcnemar, over_images, standard_error_of_seeds};

/// One seed's comparison of A and B.
#[derive(Clone, Debug, PartialEq)]
pub struct SeedPair {
    /// Number of images that only A answers rightly.
    pub only_a: usize,
    /// Number of images that only B answers rightly.
    pub only_b: usize,
    /// Accuracy of A minus accuracy of B, as a fraction.
    pub difference: f64,
    /// Two-sided p of the exact McNemar test. It holds for these two trained networks only: it says nothing about
    /// other seeds.
    pub p: f64,
}

/// The comparison of two methods over seeds and images.
#[derive(Clone, Debug, PartialEq)]
pub struct PairedImages {
    /// One entry per pair, in the order given.
    pub seeds: Vec<SeedPair>,
    /// One entry per image: the mean over seeds of (A is right) − (B is right), in [−1, 1].
    pub differences: Vec<f64>,
    /// Mean difference with its error over the choice of test images; `None` below two images.
    pub over_images: Option<ImageError>,
    /// Standard error of the mean difference over the choice of seeds, as a fraction; `None` below two seeds.
    pub standard_error_of_seeds: Option<f64>,
    /// Which of the two errors is larger; `None` if either is unknown.
    pub dominant: Option<Dominant>,
}

/// Compares A with B. `a[k]` and `b[k]` are the predictions of one seed.
///
/// # Errors
/// A sentence if the lists are empty or differ in length, if a file holds no image, or if any of them does not have the
/// same labels in the same order as the first one: images can then not be paired.
pub fn paired(a: &[Predictions], b: &[Predictions]) -> Result<PairedImages, String> {
    check_seeds(a, b)?;
    let mut sums = vec![0i64; a.first().map_or(0, Predictions::n_images)];
    let mut seeds = Vec::with_capacity(a.len());
    for (of_a, of_b) in a.iter().zip(b) {
        let (mut only_a, mut only_b) = (0, 0);
        for (sum, (&right_a, &right_b)) in sums.iter_mut().zip(of_a.right.iter().zip(&of_b.right)) {
            *sum += i64::from(right_a) - i64::from(right_b);
            only_a += usize::from(right_a && !right_b);
            only_b += usize::from(right_b && !right_a);
        }
        let difference = (only_a as f64 - only_b as f64) / sums.len() as f64;
        seeds.push(SeedPair { only_a, only_b, difference, p: mcnemar(only_a, only_b) });
    }
    let differences: Vec<f64> = sums.into_iter().map(|sum| sum as f64 / seeds.len() as f64).collect();
    let over_images = over_images(&differences);
    let standard_error_of_seeds =
        standard_error_of_seeds(&seeds.iter().map(|seed| seed.difference).collect::<Vec<_>>());
    let dominant = dominant(standard_error_of_seeds, over_images.as_ref().map(|error| error.standard_error));
    Ok(PairedImages { seeds, differences, over_images, standard_error_of_seeds, dominant })
}

/// Checks that every seed of A has a partner in B, and that all of them saw the same images.
fn check_seeds(a: &[Predictions], b: &[Predictions]) -> Result<(), String> {
    if a.len() != b.len() {
        return Err(format!(
            "A has the predictions of {} seeds and B of {}: pass the seeds that both have",
            a.len(),
            b.len()
        ));
    }
    let Some(first) = a.first() else {
        return Err("there are no predictions to compare: A and B share no seed".into());
    };
    if first.n_images() == 0 {
        return Err("predictions 1 of A hold no image: evaluate that cell again".into());
    }
    for (name, list) in [("A", a), ("B", b)] {
        for (index, other) in list.iter().enumerate() {
            check_images(first, other).map_err(|problem| {
                format!(
                    "predictions {} of {} of {name} belong to other test images than predictions 1 of A: {problem}; \
                     evaluate both methods with the same data set, version and number of test images",
                    index + 1,
                    list.len()
                )
            })?;
        }
    }
    Ok(())
}

fn check_images(first: &Predictions, other: &Predictions) -> Result<(), String> {
    if first.n_images() != other.n_images() {
        return Err(format!("there are {} images in one and {} in the other", first.n_images(), other.n_images()));
    }
    match first.label.iter().zip(&other.label).position(|(label, other)| label != other) {
        Some(at) => Err(format!(
            "image {at} (counted from 0) has label {} in one and {} in the other",
            first.label[at], other.label[at]
        )),
        None => Ok(()),
    }
}
