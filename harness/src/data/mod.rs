//! The data sets, read from their official files.
//!
//! A sample is channel-last, already normalised, and depends on nothing but (seed, epoch, index): not on the number of
//! workers, nor on where a run was resumed.

pub mod aedat;
mod augment;
mod batches;
pub mod bench;
pub mod catalog;
pub(crate) mod cifar;
mod cifar10_dvs;
pub mod commands;
mod config;
pub(crate) mod decode;
mod download;
mod events;
mod fetch;
mod frame_store;
pub mod frames;
#[cfg(any(feature = "hub", test))]
mod hub;
mod image;
pub(crate) mod image_dataset;
pub(crate) mod image_index;
mod imagenet;
mod resample;
mod sign_digits;
pub mod simulate;
mod string_enum;
mod sums;
pub(crate) mod unpack;
mod verify;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use sha2::{Digest, Sha256};

pub use batches::{Batch, Batches};
pub use catalog::locate;
pub use config::{Augment, DataConfig, DatasetName, Integration, Resize, SENSOR, SplitRule};

use crate::exit::{data, usage};

/// Samples to train on, or samples to test on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Samples the weights are fitted to.
    Train,
    /// Samples never trained on.
    Test,
}

/// The shape of one sample, stored `[time_steps,] height, width, channels`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InputShape {
    /// Number of event frames; `None` for stills.
    pub time_steps: Option<usize>,
    /// 3 (R, G, B) or 2 (0 = OFF, 1 = ON).
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
}

impl InputShape {
    /// Values of one frame.
    pub fn frame_len(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Values of one sample.
    pub fn sample_len(&self) -> usize {
        self.time_steps.unwrap_or(1) * self.frame_len()
    }
}

/// Where the random draws of augmentation come from, besides the sample's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The cell's seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
}

/// A data set, open.
pub trait Dataset: Send + Sync {
    /// Number of classes: labels are 0..classes.
    fn classes(&self) -> usize;

    /// Number of samples.
    fn len(&self, split: Split) -> usize;

    /// The class of a sample (`index < len`).
    fn label(&self, split: Split, index: usize) -> usize;

    /// The shape of each sample.
    fn input(&self) -> InputShape;

    /// The first 16 hexadecimal digits of the SHA-256 of what was really read. ImageNet: of its index (paths, sizes,
    /// labels), since its 150 GB are read one image at a time.
    fn data_hash(&self) -> &str;

    /// The declared protocol, known before anything is read; see [`DataConfig::protocol_id`]. A row has the one of
    /// [`protocol_as_read`].
    fn protocol_id(&self) -> &str;

    /// Whether everything that was read is, byte for byte, the official data set.
    ///
    /// Embedded data are: decoding checks their SHA-256. CIFAR-10 and CIFAR-100 are if every file has the official MD5.
    /// CIFAR10-DVS is if `data fetch` unpacked all of its archives here (it checks their MD5) and every recording still
    /// has the SHA-256 that it had then. ImageNet never is: its 150 GB have no checksums of single files.
    fn verified(&self) -> bool;

    /// Writes a normalised sample, `[H, W, C]` for stills and `[T, H, W, C]` for event frames, to `out`
    /// (`input().sample_len()` values). `augment = None` for evaluation.
    fn sample(&self, split: Split, index: usize, augment: Option<Draw>, out: &mut [f32]) -> Result<()>;
}

