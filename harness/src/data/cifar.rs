//! CIFAR-10 and CIFAR-100, binary version: records of one or two label bytes and 32×32 R, G and B planes.

use std::path::Path;

use anyhow::{Context, Result};

use super::stills::{Pixels, Stills};
use super::{DataConfig, DatasetName};
use crate::exit::data;

const SIZE: usize = 32;
const PLANE: usize = SIZE * SIZE;

/// The layout of one of the two.
pub(super) struct Format {
    /// Label bytes before the pixels; the last one is the class.
    label_bytes: usize,
    classes: usize,
    pub(super) train: &'static [&'static str],
    pub(super) test: &'static str,
    mean: [f32; 3],
    std: [f32; 3],
}

/// The lineage's constants (its std is smaller than that of the pixels, 0.2470, 0.2435, 0.2616).
const CIFAR10: Format = Format {
    label_bytes: 1,
    classes: 10,
    train: &["data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"],
    test: "test_batch.bin",
    mean: [0.4914, 0.4822, 0.4465],
    std: [0.2023, 0.1994, 0.2010],
};

/// Coarse label, then fine label; the fine one is the class.
const CIFAR100: Format = Format {
    label_bytes: 2,
    classes: 100,
    train: &["train.bin"],
    test: "test.bin",
    mean: [0.5071, 0.4867, 0.4408],
    std: [0.2675, 0.2565, 0.2761],
};

impl Format {
    pub(super) fn of(dataset: DatasetName) -> &'static Self {
        if dataset == DatasetName::Cifar100 { &CIFAR100 } else { &CIFAR10 }
    }

    fn record_bytes(&self) -> usize {
        self.label_bytes + 3 * PLANE
    }

    /// Appends the records of one file. Any number of whole records is read; a part of one, none at all, or a label
    /// out of range is refused with the byte.
    pub(super) fn parse(&self, name: &str, bytes: &[u8], pixels: &mut Pixels) -> Result<()> {
        let record_bytes = self.record_bytes();
        let rest = bytes.len() % record_bytes;
        if bytes.is_empty() || rest != 0 {
            let whole = bytes.len() / record_bytes;
            return Err(data(format!(
                "{name} has {} bytes: {whole} records of {record_bytes} and {rest} bytes after byte {}; \
                 it is cut off or not a CIFAR-{} batch; fetch it again",
                bytes.len(),
                whole * record_bytes,
                self.classes
            )));
        }
        pixels.images.reserve(bytes.len());
        for (i, record) in bytes.chunks_exact(record_bytes).enumerate() {
            let (labels, planes) = record.split_at(self.label_bytes);
            let label = labels[self.label_bytes - 1];
            if usize::from(label) >= self.classes {
                let byte = i * record_bytes + self.label_bytes - 1;
                return Err(data(format!(
                    "{name}: label {label} at byte {byte} (record {i}) is not in 0..{}; fetch the file again",
                    self.classes
                )));
            }
            pixels.labels.push(label);
            let (red, rest) = planes.split_at(PLANE);
            let (green, blue) = rest.split_at(PLANE);
            pixels.images.extend(red.iter().zip(green).zip(blue).flat_map(|((&r, &g), &b)| [r, g, b]));
        }
        Ok(())
    }

    fn read_folder(&self, folder: &Path) -> Result<(Pixels, Pixels)> {
        let read = |names: &[&str]| -> Result<Pixels> {
            let mut pixels = Pixels::default();
            for name in names {
                let path = folder.join(name);
                let bytes = std::fs::read(&path).with_context(|| data(format!("{} cannot be read", path.display())))?;
                self.parse(&path.display().to_string(), &bytes, &mut pixels)?;
            }
            Ok(pixels)
        };
        Ok((read(self.train)?, read(&[self.test])?))
    }
}

/// Opens the folder at `path`.
pub(super) fn open(config: &DataConfig, path: &Path) -> Result<Stills> {
    let format = Format::of(config.dataset);
    let (train, test) = format.read_folder(path)?;
    Ok(Stills::new(config, train, test, format.mean, format.std))
}
