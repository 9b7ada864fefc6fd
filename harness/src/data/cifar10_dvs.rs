//! CIFAR10-DVS: its folder of recordings, `<class>/cifar10_<class>_<n>.aedat`, and its splits.

use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::Result;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::aedat::{self, Event};
use super::catalog::{CIFAR10_CLASSES as CLASSES, RECORDINGS_PER_CLASS as PER_CLASS};
use super::frame_store::Recordings;
use super::{DatasetName, SplitRule, hex, sums};
use crate::exit::data;
use crate::rng::{Purpose, Stream};

/// A recording's file.
struct File {
    path: PathBuf,
    label: u8,
    number: usize,
    /// Size in bytes and time of change: what a cache notices a replaced file by.
    stamp: (u64, u128),
    /// The SHA-256 it had when `data fetch` unpacked it from the official archive; `None` where that is not known.
    official: Option<String>,
}

/// All recordings of a folder, by class, then by number.
pub(super) struct Listing {
    folder: PathBuf,
    files: Vec<File>,
}

/// (recording, label) of each sample.
type Samples = Vec<(usize, u8)>;

impl Listing {
    /// Lists the folder. Refuses an absent or empty class, a name out of the pattern, and the AEDAT 4 edition.
    pub fn new(folder: &Path) -> Result<Self> {
        let mut files = Vec::new();
        for (label, class) in CLASSES.iter().enumerate() {
            let from = files.len();
            let class_folder = folder.join(class);
            for entry in WalkDir::new(&class_folder).follow_links(true).max_depth(1).sort_by_file_name() {
                let cannot =
                    |error: &dyn std::fmt::Display| data(format!("{} cannot be read: {error}", class_folder.display()));
                let entry = entry.map_err(|error| cannot(&error))?;
                if let Some(number) = number_of(entry.path(), class)? {
                    let metadata = entry.metadata().map_err(|error| cannot(&error))?;
                    let changed = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                    let stamp = (metadata.len(), changed.unwrap_or_default().as_nanos());
                    files.push(File { path: entry.into_path(), label: label as u8, number, stamp, official: None });
                }
            }
            if files.len() == from {
                let shown = class_folder.display();
                return Err(data(format!("{shown} holds no recordings; expected cifar10_{class}_0.aedat and so on")));
            }
            files[from..].sort_by_key(|file| file.number);
        }
        // Recordings that were added or taken away move the split: then nothing here is the official set.
        let sums = sums::official_sums(DatasetName::Cifar10Dvs, folder);
        if sums.keys().filter(|path| path.extension().is_some_and(|extension| extension == "aedat")).count()
            == files.len()
        {
            files.iter_mut().for_each(|file| file.official = sums.get(&file.path).cloned());
        }
        Ok(Self { folder: folder.to_path_buf(), files })
    }

    /// Training and test samples under `rule`. The rules are for 1,000 recordings a class: of fewer, the same shares
    /// (at least one recording on each side) are taken, with a warning.
    pub fn split(&self, rule: SplitRule) -> Result<(Samples, Samples)> {
        let (mut train, mut test) = (Vec::new(), Vec::new());
        for (label, class) in CLASSES.iter().enumerate() {
            let numbers: Vec<usize> =
                (0..self.files.len()).filter(|&i| usize::from(self.files[i].label) == label).collect();
            let n = numbers.len();
            if n < 2 {
                let folder = self.folder.display();
                return Err(data(format!("{folder}/{class} holds {n} recordings; a split needs at least 2")));
            }
            if n != PER_CLASS {
                tracing::warn!("{class}: {n} recordings, not {PER_CLASS}: `{rule}` takes the same share of them");
            }
            let share = |of_1000: usize| ((of_1000 * n + PER_CLASS / 2) / PER_CLASS).clamp(1, n - 1);
            let is_test: Vec<bool> = match rule {
                SplitRule::First(k) => (0..n).map(|i| i >= share(k)).collect(),
                SplitRule::Last(k) => (0..n).map(|i| i >= n - share(k)).collect(),
                SplitRule::Random(seed) => {
                    let order = Stream::new(seed, Purpose::Split, (label as u64, 0)).permutation(n);
                    let mut is_test = vec![false; n];
                    order[..share(100)].iter().for_each(|&i| is_test[i] = true);
                    is_test
                }
                _ => (0..n).map(|i| i < share(100)).collect(),
            };
            for (number, is_test) in numbers.into_iter().zip(is_test) {
                if is_test { test.push((number, label as u8)) } else { train.push((number, label as u8)) }
            }
        }
        Ok((train, test))
    }

