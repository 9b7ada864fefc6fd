//! CIFAR-10 and CIFAR-100, binary version: records of one or two label bytes and 32×32 R, G and B planes.

use std::collections::HashMap;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::Result;
use flate2::bufread::GzDecoder;
use md5::Md5;

use super::catalog::{self, Member};
use super::image::Normalise;
use super::image_dataset::{Pixels, Stills};
use super::{DataConfig, DatasetName, digest_of};
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

    /// Reads the folder, or the official `.tar.gz` of it; also whether every file is one of `official`, to the byte.
    fn read(&self, path: &Path, official: &[Member]) -> Result<((Pixels, Pixels), bool)> {
        let mut verified = true;
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
                let parse = || self.parse(&file.display().to_string(), &bytes, &mut pixels);
                let (parsed, is_official) = rayon::join(parse, || is_official(name, &bytes, official));
                parsed?;
                verified &= is_official;
            }
            Ok(pixels)
        };
        let pixels = (read(self.train)?, read(&[self.test])?);
        Ok((pixels, verified))
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

/// Whether the file `name` with this content is among the official files. A file of another length needs no MD5.
fn is_official(name: &str, bytes: &[u8], official: &[Member]) -> bool {
    official.iter().any(|member| {
        member.file == name
            && member.bytes == bytes.len() as u64
            && digest_of::<Md5>(bytes).is_ok_and(|md5| md5 == member.md5)
    })
}

/// Opens the folder or archive at `path`.
pub(super) fn open(config: &DataConfig, path: &Path) -> Result<Stills> {
    let format = Format::of(config.dataset);
    let official = catalog::official(config.dataset).map_or(&[][..], |entry| &entry.members);
    let (pixels, verified) = format.read(path, official)?;
    Ok(Stills::new(config, pixels, Normalise::new(format.mean, format.std), verified))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The entry of an official file with this content.
    fn member(file: &str, content: &[u8]) -> Member {
        Member { file: file.into(), bytes: content.len() as u64, md5: digest_of::<Md5>(content).unwrap() }
    }

    #[test]
    fn files_are_verified_if_each_has_the_official_length_and_md5() {
        let dir = tempfile::tempdir().unwrap();
        let [train, test]: [Vec<u8>; 2] = [3, 1].map(|n| vec![n; CIFAR100.record_bytes() * usize::from(n)]);
        let official = [member("train.bin", &train), member("test.bin", &test)];
        let put = |name: &str, bytes: &[u8]| std::fs::write(dir.path().join(name), bytes).unwrap();
        let verified = || CIFAR100.read(dir.path(), &official).unwrap().1;
        put("train.bin", &train);
        put("test.bin", &test);
        assert!(verified());
        let mut flipped = train.clone();
        flipped[5000] ^= 1;
        put("train.bin", &flipped);
        assert!(!verified());
        put("train.bin", &train[..2 * CIFAR100.record_bytes()]); // fewer, but whole records
        assert!(!verified());
        put("train.bin", &test); // an official file under another one's name
        assert!(!verified());
        put("train.bin", &train);
        put("test.bin", &flipped);
        assert!(!verified());

        put("test.bin", &test);
        let packed = tempfile::tempdir().unwrap();
        let archive = packed.path().join("cifar-100-binary.tar.gz");
        let file = std::fs::File::create(&archive).unwrap();
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
        tar.append_dir_all("cifar-100-binary", dir.path()).unwrap();
        tar.into_inner().unwrap().finish().unwrap();
        assert!(CIFAR100.read(&archive, &official).unwrap().1);
        assert!(!CIFAR100.read(&archive, &official[1..]).unwrap().1);
    }
}
