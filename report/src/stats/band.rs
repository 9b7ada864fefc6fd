//! A measured mean against a band around a published number.

use super::t_interval;

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
