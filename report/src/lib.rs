//! Reads result CSV files and draws the comparison report. Knows no tensor and no training.

pub mod deviations;
mod local;
pub mod published;
pub mod record;
pub mod stats;
