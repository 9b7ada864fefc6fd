//! Reads result CSV files and draws the comparison report. Knows no tensor and no training.

pub mod record;
pub mod stats;
