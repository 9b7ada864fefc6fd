//! What is known of each data set beforehand (`suites/mirrors.toml`, compiled in), and where it lies in a data folder.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use anyhow::{Context, Result};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use walkdir::WalkDir;

use super::{DatasetName, hex, sign_digits};

const COMPILED_IN: &str = include_str!("../../../suites/mirrors.toml");
/// A file here, relative to the working directory, wins over what is compiled in.
const OVERRIDE: &str = "suites/mirrors.toml";

/// The classes of CIFAR-10 and CIFAR10-DVS, in the order of their labels.
pub(super) const CIFAR10_CLASSES: [&str; 10] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];
/// Recordings per class of the whole CIFAR10-DVS.
pub(super) const RECORDINGS_PER_CLASS: usize = 1000;

/// What a data set's owners distribute, and on what terms.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The data set.
    pub name: DatasetName,
    /// Size on disk when unpacked, in bytes.
    pub bytes: u64,
    /// Terms of use.
    pub terms: String,
    /// The owners' page.
    pub home: String,
    /// Archives to fetch.
    #[serde(default, rename = "archive")]
    pub archives: Vec<Archive>,
    /// Files with known checksums in the unpacked folder.
    #[serde(default, rename = "member")]
    pub members: Vec<Member>,
}

/// A file to fetch.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// Its name in the data folder: `.tar.gz`, `.tar` or `.zip`.
    pub file: String,
    /// The folder below the data folder that it is unpacked into.
    pub into: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its MD5.
    pub md5: String,
    /// Its SHA-256, where known.
    pub sha256: Option<String>,
    /// Where it can be had, in order of preference.
    pub urls: Vec<String>,
}

/// A file of an unpacked data set.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its path in the data set's folder.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its MD5.
    pub md5: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    dataset: Vec<Entry>,
}

static ENTRIES: LazyLock<Vec<Entry>> =
    LazyLock::new(|| parse(COMPILED_IN).expect("the compiled-in suites/mirrors.toml is checked by a test"));

/// Entries from the text of a `mirrors.toml`.
pub fn parse(text: &str) -> Result<Vec<Entry>> {
    Ok(toml::from_str::<File>(text)?.dataset)
}

/// All entries; a `suites/mirrors.toml` in the working directory wins, and a line to `note` says so.
pub(super) fn entries(note: &mut dyn std::io::Write) -> Result<Vec<Entry>> {
    match std::fs::read_to_string(OVERRIDE) {
        Ok(text) if text != COMPILED_IN => {
            writeln!(note, "using ./{OVERRIDE} in place of the mirrors compiled in")?;
            parse(&text).map_err(crate::exit::usage).with_context(|| format!("reading ./{OVERRIDE}"))
        }
        _ => Ok(ENTRIES.clone()),
    }
}

/// The checksum the protocol id carries: of the official archives, or of the embedded pixels.
pub(super) fn declared_checksum(dataset: DatasetName) -> String {
    if dataset.is_embedded() {
        return format!("sha256:{}", &sign_digits::TRAIN_SHA256[..16]);
    }
    let archives = official(dataset).map_or(&[][..], |entry| &entry.archives);
    match archives {
        [] => "unchecked".into(),
        [archive] => format!("md5:{}", archive.md5),
        several => {
            let sums: String = several.iter().map(|archive| archive.md5.as_str()).collect();
            format!("md5s:{}", &hex(&Sha256::digest(sums))[..16])
        }
    }
}

/// The compiled-in entry of a data set: only its checksums say what is official.
pub(super) fn official(dataset: DatasetName) -> Option<&'static Entry> {
    ENTRIES.iter().find(|entry| entry.name == dataset)
}

/// What lies in a data folder, in words.
pub(super) fn layout(dataset: DatasetName) -> &'static str {
    match dataset {
        DatasetName::SignDigits | DatasetName::SignDigitsDvs => "nothing (it is embedded)",
        DatasetName::Cifar10 => "`cifar-10-batches-bin/` or `cifar-10-binary.tar.gz`",
        DatasetName::Cifar100 => "`cifar-100-binary/` or `cifar-100-binary.tar.gz`",
        DatasetName::ImageNet => "`imagenet/train/<wnid>/` and `imagenet/val/`",
        DatasetName::Cifar10Dvs => "`cifar10-dvs/<class>/cifar10_<class>_<n>.aedat`",
    }
}

/// The next step for someone who lacks it.
pub(super) fn how_to_get(dataset: DatasetName) -> String {
    match dataset {
        DatasetName::ImageNet => "`harness data fetch imagenet` says how to get it by hand".into(),
        other => format!("`harness data fetch {other}` gets it"),
    }
}

