//! Unpacking archives into a new folder: nothing outside it, no links, no more than a cap.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result};
use flate2::bufread::GzDecoder;
use sha2::{Digest, Sha256};

use super::hex;
use crate::exit::data;

/// Most files in an archive (an ImageNet class has 1,300, CIFAR10-DVS's 1,000).
const MOST_FILES: usize = 100_000;

const TOO_MUCH: &str = "much more comes out of it than its size allows";

/// A stream of at most so many bytes: a long name in a tar is read whole, and a stream of zeros packs a thousandfold.
struct Capped<R> {
    reader: R,
    left: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let n = self.reader.read(buffer)?;
        self.left = self.left.checked_sub(n as u64).ok_or_else(|| std::io::Error::other(TOO_MUCH))?;
        Ok(n)
    }
}

/// What may come out of an archive.
pub(super) struct Unpacker<'a> {
    folder: &'a Path,
    name: String,
    bytes_left: u64,
    /// SHA-256 and path below the folder of each file written.
    sums: Vec<(String, PathBuf)>,
}

/// Unpacks `archive` (`.tar.gz`, `.tar` or `.zip`) into `folder`, which must be empty; returns the SHA-256 and the
/// relative path of each file. At most 16 times the archive's size and 64 MiB come out of it.
pub(super) fn unpack(archive: &Path, folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let name = archive.display().to_string();
    let file = File::open(archive).with_context(|| format!("opening {name}"))?;
    let cap = file.metadata().map(|metadata| metadata.len()).unwrap_or(0).saturating_mul(16) + (64 << 20);
    unpack_from(BufReader::with_capacity(1 << 20, file), name, cap, folder)
}

/// As [`unpack`], from any source; the end of `name` says the format. At most `cap` bytes come out.
pub(crate) fn unpack_from(
    reader: impl BufRead + Seek,
    name: String,
    cap: u64,
    folder: &Path,
) -> Result<Vec<(String, PathBuf)>> {
    let mut unpacker = Unpacker { folder, name: name.clone(), bytes_left: cap, sums: Vec::new() };
    if name.ends_with(".zip") {
        unpacker.zip(reader)?;
    } else if name.ends_with(".gz") || name.ends_with(".tgz") {
        unpacker.tar(Capped { reader: GzDecoder::new(reader), left: cap })?;
    } else {
        unpacker.tar(reader)?;
    }
    if unpacker.sums.is_empty() {
        return Err(data(format!("{name} holds no files")));
    }
    Ok(unpacker.sums)
}

impl Unpacker<'_> {
    fn damaged(&self, error: impl std::fmt::Display) -> anyhow::Error {
        data(format!("{} cannot be unpacked: {error}; fetch it again", self.name))
    }

    fn tar(&mut self, reader: impl Read) -> Result<()> {
        for entry in tar::Archive::new(reader).entries().map_err(|error| self.damaged(error))? {
            let mut entry = entry.map_err(|error| self.damaged(error))?;
            let path = entry.path().map_err(|error| self.damaged(error))?.into_owned();
            let kind = entry.header().entry_type();
            if kind.is_dir() || kind.is_pax_global_extensions() {
                continue;
            }
            if !kind.is_file() {
                return Err(self.damaged(format!("`{}` is a link or a device", path.display())));
            }
            self.write(&path, &mut entry)?;
        }
        Ok(())
    }

    fn zip(&mut self, reader: impl Read + Seek) -> Result<()> {
        let mut zip = zip::ZipArchive::new(reader).map_err(|error| self.damaged(error))?;
        for index in 0..zip.len() {
            let mut entry = zip.by_index(index).map_err(|error| self.damaged(error))?;
            let path = PathBuf::from(&*entry.name().map_err(|error| self.damaged(error))?);
            if entry.is_dir() {
                continue;
            }
            if entry.is_symlink() {
                return Err(self.damaged(format!("`{}` is a link", path.display())));
            }
            self.write(&path, &mut entry)?;
        }
        Ok(())
    }

    /// Writes one file, if its path stays inside.
    fn write(&mut self, path: &Path, reader: &mut impl Read) -> Result<()> {
        let inside: Option<PathBuf> = path
            .components()
            .filter(|component| *component != Component::CurDir)
            .map(|component| match component {
                Component::Normal(name) => Some(Path::new(name)),
                _ => None,
            })
            .collect();
        let inside = inside.filter(|inside| !inside.as_os_str().is_empty() && inside.to_str().is_some());
        let inside = inside.ok_or_else(|| self.damaged(format!("`{}` leads out of its folder", path.display())))?;
        if self.sums.len() >= MOST_FILES {
            return Err(self.damaged(format!("it holds more than {MOST_FILES} files")));
        }
        let target = self.folder.join(&inside);
        if let Some(parent) = target.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
        }
        let mut file =
            File::create_new(&target).map_err(|error| self.damaged(format!("`{}`: {error}", path.display())))?;
        let (mut hasher, mut buffer) = (Sha256::new(), vec![0; 1 << 17]);
        loop {
            let n = reader.read(&mut buffer).map_err(|error| self.damaged(error))?;
            if n == 0 {
                break;
            }
            self.bytes_left = self.bytes_left.checked_sub(n as u64).ok_or_else(|| self.damaged(TOO_MUCH))?;
            hasher.update(&buffer[..n]);
            file.write_all(&buffer[..n]).with_context(|| format!("writing {}", target.display()))?;
        }
        self.sums.push((hex(&hasher.finalize()), inside));
        Ok(())
    }
}
