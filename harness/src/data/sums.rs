//! Checksums of a data set's files: the lists that lie beside them, and what our own fetch vouches for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use sha2::Sha256;

use super::catalog::{Archive, official};
use super::{DatasetName, digest_of};
use crate::exit::data;

/// SHA-256 of every file of an unpacked data set, as `sha256sum` writes them.
pub(super) const SUMS: &str = "SHA256SUMS";

/// How many folders above a data set may list its files' sums too: a collection has one list.
const ABOVE: usize = 2;

/// The sums of a data set's files, by path: from the list written when it was unpacked, or from one beside or above it.
pub(super) fn sums(folder: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut sums = BTreeMap::new();
    for folder in folder.ancestors().take(1 + ABOVE) {
        for (path, sum) in sums_in(folder)? {
            sums.entry(path).or_insert(sum);
        }
    }
    Ok(sums)
}

/// The sums that the list of this very folder holds, by path; none without a list.
fn sums_in(folder: &Path) -> Result<BTreeMap<PathBuf, String>> {
    let mut sums = BTreeMap::new();
    let path = folder.join(SUMS);
    let Ok(text) = std::fs::read_to_string(&path) else { return Ok(sums) };
    for (line, text) in text.lines().enumerate() {
        let hex = |sum: &str| sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
        let (sum, file) = text.split_once([' ', '\t']).filter(|(sum, _)| hex(sum)).ok_or_else(|| {
            data(format!("{} line {}: expected a SHA-256 and a path; remove the file", path.display(), line + 1))
        })?;
        let file = file.trim_start().trim_start_matches('*').trim_start_matches("./");
        sums.entry(folder.join(file)).or_insert_with(|| sum.to_ascii_lowercase());
    }
    Ok(sums)
}

/// What a file's content is, against its sum if there is one.
pub(super) fn against_sum(path: &Path, bytes: &[u8], sums: &BTreeMap<PathBuf, String>) -> Result<(), String> {
    let Some(expected) = sums.get(path) else { return Ok(()) };
    let found = digest_of::<Sha256>(bytes).map_err(|error| error.to_string())?;
    if found == *expected { Ok(()) } else { Err(format!("its SHA-256 is {found}, not {expected}")) }
}

/// The marker that an archive was unpacked whole: its checksum, written last.
pub(super) fn marker(archive: &Archive, folder: &Path) -> PathBuf {
    folder.join(&archive.into).join(format!(".{}.unpacked", archive.file))
}

/// The SHA-256 of every file that `data fetch` unpacked into `place` from the official archives, by path. Nothing where
/// not all of them were unpacked there: a list that somebody wrote does not say where its files are from.
pub(super) fn official_sums(dataset: DatasetName, place: &Path) -> BTreeMap<PathBuf, String> {
    let archives = official(dataset).map_or(&[][..], |entry| &entry.archives);
    let was_unpacked = |archive: &Archive| {
        place.parent().is_some_and(|folder| folder.join(&archive.into) == place && is_marked(archive, folder))
    };
    if archives.is_empty() || !archives.iter().all(was_unpacked) {
        return BTreeMap::new();
    }
    sums_in(place).unwrap_or_else(|error| {
        tracing::warn!("{error:#}; without it the files count as unverified");
        BTreeMap::new()
    })
}

/// Whether the archive was unpacked whole into its place in `folder`.
pub(super) fn is_marked(archive: &Archive, folder: &Path) -> bool {
    std::fs::read_to_string(marker(archive, folder)).is_ok_and(|md5| md5.trim() == archive.md5)
}
