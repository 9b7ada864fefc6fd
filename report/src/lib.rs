//! Reads result CSV files and draws the comparison report. Knows no tensor and no training.

mod check;
pub mod claims;
mod compare;
pub mod deviations;
mod expect;
mod html;
mod image_error;
mod local;
mod markdown;
mod matching;
mod model;
mod page;
mod pairing;
mod plot;
#[cfg(feature = "png")]
mod png;
pub mod predictions;
pub mod published;
pub mod record;
mod render;
mod results;
mod rows;
mod section;
mod series;
mod splice;
pub mod stats;
mod verdict;

pub use check::{Case, Change, Gate, Outcome, Tolerance, check};
pub use compare::{Compared, Comparison, compare};
pub use image_error::OverImages;
pub use render::{Rendered, render, render_against, render_together};
pub use splice::splice;