/// Where the data set lies: in a data folder under its usual name, in the folder itself, or up to two folders below under
/// another name. `None` if it is not there (or embedded).
pub fn locate(dataset: DatasetName, data_dir: &Path) -> Option<PathBuf> {
    let usual: &[&str] = match dataset {
        DatasetName::SignDigits | DatasetName::SignDigitsDvs => return None,
        DatasetName::Cifar10 => &["cifar-10-batches-bin", "cifar-10-binary.tar.gz", ""],
        DatasetName::Cifar100 => &["cifar-100-binary", "cifar-100-binary.tar.gz", ""],
        DatasetName::ImageNet => &["imagenet", "ILSVRC2012", ""],
        DatasetName::Cifar10Dvs => &["cifar10-dvs", "CIFAR10DVS", ""],
    };
    let path = |name: &&str| if name.is_empty() { data_dir.to_path_buf() } else { data_dir.join(name) };
    let below = WalkDir::new(data_dir).follow_links(true).min_depth(1).max_depth(2).sort_by_file_name();
    let below = || below.into_iter().filter_map(Result::ok).map(|entry| entry.into_path());
    usual
        .iter()
        .map(path)
        .find(|path| holds(dataset, path))
        .or_else(|| below().find(|path| surely_holds(dataset, path)))
}

/// `holds`, for a folder of any name: with files that no other data set has.
fn surely_holds(dataset: DatasetName, path: &Path) -> bool {
    let some = |folder: &Path, is: fn(&str) -> bool| {
        let mut names = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.any(|name| is(&name))
    };
    path.is_dir()
        && holds(dataset, path)
        && match dataset {
            DatasetName::Cifar100 => path.join("fine_label_names.txt").is_file(),
            DatasetName::ImageNet => {
                let is_wnid = |name: &str| {
                    name.len() == 9 && name.starts_with('n') && name[1..].bytes().all(|b| b.is_ascii_digit())
                };
                path.join("val").is_dir() && some(&path.join("train"), is_wnid)
            }
            DatasetName::Cifar10Dvs => some(&path.join("airplane"), |name| name.ends_with(".aedat")),
            _ => true,
        }
}

fn holds(dataset: DatasetName, path: &Path) -> bool {
    match dataset {
        DatasetName::SignDigits | DatasetName::SignDigitsDvs => false,
        _ if path.extension().is_some_and(|extension| extension == "gz") => path.is_file(),
        DatasetName::Cifar10 => path.join("data_batch_1.bin").is_file() || path.join("test_batch.bin").is_file(),
        DatasetName::Cifar100 => path.join("train.bin").is_file() || path.join("test.bin").is_file(),
        DatasetName::ImageNet => path.join("train").is_dir(),
        DatasetName::Cifar10Dvs => CIFAR10_CLASSES.iter().any(|class| path.join(class).is_dir()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiled_in_mirrors_cover_every_data_set_with_whole_checksums() {
        let entries = parse(COMPILED_IN).unwrap();
        assert_eq!(entries.iter().map(|entry| entry.name).collect::<Vec<_>>().len(), DatasetName::ALL.len());
        for name in DatasetName::ALL {
            let entry = entries.iter().find(|entry| entry.name == *name).unwrap();
            let is_hex = |sum: &str, digits| sum.len() == digits && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
            for archive in &entry.archives {
                assert!(is_hex(&archive.md5, 32) && archive.sha256.as_ref().is_none_or(|sum| is_hex(sum, 64)));
            }
            assert!(entry.members.iter().all(|member| is_hex(&member.md5, 32)));
            assert_eq!(entry.archives.is_empty(), name.is_embedded());
        }
    }

    #[test]
    fn a_data_set_is_found_under_its_usual_name_and_below_under_any() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        };
        let find = |dataset| {
            let found = locate(dataset, dir.path())?;
            Some(found.strip_prefix(dir.path()).unwrap().to_str().unwrap().to_string())
        };
        put("a/png/airplane/1.png"); // CIFAR-10 as pictures is not CIFAR10-DVS
        put("b/train/n01440764/1.JPEG"); // without validation images
        assert_eq!(DatasetName::ALL.iter().filter_map(|&dataset| find(dataset)).count(), 0);
        put("b/c/train/n01440764/1.JPEG");
        put("b/c/val/n01440764/1.JPEG");
        put("events/mine/airplane/cifar10_airplane_0.aedat");
        put("x/y/data_batch_1.bin");
        assert_eq!(find(DatasetName::ImageNet).unwrap(), "b/c");
        assert_eq!(find(DatasetName::Cifar10Dvs).unwrap(), "events/mine");
        assert_eq!(find(DatasetName::Cifar10).unwrap(), "x/y");
        put("cifar-10-batches-bin/data_batch_1.bin");
        assert_eq!(find(DatasetName::Cifar10).unwrap(), "cifar-10-batches-bin");
    }

    #[test]
    fn the_declared_checksum_is_that_of_the_official_archive() {
        assert_eq!(declared_checksum(DatasetName::Cifar10), "md5:c32a1d4ab5d03f1284b67883e8d87530");
        assert_eq!(declared_checksum(DatasetName::SignDigitsDvs), "sha256:a69ded15f866dbe1");
        assert!(declared_checksum(DatasetName::Cifar10Dvs).starts_with("md5s:"));
    }
}
