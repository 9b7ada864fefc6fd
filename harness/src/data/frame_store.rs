//! Frames of all recordings of a set: built once, in memory or in a cache file that is reused only when whole.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context, Result};
use rayon::prelude::*;
use sha2::{Digest, Sha256};

use super::aedat::Event;
use super::frames::Framing;
use super::{digest_of, hex, short_hash};
use crate::exit::{Code, data, failure};

/// First line of a cache file; the number is that of its layout and of the rules of framing.
const MAGIC: &str = "harness-frames-2";
/// Bytes of the header: magic, key, data hash, whether it is verified, and payload digest, a line each, padded.
const HEADER: usize = 256;
/// Recordings framed at a time.
const CHUNK: usize = 64;

/// Reads recording `i`: a digest of its bytes, and its events.
pub(super) trait Recordings: Sync {
    /// Number of recordings.
    fn len(&self) -> usize;
    /// What identifies the recordings without reading them: goes into the cache's key.
    fn identity(&self) -> String;
    /// The name of a recording, for errors.
    fn name(&self, index: usize) -> String;
    /// Reads a recording.
    fn read(&self, index: usize) -> Result<([u8; 32], Vec<Event>)>;
    /// Whether a recording whose bytes have this digest is the official one.
    fn is_official(&self, index: usize, sha256: &[u8; 32]) -> bool;
}

/// What the recordings are, known once all of them were read.
#[derive(Clone)]
pub(super) struct Content {
    /// The hash of the bytes of all recordings, whatever frames are made of them.
    pub data_hash: String,
    /// Whether every recording is the official one.
    pub verified: bool,
}

/// Where the frames are.
enum Place {
    Memory(Vec<u16>),
    #[cfg(unix)]
    File(File),
}

/// The frames of all recordings, [`Framing::stored_len`] values each.
pub(super) struct FrameStore {
    place: Place,
    stored_len: usize,
    /// What was read.
    pub content: Content,
}

impl FrameStore {
    /// Frames every recording, on all cores; or finds that done in `cache_dir`.
    pub fn open(framing: Framing, recordings: &impl Recordings, cache_dir: Option<&Path>) -> Result<Self> {
        let Some(cache_dir) = cache_dir else {
            let mut stored = Vec::with_capacity(recordings.len() * framing.stored_len());
            let content = build(framing, recordings, |frames| {
                stored.extend_from_slice(frames);
                Ok(())
            })?;
            return Ok(Self { place: Place::Memory(stored), stored_len: framing.stored_len(), content });
        };
        let key = hex(&Sha256::digest(format!("{MAGIC}\n{framing:?}\n{}", recordings.identity())));
        let path = cache_dir.join(format!("frames-{}.bin", &key[..16]));
        let payload = recordings.len() * framing.stored_len() * 2;
        match open_cache(&path, &key, payload) {
            Ok(Some(content)) => return Self::from_cache(&path, framing, content),
            Ok(None) => {}
            Err(why) => tracing::warn!("{}: {why:#}; it is made anew", path.display()),
        }
        let unwritable = |error: std::io::Error| {
            let path = path.display();
            failure(
                Code::Io,
                format!("the frame cache {path} cannot be written: {error}; free space or choose another folder"),
            )
        };
        std::fs::create_dir_all(cache_dir).map_err(unwritable)?;
        let temporary = tempfile::NamedTempFile::new_in(cache_dir).map_err(unwritable)?;
        let mut writer = BufWriter::with_capacity(1 << 20, temporary);
        writer.write_all(&[b' '; HEADER]).map_err(unwritable)?;
        let mut digest = Sha256::new();
        let content = build(framing, recordings, |frames| {
            let bytes: Vec<u8> = frames.iter().flat_map(|count| count.to_le_bytes()).collect();
            digest.update(&bytes);
            writer.write_all(&bytes).map_err(unwritable)
        })?;
        let Content { data_hash, verified } = &content;
        let header = format!("{MAGIC}\n{key}\n{data_hash}\n{verified}\n{}\n", hex(&digest.finalize()));
        writer.seek(SeekFrom::Start(0)).map_err(unwritable)?;
        writer.write_all(header.as_bytes()).map_err(unwritable)?;
        let temporary = writer.into_inner().map_err(|error| unwritable(error.into_error()))?;
        temporary.as_file().sync_all().map_err(unwritable)?;
        temporary.persist(&path).map_err(|error| unwritable(error.error))?;
        Self::from_cache(&path, framing, content)
    }

