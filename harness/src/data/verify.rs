//! `harness data verify`: every file of a data set, the bad ones named.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use md5::Md5;
use rayon::prelude::*;

use super::catalog::{CIFAR10_CLASSES as CLASSES, Entry, RECORDINGS_PER_CLASS as PER_CLASS};
use super::decode::decode;
use super::image_index::{index_flat_val, index_folders};
use super::sums::{against_sum, sums};
use super::{DatasetName, aedat, digest_of, sign_digits};
use crate::exit::data;

/// Classes, training and validation images of ILSVRC2012.
const IMAGENET: [usize; 3] = [1000, 1_281_167, 50_000];

/// Checks every file of the data set of `entry` at `path` (`None`: embedded); writes a line for each bad one, and a summary. Errors (exit 3) if any is bad.
pub fn verify_entry(entry: &Entry, path: Option<&Path>, out: &mut dyn Write) -> Result<()> {
    let (checked, bad) = match (entry.name, path) {
        (DatasetName::SignDigits | DatasetName::SignDigitsDvs, _) => {
            sign_digits::decode()?;
            (2, vec![])
        }
        (_, None) => return Err(data(format!("{} is not here", entry.name))),
        (DatasetName::Cifar10 | DatasetName::Cifar100, Some(path)) => cifar(entry, path)?,
        (DatasetName::Cifar10Dvs, Some(path)) => cifar10_dvs(path)?,
        (DatasetName::ImageNet, Some(path)) => imagenet(path)?,
    };
    for line in &bad {
        writeln!(out, "bad  {line}")?;
    }
    match bad.first() {
        None => Ok(writeln!(out, "{}: {checked} files are good", entry.name)?),
        Some(first) => {
            Err(data(format!("{}: {} of {checked} files are bad, the first: {first}", entry.name, bad.len())))
        }
    }
}

/// Number of files checked, and a sentence for each bad one.
type Outcome = (usize, Vec<String>);

fn cifar(entry: &Entry, path: &Path) -> Result<Outcome> {
    if path.is_file() {
        let check = |archive| super::download::check(archive, path).err();
        let bad = entry.archives.iter().filter_map(check).map(|what| format!("{}: {what}", path.display())).collect();
        return Ok((1, bad));
    }
    let sums = sums(path)?;
    let check = |member: &super::catalog::Member| -> Option<String> {
        let file = path.join(&member.file);
        let name = file.display();
        let bytes = match std::fs::read(&file) {
            Ok(bytes) => bytes,
            Err(error) => return Some(format!("{name}: {error}")),
        };
        if let Err(what) = against_sum(&file, &bytes, &sums) {
            return Some(format!("{name}: {what}"));
        }
        let md5 = digest_of::<Md5>(bytes.as_slice()).unwrap_or_default();
        if bytes.len() as u64 != member.bytes {
            let bytes = bytes.len();
            return Some(format!("{name}: it has {bytes} bytes (MD5 {md5}), the official file {}", member.bytes));
        }
        (md5 != member.md5).then(|| format!("{name}: its MD5 is {md5}, the official one {}", member.md5))
    };
    Ok((entry.members.len(), entry.members.par_iter().filter_map(check).collect()))
}

/// 1,000 recordings a class, each readable to its last byte and with its sum.
fn cifar10_dvs(folder: &Path) -> Result<Outcome> {
    let sums = sums(folder)?;
    let expected = CLASSES
        .iter()
        .flat_map(|class| (0..PER_CLASS).map(move |n| folder.join(class).join(format!("cifar10_{class}_{n}.aedat"))));
    let files: Vec<PathBuf> = expected.collect();
    let check = |path: &PathBuf| -> Option<String> {
        let name = path.display().to_string();
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => return Some(format!("{name}: {error}")),
        };
        let by_sum = against_sum(path, &bytes, &sums).map_err(|what| format!("{name}: {what}"));
        by_sum.and_then(|()| aedat::read(&bytes, &name).map(|_| ()).map_err(|error| error.to_string())).err()
    };
    Ok((files.len(), files.par_iter().filter_map(check).collect()))
}

/// The official numbers of classes and images, each image decoded.
fn imagenet(root: &Path) -> Result<Outcome> {
    let sums = sums(root)?;
    let (classes, train) = index_folders(&root.join("train"), None)?;
    let val_folder = root.join("val");
    let val = match index_folders(&val_folder, Some(&classes)) {
        Ok((_, files)) => files,
        Err(_) => index_flat_val(root, &val_folder, &classes)?,
    };
    let mut bad = Vec::new();
    let found = [classes.len(), train.len(), val.len()];
    for ((what, found), official) in ["classes", "training images", "validation images"].iter().zip(found).zip(IMAGENET)
    {
        if found != official {
            bad.push(format!("{}: {found} {what}, officially {official}", root.display()));
        }
    }
    for (folder, files) in [("train", &train), ("val", &val)] {
        let check = |index: usize| -> Option<String> {
            let path = root.join(folder).join(files.path(index));
            let name = path.display().to_string();
            let bytes = match std::fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) => return Some(format!("{name}: {error}")),
            };
            let by_sum = against_sum(&path, &bytes, &sums).map_err(|what| format!("{name}: {what}"));
            by_sum.and_then(|()| decode(&bytes, &name).map(|_| ()).map_err(|error| error.to_string())).err()
        };
        bad.par_extend((0..files.len()).into_par_iter().filter_map(check));
    }
    Ok((train.len() + val.len(), bad))
}
