//! Predictions for every test image: `cells/<cell_id>/predictions.npy`, one file per cell.
//!
//! The file lists the images in the order of the test set. `numpy.load` reads it as a structured array with the fields
//! `label`, `predicted` (unsigned, 16 bits each) and `right` (boolean). [`paired`] compares two methods image by image.

mod npy;
mod pairs;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, anyhow, ensure};

pub use pairs::{PairedImages, SeedPair, paired};

use crate::stats::{CONFIDENCE, mean, wilson};

/// Largest file that is read, in bytes. It holds 53 million images, far more than any test set in use.
const MAX_BYTES: u64 = 1 << 28;

/// One cell's answers on the test set. All three lists have one entry per image, in the order of the test set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Predictions {
    /// True class of each image.
    pub label: Vec<u16>,
    /// Class with the largest logit; of equal logits, the class with the lowest index.
    pub predicted: Vec<u16>,
    /// Whether the image counted as right in the cell's top-1 accuracy. Every accuracy is computed from this list.
    /// It equals `label == predicted` except where logits are not finite.
    pub right: Vec<bool>,
}

/// The accuracy on the test images of one class.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassAccuracy {
    /// The true class.
    pub class: u16,
    /// Number of its images that were answered rightly.
    pub right: usize,
    /// Number of its images.
    pub n: usize,
    /// 95 % Wilson interval of right/n, as fractions.
    pub interval: (f64, f64),
}

/// Longest file name of common file systems, in bytes.
const LONGEST_NAME: usize = 255;

/// The file with a cell's predictions. `None` if the id is no plain file name: ids come from a CSV file, and one like
/// `../x` must not lead out of the folder.
fn path_of(dir: &Path, cell_id: &str) -> Option<PathBuf> {
    let mut components = Path::new(cell_id).components();
    let plain = matches!((components.next(), components.next()), (Some(Component::Normal(_)), None))
        && !cell_id.contains(['/', '\\', '\0'])
        && cell_id.len() <= LONGEST_NAME;
    plain.then(|| dir.join("cells").join(cell_id).join("predictions.npy"))
}

impl Predictions {
    /// Reads the predictions of a cell of a result folder. Returns `None` if the cell kept none.
    ///
    /// # Errors
    /// As [`Predictions::read`].
    pub fn of_cell(dir: &Path, cell_id: &str) -> Result<Option<Self>> {
        path_of(dir, cell_id).map_or(Ok(None), |path| Self::read(&path))
    }

    /// Reads one file. Returns `None` if the file does not exist.
    ///
    /// # Errors
    /// An unreadable file, a file above 256 MiB, and every departure from the format. The message names the file, the
    /// first wrong byte (counted from 0), what was expected there, and what to do.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        let shown = path.display();
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("opening {shown}")),
        };
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).with_context(|| format!("reading {shown}"))?;
        ensure!(
            bytes.len() as u64 <= MAX_BYTES,
            "{shown}: byte {MAX_BYTES}: expected the end of the file, because no test set needs more than {MAX_BYTES} \
             bytes of predictions; delete the file, or restore the one that the cell wrote"
        );
        Self::from_npy(&bytes).map(Some).map_err(|problem| {
            anyhow!(
                "{shown}: {problem}; the file is damaged or was written by another program: delete it and the report \
                 leaves these predictions out, or delete the cell's folder and run the suite's command again"
            )
        })
    }

    /// Parses the bytes of a file.
    ///
    /// # Errors
    /// A sentence with the first wrong byte (counted from 0) and with what was expected there.
    pub fn from_npy(bytes: &[u8]) -> Result<Self, String> {
        npy::parse(bytes)
    }

    /// The bytes of a file, identical to what `numpy.save` writes for the same array. If the lists differ in length,
    /// the shortest one decides.
    pub fn to_npy(&self) -> Vec<u8> {
        npy::write(self)
    }

    /// Number of test images.
    pub fn n_images(&self) -> usize {
        self.label.len().min(self.predicted.len()).min(self.right.len())
    }

    /// Top-1 accuracy as a fraction; `None` without images.
    pub fn accuracy(&self) -> Option<f64> {
        mean(&self.right.iter().map(|&right| f64::from(right)).collect::<Vec<_>>())
    }

    /// One entry per class that occurs as a label, in ascending order.
    pub fn per_class(&self) -> Vec<ClassAccuracy> {
        let mut counts: BTreeMap<u16, (usize, usize)> = BTreeMap::new();
        for (&label, &right) in self.label.iter().zip(&self.right) {
            let (of_class, n) = counts.entry(label).or_default();
            *of_class += usize::from(right);
            *n += 1;
        }
        let accuracy = |(class, (right, n))| {
            wilson(right, n, CONFIDENCE).map(|interval| ClassAccuracy { class, right, n, interval })
        };
        counts.into_iter().filter_map(accuracy).collect()
    }

    /// Confusions as (label, predicted class, number of images), without the diagonal and without empty entries. The
    /// most frequent one comes first; equal counts are in ascending order of label, then of predicted class.
    pub fn confusion(&self) -> Vec<(u16, u16, usize)> {
        let mut counts: BTreeMap<(u16, u16), usize> = BTreeMap::new();
        for (&label, &predicted) in
            self.label.iter().zip(&self.predicted).filter(|(label, predicted)| label != predicted)
        {
            *counts.entry((label, predicted)).or_default() += 1;
        }
        let mut confusion: Vec<_> = counts.into_iter().map(|((label, predicted), n)| (label, predicted, n)).collect();
        // The sort is stable, so equal counts keep the map's order.
        confusion.sort_by_key(|&(_, _, n)| std::cmp::Reverse(n));
        confusion
    }
}

#[cfg(test)]
mod tests;