    #[cfg(unix)]
    fn from_cache(path: &Path, framing: Framing, content: Content) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("opening {}", path.display()))?;
        Ok(Self { place: Place::File(file), stored_len: framing.stored_len(), content })
    }

    #[cfg(not(unix))]
    fn from_cache(path: &Path, framing: Framing, content: Content) -> Result<Self> {
        let bytes = std::fs::read(path).with_context(|| format!("reading {}", path.display()))?;
        let stored = bytes[HEADER..].chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
        Ok(Self { place: Place::Memory(stored), stored_len: framing.stored_len(), content })
    }

    /// Gives the frames of recording `index` to `with`.
    pub fn with_frames<R>(&self, index: usize, with: impl FnOnce(&[u16]) -> R) -> Result<R> {
        match &self.place {
            Place::Memory(stored) => Ok(with(&stored[index * self.stored_len..][..self.stored_len])),
            #[cfg(unix)]
            Place::File(file) => {
                use std::os::unix::fs::FileExt;
                let bytes_each = self.stored_len * 2;
                let mut bytes = vec![0; bytes_each];
                file.read_exact_at(&mut bytes, (HEADER + index * bytes_each) as u64)
                    .map_err(|error| data(format!("the frame cache was changed while in use: {error}; start again")))?;
                let counts: Vec<u16> =
                    bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
                Ok(with(&counts))
            }
        }
    }
}

/// Frames all recordings in order; returns what they are.
fn build(framing: Framing, recordings: &impl Recordings, mut put: impl FnMut(&[u16]) -> Result<()>) -> Result<Content> {
    let (mut hasher, mut verified) = (Sha256::new(), true);
    let indices: Vec<usize> = (0..recordings.len()).collect();
    for chunk in indices.chunks(CHUNK) {
        let framed: Vec<([u8; 32], Vec<u16>)> = chunk
            .par_iter()
            .map(|&index| {
                let (digest, events) = recordings.read(index)?;
                Ok((digest, framing.build(&events, &recordings.name(index))?))
            })
            .collect::<Result<_>>()?;
        for (index, (digest, frames)) in chunk.iter().zip(framed) {
            hasher.update(digest);
            verified &= recordings.is_official(*index, &digest);
            put(&frames)?;
        }
    }
    Ok(Content { data_hash: short_hash(hasher), verified })
}

/// The content of a cache that is there, has this key, and is whole to the last bit; `None` if there is none.
fn open_cache(path: &Path, key: &str, payload: usize) -> Result<Option<Content>> {
    let Ok(file) = File::open(path) else { return Ok(None) };
    let length = file.metadata()?.len();
    anyhow::ensure!(length == (HEADER + payload) as u64, "the cache has {length} bytes, not {}", HEADER + payload);
    let mut reader = BufReader::with_capacity(1 << 20, file);
    let mut header = [0; HEADER];
    reader.read_exact(&mut header)?;
    let header = String::from_utf8_lossy(&header);
    let mut lines = header.lines();
    let [magic, found, data_hash, verified, digest] = std::array::from_fn(|_| lines.next().unwrap_or(""));
    anyhow::ensure!((magic, found) == (MAGIC, key), "the cache is of other recordings");
    anyhow::ensure!(digest_of::<Sha256>(reader)? == digest, "the cache is damaged");
    Ok(Some(Content { data_hash: data_hash.to_string(), verified: verified == "true" }))
}
