//! What a finished cell predicts on the test split: `predictions.npy`, which NumPy loads as a structured array.

use serde::{Deserialize, Serialize};

/// The file's name in a cell's folder.
pub const FILE: &str = "predictions.npy";

/// The first bytes of every NPY file, and version 1.0 of its format.
const MAGIC: &[u8] = b"\x93NUMPY\x01\x00";
/// Magic, version and header together are a multiple of this many bytes.
const ALIGNMENT: usize = 64;

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

/// The predictions as an NPY file, version 1.0: `label` and `predicted` as little-endian `u16`, `right` as a byte.
pub fn to_npy(predictions: &[Prediction]) -> Vec<u8> {
    let mut header = format!(
        "{{'descr': [('label', '<u2'), ('predicted', '<u2'), ('right', '?')], 'fortran_order': False, 'shape': ({},), }}",
        predictions.len()
    );
    let before = MAGIC.len() + size_of::<u16>();
    let whole = (before + header.len() + 1).next_multiple_of(ALIGNMENT);
    header.extend(std::iter::repeat_n(' ', whole - before - header.len() - 1));
    header.push('\n');
    let mut bytes = Vec::with_capacity(whole + 5 * predictions.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&(header.len() as u16).to_le_bytes());
    bytes.extend_from_slice(header.as_bytes());
    for prediction in predictions {
        bytes.extend_from_slice(&prediction.label.to_le_bytes());
        bytes.extend_from_slice(&prediction.predicted.to_le_bytes());
        bytes.push(prediction.is_right().into());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::readout::rank;

    #[test]
    fn an_npy_file_is_an_aligned_header_and_five_bytes_for_each_image() {
        let predictions = [(3, 3), (0, 999), (258, 1)].map(Prediction::from);
        let bytes = to_npy(&predictions);
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!((10 + length) % 64, 0);
        let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
        assert_eq!(
            header.trim_end_matches([' ', '\n']),
            "{'descr': [('label', '<u2'), ('predicted', '<u2'), ('right', '?')], 'fortran_order': False, \
             'shape': (3,), }"
        );
        assert!(header.ends_with('\n'));
        assert_eq!(bytes[10 + length..], [3, 0, 3, 0, 1, 0, 0, 231, 3, 0, 2, 1, 1, 0, 0]);
        assert_eq!(to_npy(&[]).len() % 64, 0);
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
