//! What a finished cell predicts on the test split: `predictions.npy`, which NumPy loads as a structured array.

use report::predictions::Predictions;
use serde::{Deserialize, Serialize};

/// The file's name in a cell's folder.
pub const FILE: &str = "predictions.npy";

/// The class of a test image, and the class that the network gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "(u16, u16)", into = "(u16, u16)")]
pub struct Prediction {
    /// Its class.
    pub label: u16,
    /// The class with the largest mean logit; of several, the first.
    pub predicted: u16,
}

/// A pair in JSON: a checkpoint keeps one for each image that it has evaluated.
impl From<Prediction> for (u16, u16) {
    fn from(Prediction { label, predicted }: Prediction) -> Self {
        (label, predicted)
    }
}

impl From<(u16, u16)> for Prediction {
    fn from((label, predicted): (u16, u16)) -> Self {
        Self { label, predicted }
    }
}

impl Prediction {
    /// The prediction of one image's mean logits. `right` says whether top-1 accuracy counts it (its label's rank is 0).
    /// If it does not, the label is left out of the search, so that `predicted == label` and `right` never disagree.
    pub fn of(logits: &[f32], label: u16, right: bool) -> Self {
        if right {
            return Self { label, predicted: label };
        }
        let mut largest: Option<(u16, f32)> = None;
        for (class, &logit) in (0..).zip(logits).filter(|(class, _)| *class != label) {
            if largest.is_none_or(|(_, before)| logit > before) {
                largest = Some((class, logit));
            }
        }
        Self { label, predicted: largest.map_or(label, |(class, _)| class) }
    }

    /// Whether top-1 accuracy counts it.
    pub fn is_right(self) -> bool {
        self.predicted == self.label
    }
}

/// The predictions as an NPY file; see [`Predictions::to_npy`].
pub fn to_npy(predictions: &[Prediction]) -> Vec<u8> {
    let of = |field: fn(&Prediction) -> u16| predictions.iter().map(field).collect();
    let right = predictions.iter().map(|prediction| prediction.is_right()).collect();
    Predictions { label: of(|p| p.label), predicted: of(|p| p.predicted), right }.to_npy()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::readout::rank;

    #[test]
    fn what_is_written_is_what_the_report_reads() {
        let predictions = [(3, 3), (0, 999), (258, 1)].map(Prediction::from);
        let read = Predictions::from_npy(&to_npy(&predictions)).unwrap();
        assert_eq!((read.label, read.predicted), (vec![3, 0, 258], vec![3, 999, 1]));
        assert_eq!(read.right, [true, false, false]);
    }

    #[test]
    fn a_prediction_is_right_just_when_the_rank_counts_it() {
        let nan = f32::NAN;
        for logits in [[1.0, 3.0, 2.0], [3.0, 3.0, 1.0], [2.0, 2.0, 2.0], [-1.0, -3.0, -2.0], [nan, nan, nan]] {
            for label in 0..3 {
                let right = rank(&logits, label.into()) == 0;
                assert_eq!(Prediction::of(&logits, label, right).is_right(), right, "{logits:?}, label {label}");
            }
        }
        // Of equal logits the first class wins, as it does in the rank.
        assert_eq!(Prediction::of(&[1.0, 3.0, 3.0], 0, false).predicted, 1);
        assert_eq!(Prediction::of(&[3.0, 1.0, 3.0], 2, false).predicted, 0);
    }
}