    /// Forgets the recordings that no sample uses, and renumbers.
    pub fn keep_only(&mut self, train: &mut Samples, test: &mut Samples) {
        let mut new_number = vec![None; self.files.len()];
        train.iter().chain(test.iter()).for_each(|&(i, _)| new_number[i] = Some(0));
        for (next, number) in new_number.iter_mut().flatten().enumerate() {
            *number = next;
        }
        let mut number = 0;
        self.files.retain(|_| {
            number += 1;
            new_number[number - 1].is_some()
        });
        for (i, _) in train.iter_mut().chain(test.iter_mut()) {
            *i = new_number[*i].unwrap_or_default();
        }
    }
}

/// The number in `cifar10_<class>_<n>.aedat`; `None` for a file that is not a recording.
fn number_of(path: &Path, class: &str) -> Result<Option<usize>> {
    let extension = path.extension().unwrap_or_default();
    if extension == "aedat4" {
        return Err(data(format!(
            "{} is of the AEDAT 4 edition; this harness reads the original AEDAT 2.0 files (`harness data fetch cifar10-dvs`)",
            path.display()
        )));
    }
    if extension != "aedat" {
        return Ok(None);
    }
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let number =
        stem.and_then(|stem| stem.strip_prefix("cifar10_")?.strip_prefix(class)?.strip_prefix('_')?.parse().ok());
    number.map(Some).ok_or_else(|| {
        data(format!("{}: expected the name cifar10_{class}_<number>.aedat; rename or remove it", path.display()))
    })
}

impl Recordings for Listing {
    fn len(&self) -> usize {
        self.files.len()
    }

    fn identity(&self) -> String {
        let line = |file: &File| {
            let (size, changed) = file.stamp;
            let official = file.official.as_deref().unwrap_or("unverified");
            format!("{} {} {size} {changed} {official}\n", file.label, file.number)
        };
        self.files.iter().map(line).collect()
    }

    fn name(&self, index: usize) -> String {
        self.files[index].path.display().to_string()
    }

    fn read(&self, index: usize) -> Result<([u8; 32], Vec<Event>)> {
        let name = self.name(index);
        let bytes =
            std::fs::read(&self.files[index].path).map_err(|error| data(format!("{name} cannot be read: {error}")))?;
        let recording = aedat::read(&bytes, &name)?;
        recording.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
        Ok((Sha256::digest(&bytes).into(), recording.events))
    }

    fn is_official(&self, index: usize, sha256: &[u8; 32]) -> bool {
        self.files[index].official.as_ref().is_some_and(|official| *official == hex(sha256))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listing(per_class: usize) -> Listing {
        let files = (0..10 * per_class).map(|i| File {
            path: PathBuf::new(),
            label: (i / per_class) as u8,
            number: i % per_class,
            stamp: (0, 0),
            official: None,
        });
        Listing { folder: PathBuf::new(), files: files.collect() }
    }

    /// Numbers within class 3 of a split's test samples.
    fn test_of_class_3(per_class: usize, rule: &str) -> Vec<usize> {
        let listing = listing(per_class);
        let (train, test) = listing.split(rule.parse().unwrap()).unwrap();
        assert_eq!(train.len() + test.len(), 10 * per_class);
        assert!(train.iter().all(|sample| !test.contains(sample)));
        test.iter().filter(|&&(_, label)| label == 3).map(|&(i, _)| listing.files[i].number).collect()
    }

    #[test]
    fn splits_are_their_manifests() {
        assert_eq!(test_of_class_3(1000, "last100"), (900..1000).collect::<Vec<_>>());
        assert_eq!(test_of_class_3(1000, "tebn"), (0..100).collect::<Vec<_>>());
        assert_eq!(test_of_class_3(1000, "first700"), (700..1000).collect::<Vec<_>>());
        let random = test_of_class_3(1000, "random@7");
        assert_eq!(random.len(), 100);
        assert_eq!(random, test_of_class_3(1000, "random@7"));
        assert_ne!(random, test_of_class_3(1000, "random@8"));
        assert!(random.iter().any(|&n| n < 500) && random.iter().any(|&n| n >= 500));
    }

    #[test]
    fn fewer_recordings_are_split_in_the_same_shares() {
        assert_eq!(test_of_class_3(20, "last100"), [18, 19]);
        assert_eq!(test_of_class_3(2, "last100"), [1]);
        assert_eq!(test_of_class_3(2, "tebn"), [0]);
        assert!(listing(1).split(SplitRule::Tebn).is_err());
    }

    #[test]
    fn forgetting_recordings_keeps_samples_on_theirs() {
        let mut listing = listing(5);
        let (mut train, mut test) = (vec![(7, 1), (40, 8)], vec![(12, 2)]);
        listing.keep_only(&mut train, &mut test);
        assert_eq!((train, test), (vec![(0, 1), (2, 8)], vec![(1, 2)]));
        let kept: Vec<_> = listing.files.iter().map(|file| (file.label, file.number)).collect();
        assert_eq!(kept, [(1, 2), (2, 2), (8, 0)]);
    }
}