/// Opens the data set that `config` names.
///
/// `time_steps` is T of the event frames (ignored by stills); `data_dir` holds what is not embedded (see [`locate`]);
/// frames derived from recordings are cached under `cache_dir`, or kept in memory without one.
/// Errors: 2 for a configuration that cannot be, 3 for data missing or damaged.
pub fn open(
    config: &DataConfig,
    time_steps: Option<usize>,
    data_dir: Option<&Path>,
    cache_dir: Option<&Path>,
) -> Result<Arc<dyn Dataset>> {
    config.validate()?;
    let folder = || locate_or_explain(config.dataset, data_dir);
    if !config.dataset.is_event() {
        return Ok(match config.dataset {
            DatasetName::SignDigits => Arc::new(sign_digits::open(config)?),
            DatasetName::Cifar10 | DatasetName::Cifar100 => Arc::new(cifar::open(config, &folder()?)?),
            _ => Arc::new(imagenet::ImageNet::open(config, &folder()?)?),
        });
    }
    let Some(time_steps @ 1..) = time_steps else {
        return Err(usage(format!(
            "data set `{}`: event frames need a number of time steps, at least 1",
            config.dataset
        )));
    };
    Ok(match config.dataset {
        DatasetName::SignDigitsDvs => Arc::new(events::open_simulated(config, time_steps, cache_dir)?),
        _ => Arc::new(events::open_recorded(config, time_steps, &folder()?, cache_dir)?),
    })
}

/// The protocol id of what was really read, for a result's row: `declared` where the content is verified to be the
/// official one; otherwise `unverified:train=N,test=M`, the numbers of samples, takes the place of its checksum.
pub fn protocol_as_read(declared: &str, name: DatasetName, dataset: &dyn Dataset) -> String {
    if dataset.verified() {
        return declared.to_string();
    }
    let (train, test) = (dataset.len(Split::Train), dataset.len(Split::Test));
    declared.replacen(&catalog::declared_checksum(name), &format!("unverified:train={train},test={test}"), 1)
}

/// The protocol id of a row whose version did not compare the data with their official checksum: `unverified` takes the
/// place of an archive's checksum. Embedded data keep theirs (`sha256:`), which is checked when they are decoded.
pub fn protocol_unverified(declared: &str) -> String {
    let of_archive = |part: &str| ["md5:", "md5s:", "unchecked"].iter().any(|start| part.starts_with(start));
    let parts: Vec<&str> = declared.split(';').map(|part| if of_archive(part) { "unverified" } else { part }).collect();
    parts.join(";")
}

fn locate_or_explain(dataset: DatasetName, data_dir: Option<&Path>) -> Result<PathBuf> {
    let title = dataset.title();
    let Some(data_dir) = data_dir else {
        return Err(data(format!(
            "{title} needs `--data-dir DIR`, the folder that holds {}",
            catalog::layout(dataset)
        )));
    };
    locate(dataset, data_dir).ok_or_else(|| {
        let layout = catalog::layout(dataset);
        data(format!(
            "{title} was not found in {}: expected {layout}; {}",
            data_dir.display(),
            catalog::how_to_get(dataset)
        ))
    })
}

/// The first 16 hexadecimal digits of a finished SHA-256.
fn short_hash(hasher: Sha256) -> String {
    hex(&hasher.finalize()[..8])
}

/// Bytes as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The digest of all that a reader gives, in hexadecimal.
fn digest_of<D: Digest>(mut reader: impl Read) -> std::io::Result<String> {
    let mut hasher = D::new();
    let mut buffer = vec![0; 1 << 17];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hex(&hasher.finalize())),
            n => hasher.update(&buffer[..n]),
        }
    }
}

/// Sample indices class by class in turn (first of each class, second of each class, …), cut to `limit`: every prefix
/// is as balanced as the data allow. Without a limit: the order of the files.
fn limited_order(labels: impl ExactSizeIterator<Item = usize>, limit: Option<usize>) -> Vec<usize> {
    let n = labels.len();
    let Some(limit) = limit else { return (0..n).collect() };
    let mut seen = Vec::new();
    let mut order: Vec<(usize, usize, usize)> = labels
        .enumerate()
        .map(|(index, label)| {
            seen.resize(seen.len().max(label + 1), 0);
            seen[label] += 1;
            (seen[label], label, index)
        })
        .collect();
    order.sort_unstable();
    order.into_iter().take(limit).map(|(.., index)| index).collect()
}
