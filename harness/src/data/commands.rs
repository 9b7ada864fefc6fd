//! `harness data list|path|fetch|verify|inspect`: what they print goes to `out`.

use std::io::Write;
use std::path::Path;

use anyhow::Result;
use serde::Serialize;

pub use super::catalog::parse as parse_mirrors;
use super::catalog::{self, Entry};
pub use super::fetch::{FetchOptions, fetch_entry};
use super::image_dataset::Pixels;
pub use super::verify::verify_entry;
use super::{DatasetName, aedat, cifar, locate_or_explain};
use crate::exit::data;

fn entry(dataset: DatasetName, note: &mut dyn Write) -> Result<Entry> {
    let entry = catalog::entries(note)?.into_iter().find(|entry| entry.name == dataset);
    entry.ok_or_else(|| crate::exit::usage(format!("suites/mirrors.toml has no `[[dataset]]` named `{dataset}`")))
}

/// One data set of `data list --json`.
#[derive(Serialize)]
struct Listed {
    name: DatasetName,
    title: &'static str,
    classes: usize,
    bytes: u64,
    simulated: bool,
    /// `embedded`, a path, or null.
    here: Option<String>,
    terms: String,
    home: String,
}

/// Sizes, terms, origins, and what is here: one JSON array on one line, or a table.
pub fn list(data_dir: Option<&Path>, json: bool, out: &mut dyn Write) -> Result<()> {
    let listed = |entry: Entry| Listed {
        name: entry.name,
        title: entry.name.title(),
        classes: entry.name.classes(),
        bytes: entry.bytes,
        simulated: entry.name.is_simulated(),
        here: match entry.name.is_embedded() {
            true => Some("embedded".into()),
            false => data_dir.and_then(|dir| catalog::locate(entry.name, dir)).map(|path| path.display().to_string()),
        },
        terms: entry.terms,
        home: entry.home,
    };
    let listed: Vec<Listed> = catalog::entries(&mut std::io::stderr())?.into_iter().map(listed).collect();
    if json {
        return Ok(writeln!(out, "{}", serde_json::to_string(&listed)?)?);
    }
    for set in listed {
        let here = set.here.unwrap_or_else(|| "not here".into());
        writeln!(out, "{:16} {:>9}  {here}", set.name, human(set.bytes))?;
        writeln!(out, "{:16} {:>9}  {}; {}", "", "", set.terms, set.home)?;
    }
    Ok(())
}

/// A size in bytes for people.
fn human(bytes: u64) -> String {
    match bytes {
        0 => "-".into(),
        1_000_000_000.. => format!("{:.1} GB", bytes as f64 / 1e9),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

/// Where the data set is; exit 3 if it is not there.
pub fn path(dataset: DatasetName, data_dir: Option<&Path>, out: &mut dyn Write) -> Result<()> {
    if dataset.is_embedded() {
        return Ok(writeln!(out, "embedded")?);
    }
    Ok(writeln!(out, "{}", locate_or_explain(dataset, data_dir)?.display())?)
}

/// Fetches the data set into `options.data_dir`.
pub fn fetch(dataset: DatasetName, options: &FetchOptions, out: &mut dyn Write) -> Result<()> {
    let entry = entry(dataset, out)?;
    fetch_entry(&entry, options, out)
}

/// Checks every file of the data set; exit 3 if one is bad.
pub fn verify(dataset: DatasetName, data_dir: Option<&Path>, out: &mut dyn Write) -> Result<()> {
    let entry = entry(dataset, &mut std::io::stderr())?;
    if dataset.is_embedded() {
        return verify_entry(&entry, None, out);
    }
    verify_entry(&entry, Some(&locate_or_explain(dataset, data_dir)?), out)
}

/// What `data inspect` says of a CIFAR batch file.
#[derive(Serialize)]
struct Batch {
    format: DatasetName,
    records: usize,
    /// Records of each class (CIFAR-100: fine).
    histogram: Vec<usize>,
}

/// What is in one recording (`.aedat`) or CIFAR batch file (`.bin`): one JSON object on one line, or lines.
pub fn inspect(file: &Path, json: bool, out: &mut dyn Write) -> Result<()> {
    let name = file.display().to_string();
    let bytes = std::fs::read(file).map_err(|error| data(format!("{name} cannot be read: {error}")))?;
    let value = match cifar_format(file, &bytes) {
        Some(dataset) => {
            let mut pixels = Pixels::default();
            cifar::Format::of(dataset).parse(&name, &bytes, &mut pixels)?;
            let mut histogram = vec![0; dataset.classes()];
            pixels.labels.iter().for_each(|&label| histogram[usize::from(label)] += 1);
            serde_json::to_value(Batch { format: dataset, records: pixels.labels.len(), histogram })?
        }
        None => {
            let recording = aedat::read(&bytes, &name)?;
            recording.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
            serde_json::to_value(recording.summary())?
        }
    };
    if json {
        return Ok(writeln!(out, "{value}")?);
    }
    for (key, value) in value.as_object().into_iter().flatten() {
        writeln!(out, "{key}: {value}")?;
    }
    Ok(())
}

/// The CIFAR format of a `.bin` file, by its name, else by its size; `None` for anything else.
fn cifar_format(file: &Path, bytes: &[u8]) -> Option<DatasetName> {
    let name = file.file_name()?.to_str()?;
    if name == "train.bin" || name == "test.bin" {
        return Some(DatasetName::Cifar100);
    }
    if name.starts_with("data_batch") || name.starts_with("test_batch") {
        return Some(DatasetName::Cifar10);
    }
    let fits = |dataset| bytes.len().is_multiple_of(cifar::Format::of(dataset).record_bytes());
    let known = [DatasetName::Cifar10, DatasetName::Cifar100].into_iter().find(|&dataset| fits(dataset));
    known.filter(|_| name.ends_with(".bin") && !bytes.is_empty())
}
