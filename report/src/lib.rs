//! Reads result CSV files and draws the comparison report. Knows no tensor and no training.

pub mod deviations;
mod html;
mod local;
mod markdown;
mod model;
mod page;
mod plot;
pub mod published;
pub mod record;
mod render;
mod results;
mod section;
mod series;
pub mod stats;
pub mod verdict;

pub use render::{Rendered, render};
