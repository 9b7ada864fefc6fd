//! Throughput goals, as measured by `bench data`. Run by hand on a quiet machine:
//! `cargo test -p harness --test data bench -- --ignored --nocapture`.

use crate::{data_config, shared};
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::data::frames::Framing;
use harness::data::{Integration, bench};

#[test]
fn a_measurement_counts_what_it_loads() {
    let config =
        data_config("dataset = 'sign-digits'\nsplit = 'students'\nsize = 32\naugment = ['crop4', 'autoaugment']");
    let measured = bench::batches(&config, None, None, 16, 2, Duration::from_millis(50)).unwrap();
    assert!(measured.images >= 16 && measured.images_per_second > 0.0);
    assert!((measured.images_per_second * measured.seconds / measured.images as f64 - 1.0).abs() < 1e-9);
}

#[test]
#[ignore = "a measurement; run by hand on a quiet machine"]
fn throughput() {
    let Some(root) = shared("throughput", "") else { return };
    let cifar =
        |augment| data_config(&format!("dataset = 'cifar10'\nsplit = 'official'\nsize = 32\naugment = {augment}"));
    let second = Duration::from_secs(3);
    let folder = root.join("cifar10-subset");
    for augment in ["['crop4', 'flip', 'cutout16']", "['crop4', 'flip', 'autoaugment', 'cutout16']"] {
        let measured = bench::batches(&cifar(augment), None, Some(&folder), 128, 2, second).unwrap();
        println!("{}", serde_json::to_string(&measured).unwrap());
    }
    let imagenet =
        data_config("dataset = 'imagenet'\nsplit = 'official'\nsize = 224\naugment = ['random-resized-crop', 'flip']");
    // The full-size images have no val folder: lend them the training folder.
    let lent = tempfile::tempdir().unwrap();
    for name in ["train", "val"] {
        #[cfg(unix)]
        std::os::unix::fs::symlink(root.join("imagenet/full/train"), lent.path().join(name)).unwrap();
    }
    for workers in [1, 2] {
        let measured = bench::batches(&imagenet, None, Some(lent.path()), 8, workers, second).unwrap();
        println!("{}", serde_json::to_string(&measured).unwrap());
    }
    let folder = root.join("events/real_aedat2/dvs128_alex");
    let files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    let files: Vec<&Path> = files.iter().map(PathBuf::as_path).collect();
    let framing = Framing { time_steps: 10, integration: Integration::Number, size: 128, resize: None };
    println!("{}", serde_json::to_string(&bench::recordings(&files, framing, second).unwrap()).unwrap());
}
