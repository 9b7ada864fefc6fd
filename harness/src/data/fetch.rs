//! `harness data fetch`: archives from their mirrors, or from a copy, into a data folder.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::DatasetName;
use super::catalog::{Archive, Entry, RECORDINGS_PER_CLASS as PER_CLASS, layout, locate};
use super::download::{Downloader, check};
use super::sums::{SUMS, is_marked, marker};
use super::unpack::unpack;
use crate::exit::{data, usage};

/// The `--from` that means candle-datasets' hub.
const HUB: &str = "hub";

/// Where `fetch` may look.
#[derive(Clone, Debug)]
pub struct FetchOptions {
    /// The data folder.
    pub data_dir: PathBuf,
    /// In place of the mirrors: a file, a folder of files, a URL (ending in `/` for several), or `hub`.
    pub from: Option<String>,
    /// Use only what is on this machine.
    pub offline: bool,
    /// Wait between fruitless tries of a mirror; grows with each.
    pub pause: Duration,
}

/// Fetches, checks and unpacks the archives of `entry`. ImageNet cannot be fetched: says how to get it.
pub fn fetch_entry(entry: &Entry, options: &FetchOptions, out: &mut dyn Write) -> Result<()> {
    if entry.name.is_embedded() {
        return Ok(writeln!(out, "{} is embedded: there is nothing to fetch", entry.name)?);
    }
    if entry.name == DatasetName::ImageNet {
        return Ok(out.write_all(imagenet_instructions(entry, &options.data_dir).as_bytes())?);
    }
    let folder = &options.data_dir;
    std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
    writeln!(out, "{}: terms of use: {}", entry.name.title(), entry.terms)?;
    if options.from.as_deref() == Some(HUB) {
        return fetch_from_hub(entry, options, out);
    }
    let downloader = Downloader::new(options.pause);
    for archive in &entry.archives {
        if let Some(done) = unpacked(entry, archive, folder) {
            writeln!(out, "{} is here already", done.display())?;
            continue;
        }
        let (path, is_ours) = obtain(archive, entry.archives.len(), options, &downloader, out)?;
        install(archive, &path, folder)?;
        if is_ours {
            std::fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    let shown = locate(entry.name, folder);
    let shown = shown.ok_or_else(|| {
        let (name, layout) = (entry.name, layout(entry.name));
        data(format!("the archives of {name} were unpacked, but {layout} is not among their files"))
    })?;
    Ok(writeln!(out, "{} is complete in {}", entry.name, shown.display())?)
}

/// CIFAR-10 through candle-datasets, taken only if the files it makes are the official ones.
#[cfg(feature = "hub")]
fn fetch_from_hub(entry: &Entry, options: &FetchOptions, out: &mut dyn Write) -> Result<()> {
    if entry.name != DatasetName::Cifar10 || options.offline {
        return Err(usage("`--from hub` is for cifar10, and not with `--offline`"));
    }
    let beside = tempfile::Builder::new().prefix(".unpacking-").tempdir_in(&options.data_dir)?;
    super::hub::fetch(beside.path())?;
    super::verify::verify_entry(entry, Some(beside.path()), out)?;
    let place = options.data_dir.join("cifar-10-batches-bin");
    std::fs::rename(beside.keep(), &place).with_context(|| format!("moving {} into place", place.display()))
}

#[cfg(not(feature = "hub"))]
fn fetch_from_hub(_: &Entry, _: &FetchOptions, _: &mut dyn Write) -> Result<()> {
    Err(usage("`--from hub` needs a build with `--features hub`"))
}

/// Where the archive's files are: unpacked whole from this very archive, or laid there by hand, as many as there should be.
fn unpacked(entry: &Entry, archive: &Archive, folder: &Path) -> Option<PathBuf> {
    let marked = is_marked(archive, folder);
    let place = locate(entry.name, folder)?;
    let length = |file: &str| std::fs::metadata(place.join(file)).map_or(0, |metadata| metadata.len());
    let by_hand = match (entry.name, archive.file.strip_suffix(".zip")) {
        (DatasetName::Cifar10Dvs, Some(class)) => {
            std::fs::read_dir(place.join(class)).is_ok_and(|files| files.count() >= PER_CLASS)
        }
        _ => !entry.members.is_empty() && entry.members.iter().all(|member| length(&member.file) == member.bytes),
    };
    (marked || by_hand).then_some(place)
}

/// The archive, checked; and whether it is ours to remove.
fn obtain(
    archive: &Archive,
    archives: usize,
    options: &FetchOptions,
    downloader: &Downloader,
    out: &mut dyn Write,
) -> Result<(PathBuf, bool)> {
    let urls = match &options.from {
        Some(url) if url.starts_with("http://") || url.starts_with("https://") => {
            if options.offline {
                return Err(data(format!("`--offline` forbids fetching from {url}; give `--from FILE`")));
            }
            let many = archives > 1 || url.ends_with('/');
            vec![if many { format!("{}/{}", url.trim_end_matches('/'), archive.file) } else { url.clone() }]
        }
        Some(copy) => {
            let path = Path::new(copy);
            let path = if path.is_dir() { path.join(&archive.file) } else { path.to_path_buf() };
            if !path.is_file() {
                return Err(data(format!("--from {copy}: there is no file {}", path.display())));
            }
            check(archive, &path)
                .map_err(|what| data(format!("{} is not the official {}: {what}", path.display(), archive.file)))?;
            return Ok((path, false));
        }
        None if options.offline && !options.data_dir.join(&archive.file).exists() => {
            let folder = options.data_dir.display();
            return Err(data(format!("{} is not in {folder}, and `--offline` forbids fetching it", archive.file)));
        }
        None => archive.urls.clone(),
    };
    let was_here = options.data_dir.join(&archive.file).exists();
    Ok((downloader.get(archive, &urls, &options.data_dir, out)?, !was_here))
}

/// Unpacks beside the target and moves the folders into place when all is there.
fn install(archive: &Archive, path: &Path, folder: &Path) -> Result<()> {
    let target = folder.join(&archive.into);
    std::fs::create_dir_all(&target).with_context(|| format!("making {}", target.display()))?;
    let beside = tempfile::Builder::new().prefix(".unpacking-").tempdir_in(folder)?;
    let sums = unpack(path, beside.path())?;
    let mut lists = BTreeMap::<PathBuf, String>::new();
    for (sum, file) in &sums {
        // One list in each folder of the data set: that is what `data verify` reads.
        let mut parts = file.components();
        let first = parts.next().filter(|_| archive.into.is_empty() && parts.next().is_some());
        let root: PathBuf = first.map(|first| first.as_os_str().into()).unwrap_or_default();
        let below = file.strip_prefix(&root).unwrap_or(file);
        writeln!(lists.entry(root).or_default(), "{sum}  {}", below.display())?;
    }
    let names: Vec<_> = std::fs::read_dir(beside.path())?.map(|entry| Ok(entry?.file_name())).collect::<Result<_>>()?;
    if let Some(place) = names.iter().map(|name| target.join(name)).find(|place| place.exists()) {
        let place = place.display();
        return Err(data(format!(
            "{place} is in the way: it is there, but not whole; move it away and run this again"
        )));
    }
    for name in names {
        let place = target.join(&name);
        std::fs::rename(beside.path().join(&name), &place)
            .with_context(|| format!("moving {} into place", place.display()))?;
    }
    for (root, lines) in lists {
        let list = target.join(root).join(SUMS);
        let before = std::fs::read_to_string(&list).unwrap_or_default();
        std::fs::write(&list, before + &lines).with_context(|| format!("writing {}", list.display()))?;
    }
    std::fs::write(marker(archive, folder), format!("{}\n", archive.md5))
        .with_context(|| format!("writing {}", marker(archive, folder).display()))
}

/// How to get ImageNet by hand.
fn imagenet_instructions(entry: &Entry, folder: &Path) -> String {
    let mut text = format!(
        "ImageNet may not be passed on: its owners give it to those who register ({}).\nTerms of use: {}.\n\n\
         1. Register there and download:\n",
        entry.home, entry.terms
    );
    for archive in &entry.archives {
        let _ = writeln!(text, "     {}  ({} bytes, MD5 {})", archive.file, archive.bytes, archive.md5);
    }
    let root = folder.join("imagenet");
    let root = root.display();
    let _ = write!(
        text,
        "     ILSVRC2012_devkit_t12.tar.gz  (for the labels of the validation images)\n\n\
         2. Unpack them so:\n     \
         mkdir -p {root}/train {root}/val\n     \
         tar -xf ILSVRC2012_img_train.tar -C {root}/train\n     \
         for t in {root}/train/*.tar; do mkdir \"${{t%.tar}}\" && tar -xf \"$t\" -C \"${{t%.tar}}\" && rm \"$t\"; done\n     \
         tar -xf ILSVRC2012_img_val.tar -C {root}/val\n     \
         tar -xf ILSVRC2012_devkit_t12.tar.gz -C {root}\n\n\
         3. `harness data verify imagenet --data-dir {}`\n",
        folder.display()
    );
    text
}
