//! The data sets and event streams, whole and broken: one binary, since every binary links the whole harness.
#![allow(clippy::unwrap_used)] // A test that cannot go on should stop.

mod bench;
mod cifar;
mod cifar10_dvs;
mod commands;
mod config;
mod events;
mod fetch;
mod fuzz_smoke;
mod imagenet;
mod open;

use harness::data::DataConfig;
use std::path::{Path, PathBuf};

/// CIFAR-10's files.
const BATCHES: [&str; 6] = [
    "data_batch_1.bin",
    "data_batch_2.bin",
    "data_batch_3.bin",
    "data_batch_4.bin",
    "data_batch_5.bin",
    "test_batch.bin",
];

/// `[data]` of a suite.
fn data_config(text: &str) -> DataConfig {
    toml::from_str(text).unwrap()
}

/// A path in the shared data, or `None` (printing the test's name) where it is absent.
fn shared(test: &str, path: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data").join(path);
    if !path.exists() {
        println!("{test}: skipped, {} is absent", path.display());
        return None;
    }
    Some(path)
}

/// What a command prints, and its error.
fn printed(command: impl FnOnce(&mut Vec<u8>) -> anyhow::Result<()>) -> (String, Option<anyhow::Error>) {
    let mut out = Vec::new();
    let error = command(&mut out).err();
    (String::from_utf8(out).unwrap(), error)
}
