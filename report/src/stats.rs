//! Statistics over seeds and over test images. Accuracies are fractions here, as in the files; nothing is rounded.
//!
//! Checked against SciPy: `scripts/stats_golden.py` writes the values that the tests compare with.

mod band;
mod images;
mod paired;
mod proportion;
mod resample;
mod summary;

pub use band::{Band, band};
pub use images::{Dominant, ImageError, dominant, over_images, standard_error_of_seeds};
pub use paired::{Paired, holm, paired};
pub use proportion::{clip_interval, mcnemar, wilson};
pub use resample::{bootstrap_interval, interquartile_mean};
pub use summary::{Summary, detectable_difference, mean, std, t_interval};

/// Two-sided confidence of every interval in the report, unless said otherwise.
pub const CONFIDENCE: f64 = 0.95;

#[cfg(test)]
mod tests;
