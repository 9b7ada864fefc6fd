//! CIFAR-10 and CIFAR-100, binary version: records of one or two label bytes and 32×32 R, G and B planes.

use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::Result;
use flate2::bufread::GzDecoder;

use super::stills::{Pixels, Stills};
use super::{DataConfig, DatasetName};
use crate::exit::data;

const SIZE: usize = 32;
const PLANE: usize = SIZE * SIZE;
/// No more than this is unpacked of one member of an archive, in bytes (the largest official one has 154 MB).
const LARGEST_MEMBER: u64 = 1 << 30;

/// The layout of one of the two.
pub(crate) struct Format {
    /// Label bytes before the pixels; the last one is the class.
    label_bytes: usize,
    classes: usize,
    train: &'static [&'static str],
    test: &'static str,
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
    pub(crate) fn of(dataset: DatasetName) -> &'static Self {
        if dataset == DatasetName::Cifar100 { &CIFAR100 } else { &CIFAR10 }
    }

    pub(super) fn record_bytes(&self) -> usize {
        self.label_bytes + 3 * PLANE
    }

    /// Appends the records of one file. Any number of whole records is read; a part of one, none at all, or a label
    /// out of range is refused with the byte.
    pub(crate) fn parse(&self, name: &str, bytes: &[u8], pixels: &mut Pixels) -> Result<()> {
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

    /// Reads the folder, or the official `.tar.gz` of it.
    fn read(&self, path: &Path) -> Result<(Pixels, Pixels)> {
        let mut archive = if path.is_file() { Some(self.unpack(path)?) } else { None };
        let mut read = |names: &[&str]| -> Result<Pixels> {
            let mut pixels = Pixels::default();
            for name in names {
                let file = path.join(name);
                let bytes = match &mut archive {
                    Some(members) => members
                        .remove(*name)
                        .ok_or_else(|| data(format!("{} holds no {name}; fetch it again", path.display())))?,
                    None => std::fs::read(&file)
                        .map_err(|error| data(format!("{} cannot be read: {error}; fetch it again", file.display())))?,
                };
                self.parse(&file.display().to_string(), &bytes, &mut pixels)?;
            }
            Ok(pixels)
        };
        Ok((read(self.train)?, read(&[self.test])?))
    }

    /// The batch files of an archive, in memory.
    fn unpack(&self, path: &Path) -> Result<HashMap<String, Vec<u8>>> {
        let damaged = |error: std::io::Error| {
            data(format!("{} is cut off or not a .tar.gz: {error}; fetch it again", path.display()))
        };
        let file = std::fs::File::open(path).map_err(damaged)?;
        let mut members = HashMap::new();
        for entry in tar::Archive::new(GzDecoder::new(BufReader::new(file))).entries().map_err(damaged)? {
            let entry = entry.map_err(damaged)?;
            let name = entry.path().map_err(damaged)?.file_name().map(|name| name.to_string_lossy().into_owned());
            let Some(name) = name.filter(|name| name == self.test || self.train.contains(&name.as_str())) else {
                continue;
            };
            let mut bytes = Vec::new();
            entry.take(LARGEST_MEMBER).read_to_end(&mut bytes).map_err(damaged)?;
            members.insert(name, bytes);
        }
        Ok(members)
    }
}

/// Opens the folder or archive at `path`.
pub(super) fn open(config: &DataConfig, path: &Path) -> Result<Stills> {
    let format = Format::of(config.dataset);
    let (train, test) = format.read(path)?;
    Ok(Stills::new(config, train, test, format.mean, format.std))
}
